//! Images of one node that have nothing to do with each other.

use layercake_node::image::{ImageName, ImageService, ImageSpec, ImageState, Observation};

use crate::rig::{Image, Rig, digest_of, wait_for};

fn running(service: &ImageService) -> Vec<String> {
    let seen = service.observe();
    seen.iter().filter(|seen| seen.is_up()).map(|seen| seen.name.to_string()).collect()
}

#[tokio::test]
async fn one_bad_image_keeps_five_good_ones_neither_from_starting_nor_from_being_changed() {
    let rig = Rig::new().await;
    let service = rig.service();
    let good = rig.image("good");
    let missing = Image { digest: digest_of(b"nobody has it"), size: 13 };
    let noise = vec![7; 1 << 16];
    let no_squashfs = Image { digest: digest_of(&noise), size: noise.len() as u64 };
    rig.server.offer(no_squashfs.digest, noise);
    let foreign = rig.image_with("foreign", |root| {
        // The head of a program for a Siemens TriCore, which is no node of anybody.
        let mut elf = std::fs::read(root.join("bin/busybox")).unwrap();
        elf[0x12] = 44;
        std::fs::copy("/bin/busybox", root.join("bin/mode")).unwrap();
        std::fs::write(root.join("bin/mode"), elf).unwrap();
        std::fs::write(root.join("bin/data"), "").unwrap();
    });
    let mut refused = good.idle("refused");
    refused.refusal = Some("it is built for a PDP-11".to_owned());
    let no_command = ImageSpec { command: Vec::new(), ..good.idle("nothing") };
    let goods = ["a", "b", "c", "d", "e"];
    let mut want: Vec<ImageSpec> = goods.iter().map(|name| good.idle(name)).collect();
    want.extend([
        missing.idle("missing"),
        no_squashfs.idle("noise"),
        foreign.run("foreign", &["/bin/mode"]),
        good.run("httpd", &["/bin/httpd"]),
        foreign.run("data", &["/bin/data"]),
        refused,
        no_command,
    ]);
    let error = service.reconcile(&want).await.unwrap_err();
    assert_eq!(running(&service), goods);
    let failed = error.images();
    let why = |name: &str| failed[&name.parse::<ImageName>().unwrap()].as_str();
    assert_eq!(failed.len(), 7, "{failed:?}");
    for (name, words) in [
        ("missing", "answers 404"),
        ("noise", "cannot mount the image"),
        (
            "foreign",
            "cannot run the program /bin/mode: it is built for ELF machine 44, and this node is ",
        ),
        ("httpd", "cannot run the program /bin/httpd: the image has no such file"),
        ("data", "cannot run the program /bin/data: the file is not marked as executable"),
        ("refused", "it is built for a PDP-11"),
        ("nothing", "a plain image needs a program"),
    ] {
        assert!(why(name).contains(words), "{name}: {}", why(name));
        assert!(error.reason().contains(words), "{}", error.reason());
    }
    assert_eq!(service.image_state(&want), ImageState::Error);
    assert_eq!(service.last_failure().unwrap().images, failed);

    for spec in want.iter_mut().take(2) {
        spec.workdir = Some("/bin".to_owned());
    }
    let before = service.observe();
    service.reconcile(&want).await.unwrap_err();
    let after = service.observe();
    let is_same = |index: usize| before[index].pid == after[index].pid;
    assert_eq!((0..5).map(is_same).collect::<Vec<_>>(), [false, false, true, true, true]);
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn an_image_is_not_stopped_for_one_that_cannot_take_its_place() {
    let rig = Rig::new().await;
    let service = rig.service();
    let good = rig.image("good");
    let (web, mon) = (good.idle("web1"), good.run("mon", &["/bin/none"]));
    service.reconcile(&[web, mon.clone()]).await.unwrap_err();
    assert_eq!(running(&service), ["web1"]);
    // Its successor fails: it runs on, and that is said.
    let bad = [good.run("web2", &["/bin/none"]), mon.clone()];
    let error = service.reconcile(&bad).await.unwrap_err();
    assert_eq!(running(&service), ["web1"]);
    assert!(error.reason().contains("what it may replace runs on: web1"), "{}", error.reason());
    // The other one that fails has nothing to do with it.
    let error = service.reconcile(&[good.idle("web2"), mon.clone()]).await.unwrap_err();
    assert_eq!(running(&service), ["web2"]);
    assert!(!error.reason().contains("runs on"), "{}", error.reason());
    service.reconcile(std::slice::from_ref(&mon)).await.unwrap_err();
    assert_eq!(running(&service), [""; 0]);
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}

/// The states that are seen while a want is brought about, each once.
async fn states(
    service: &ImageService,
    want: &[ImageSpec],
    asked: &[ImageSpec],
) -> Vec<ImageState> {
    let (watched, asked, mut changes) = (service.clone(), asked.to_vec(), service.changes());
    let mut states = vec![service.image_state(&asked)];
    let (ended, mut end) = tokio::sync::oneshot::channel::<()>();
    let watch = tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                changed = changes.changed() => changed.unwrap(),
                _ = &mut end => break,
            }
            states.push(watched.image_state(&asked));
        }
        states.push(watched.image_state(&asked));
        states.dedup();
        states
    });
    service.reconcile(want).await.unwrap();
    ended.send(()).unwrap();
    watch.await.unwrap()
}

#[tokio::test]
async fn starting_swapping_and_stopping_are_one_step_each_whatever_the_images_are_called() {
    use ImageState::{Active, Idle, Update};
    let rig = Rig::new().await;
    let service = rig.service();
    let (one, two) = (rig.image("one"), rig.image("two"));
    let first = [one.idle("a"), one.idle("b"), two.idle("c")];
    let second = [two.idle("x"), two.idle("c"), two.idle("y")];
    assert_eq!(states(&service, &first, &first).await, [Idle, Active]);
    assert_eq!(states(&service, &second, &second).await, [Update, Active]);
    assert_eq!(states(&service, &[], &[]).await, [Update, Idle]);
    assert_eq!(states(&service, &first, &first).await, [Idle, Active]);
    // Cfg still names them when the node is switched off, and they are to stop all the same.
    assert_eq!(states(&service, &[], &first).await, [Active, Idle]);
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn a_step_that_nobody_waits_for_any_more_hides_nothing() {
    let rig = Rig::new().await;
    let service = rig.service();
    let script = "trap '' TERM; while :; do busybox sleep 0.05; done";
    let mut stubborn = rig.image("one").script("web", script);
    stubborn.stop_timeout_ms = Some(3_000);
    let want = [stubborn];
    service.reconcile(&want).await.unwrap();
    let mut changes = service.changes();
    let (stopping, none) = (service.clone(), Vec::new());
    let step = tokio::spawn(async move { stopping.reconcile(&none).await });
    while service.observe()[0].is_up() {
        changes.changed().await.unwrap();
    }
    assert_eq!(service.image_state(&want), ImageState::Active);
    step.abort();
    assert!(step.await.unwrap_err().is_cancelled());
    assert_eq!(service.image_state(&want), ImageState::Error, "it is being stopped");
    service.close().await;
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn to_start_an_image_again_changes_none_that_runs() {
    let rig = Rig::new().await;
    let service = rig.service();
    let (one, two) = (rig.image("one"), rig.image("two"));
    let mon = two.script("mon", "exit 1");
    service.reconcile(&[one.idle("web"), one.idle("old"), mon.clone()]).await.unwrap();
    let ended = |seen: &[Observation]| seen.iter().any(|seen| seen.exit.is_some());
    wait_for(&service, ended).await;
    let pids = || {
        let others = service.observe().into_iter().filter(|seen| seen.name.as_str() != "mon");
        others.map(|seen| (seen.name, seen.pid)).collect::<Vec<_>>()
    };
    let before = pids();
    // While it is down, something else is wanted of the others, which is another step.
    let want = [two.idle("web"), mon];
    assert_eq!(service.image_state(&want), ImageState::Error);
    service.restart(&want).await.unwrap();
    assert_eq!(pids(), before);
    let mon = service.observe().into_iter().find(|seen| seen.name.as_str() == "mon").unwrap();
    assert_eq!(mon.restarts, 1);
    service.reconcile(&want).await.unwrap();
    assert_eq!(running(&service).iter().filter(|name| *name != "mon").collect::<Vec<_>>(), ["web"]);
    // A change that had begun and failed is gone on with.
    let bad = [two.run("web", &["/bin/none"])];
    service.reconcile(&bad).await.unwrap_err();
    let reason = service.restart(&bad).await.unwrap_err().reason();
    assert!(reason.contains("the image has no such file"), "{reason}");
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}
