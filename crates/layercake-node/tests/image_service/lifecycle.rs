//! From a want to a running container and back.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use layercake_node::image::RestartPolicy;
use layercake_node::image::{ContainerState, Exit, ImageService, ImageSpec, ImageState, Kind};

use crate::rig::{Rig, kill_9, lines_until_end, next_line, wait_for};

#[tokio::test]
async fn an_image_runs_its_output_is_forwarded_and_nothing_is_left_when_it_is_unwanted() {
    let rig = Rig::new().await;
    let service = rig.service();
    let mut lines = service.follow_logs().unwrap();
    let script = "busybox cat /version; echo to stderr >&2; busybox sleep 1000000";
    let want = [rig.image("one").script("web", script)];
    assert_eq!(service.image_state(&want), ImageState::Idle);

    let report = service.reconcile(&want).await.unwrap();
    assert_eq!(report.fetched, [want[0].digest]);
    assert_eq!((report.started.len(), report.started[0].gap_ns), (1, None));
    assert_eq!(service.image_state(&want), ImageState::Active);
    let mut seen = [next_line(&mut lines).await, next_line(&mut lines).await];
    seen.sort();
    assert_eq!(seen, ["one", "to stderr"]);
    let observed = &service.observe()[0];
    assert_eq!((observed.state, observed.digest), (ContainerState::Running, want[0].digest));
    assert!(observed.started_unix_ms.is_some() && observed.reason.is_none());
    let root = fs::read_to_string(format!("/proc/{}/root/version", observed.pid.unwrap()));
    assert_eq!(root.unwrap(), "one\n");

    let again = service.reconcile(&want).await.unwrap();
    assert_eq!((again.kept.len(), again.started.len(), again.fetched.len()), (1, 0, 0));

    let report = service.reconcile(&[]).await.unwrap();
    assert_eq!((report.stopped.len(), report.collected.len()), (1, 1));
    assert_eq!((service.observe(), service.image_state(&[])), (vec![], ImageState::Idle));
    rig.wait_until_nothing_is_left().await;
    assert_eq!(rig.instance_dirs(), 0);
}

#[tokio::test]
async fn a_plain_program_is_confined() {
    let rig = Rig::new().await;
    let service = rig.service();
    let mut lines = service.follow_logs().unwrap();
    let script = r#"
        busybox grep CapBnd /proc/self/status | busybox tr -d '\t'
        busybox hostname
        busybox cat /etc/resolv.conf
        busybox pwd
        echo $GREETING
        echo process $$
        busybox mknod /tmp/disk b 254 0 2>/dev/null && echo made a device
        (echo 1 > /proc/sys/kernel/sysrq) 2>/dev/null && echo wrote to proc
        (echo 1 > /sys/fs/cgroup/cgroup.procs) 2>/dev/null && echo wrote to cgroup
        busybox mount -t tmpfs x /mnt 2>/dev/null && echo mounted
        busybox ls /proc/1/root/ 2>/dev/null && echo looked out
        echo x > /dev/null && echo null works
        echo kept > /written && busybox cat /written
        busybox cat /proc/keys
        echo end
        busybox sleep 1000000"#;
    let mut spec = rig.image("one").script("web", script);
    spec.hostname = Some("web-01".to_owned());
    spec.workdir = Some("/bin".to_owned());
    spec.env.insert("GREETING".to_owned(), "hello world".to_owned());
    service.reconcile(&[spec]).await.unwrap();
    let seen = lines_until_end(&mut lines).await;
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT
    // AUDIT_WRITE SETFCAP (capabilities(7), linux/capability.h)
    let expected_caps = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31];
    let mask = expected_caps.iter().fold(0_u64, |mask, bit| mask | 1 << bit);
    let expected = [
        format!("CapBnd:{mask:016x}"),
        "web-01".to_owned(),
        "nameserver 192.0.2.53".to_owned(),
        "/bin".to_owned(),
        "hello world".to_owned(),
        "process 2".to_owned(),
        "null works".to_owned(),
        "kept".to_owned(),
    ];
    assert_eq!(seen, expected);
    service.reconcile(&[]).await.unwrap();
}

/// The states that are seen one after the other until what is wanted runs.
fn states_until_active(
    service: &ImageService,
    want: &[ImageSpec],
) -> tokio::task::JoinHandle<Vec<ImageState>> {
    let (service, want, mut changes) = (service.clone(), want.to_vec(), service.changes());
    tokio::spawn(async move {
        let mut states = vec![service.image_state(&want)];
        while states.last() != Some(&ImageState::Active) {
            changes.changed().await.unwrap();
            assert!(service.observe().iter().all(|seen| seen.reason.is_none()));
            let now = service.image_state(&want);
            if states.last() != Some(&now) {
                states.push(now);
            }
        }
        states
    })
}

#[tokio::test]
async fn a_changed_image_is_swapped_with_a_short_gap() {
    let rig = Rig::new().await;
    let service = rig.service();
    let (one, two) = (rig.image("one"), rig.image("two"));
    let mut lines = service.follow_logs().unwrap();
    let script = "busybox cat /version; busybox sleep 1000000";
    service.reconcile(&[one.script("web", script)]).await.unwrap();
    assert_eq!(next_line(&mut lines).await, "one");

    let want = [two.script("web", script)];
    assert_eq!(service.image_state(&want), ImageState::Update);
    assert_eq!(service.prefetch(&want).await.unwrap(), [two.digest]);
    let states = states_until_active(&service, &want);
    let report = service.reconcile(&want).await.unwrap();
    assert_eq!(next_line(&mut lines).await, "two");
    // A swap is one step: in the middle of it nobody is told that nothing runs, or that the old failed.
    assert_eq!(states.await.unwrap(), [ImageState::Update, ImageState::Active]);
    assert!(report.fetched.is_empty());
    let started = &report.started[0];
    assert_eq!((started.digest, started.replaced), (two.digest, Some(one.digest)));
    let gap_ms = started.gap_ns.unwrap() / 1_000_000;
    assert!(gap_ms < 5_000, "the gap was {gap_ms} ms");
    // The image that ran before is kept for a quick return.
    assert_eq!(report.collected, []);
    let report = service.reconcile(&[one.script("web", script)]).await.unwrap();
    assert_eq!((report.fetched, report.started.len()), (vec![], 1));
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn several_images_run_side_by_side_and_share_what_they_can() {
    let rig = Rig::new().await;
    let service = rig.service();
    let image = rig.image("one");
    let (a, b) = (image.idle("a"), image.idle("b"));
    service.reconcile(&[a.clone(), b.clone()]).await.unwrap();
    let mounts = |objects: &[String]| objects.iter().filter(|o| o.contains("/mounts/")).count();
    assert_eq!(mounts(&rig.kernel_objects()), 1);
    service.reconcile(std::slice::from_ref(&a)).await.unwrap();
    assert_eq!(mounts(&rig.kernel_objects()), 1);
    assert_eq!(service.image_state(&[a]), ImageState::Active);
    assert_eq!(service.image_state(&[b]), ImageState::Update);
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn a_killed_main_process_is_noticed_and_started_again_when_asked() {
    let rig = Rig::new().await;
    let service = rig.service();
    let want = [rig.image("one").idle("web")];
    service.reconcile(&want).await.unwrap();
    let first = service.observe()[0].pid.unwrap();
    kill_9(first);
    let seen = wait_for(&service, |seen| seen[0].state == ContainerState::Dead).await;
    assert_eq!(seen[0].exit, Some(Exit::Signal(9)));
    assert_eq!(
        seen[0].reason.as_deref(),
        Some("the main process was killed by signal 9 (SIGKILL)")
    );
    assert_eq!((seen[0].pid, service.image_state(&want)), (None, ImageState::Error));

    let report = service.reconcile(&want).await.unwrap();
    assert_eq!((report.started[0].replaced, report.started[0].gap_ns), (None, None));
    let seen = service.observe();
    assert_eq!((seen[0].restarts, service.image_state(&want)), (1, ImageState::Active));
    assert_ne!(seen[0].pid, Some(first));
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let rig = Rig::new().await;
    let service = rig.service();
    let want = [rig.image("one").script("job", "busybox sleep 1000000 & exit 7")];
    service.reconcile(&want).await.unwrap();
    let seen = wait_for(&service, |seen| seen[0].state == ContainerState::Exited).await;
    assert_eq!(seen[0].reason.as_deref(), Some("the main process ended with status 7"));
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn a_job_that_succeeded_is_left_alone() {
    let rig = Rig::new().await;
    let service = rig.service();
    let mut job = rig.image("one").script("job", "exit 0");
    job.restart = RestartPolicy::OnFailure;
    let want = [job];
    service.reconcile(&want).await.unwrap();
    wait_for(&service, |seen| seen[0].state == ContainerState::Exited).await;
    assert_eq!(service.image_state(&want), ImageState::Active);
    assert_eq!(service.reconcile(&want).await.unwrap().kept.len(), 1);
    service.reconcile(&[]).await.unwrap();
}

#[tokio::test]
async fn a_program_that_does_not_want_to_stop_is_killed() {
    let rig = Rig::new().await;
    let service = rig.service();
    let mut lines = service.follow_logs().unwrap();
    let script = "trap '' TERM; echo ready; while :; do busybox sleep 1; done";
    let mut stubborn = rig.image("one").script("web", script);
    stubborn.stop_timeout_ms = Some(50);
    service.reconcile(&[stubborn]).await.unwrap();
    assert_eq!(next_line(&mut lines).await, "ready");
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn a_systemd_image_gets_what_systemd_asks_for() {
    let rig = Rig::new().await;
    let service = rig.service();
    let mut lines = service.follow_logs().unwrap();
    // A tiny stand-in for systemd that answers to its signal, SIGRTMIN+3.
    let init = r#"#!/bin/sh
        alias busybox=/bin/busybox
        trap 'echo halting; exit 0' 37
        exec > /dev/console 2>&1
        echo pid $$ in $container as $1
        busybox wc -c < /etc/machine-id
        busybox mkdir /sys/fs/cgroup/init.scope && echo 1 > /sys/fs/cgroup/init.scope/cgroup.procs && echo moved
        busybox mkdir /run/systemd && echo run
        echo end
        while :; do busybox sleep 1000000 & wait $!; done
    "#;
    let image = rig.image_with("os", |root| {
        fs::create_dir_all(root.join("sbin")).unwrap();
        fs::write(root.join("sbin/init"), init).unwrap();
        fs::set_permissions(root.join("sbin/init"), fs::Permissions::from_mode(0o755)).unwrap();
    });
    let mut spec = image.run("os", &["/sbin/init", "argument"]);
    spec.kind = Kind::Systemd;
    let want = [spec];
    service.reconcile(&want).await.unwrap();
    let seen = lines_until_end(&mut lines).await;
    assert_eq!(seen, ["pid 1 in layercake as argument", "33", "moved", "run"]);
    assert_eq!(service.image_state(&want), ImageState::Active);
    service.reconcile(&[]).await.unwrap();
    assert_eq!(next_line(&mut lines).await, "halting");
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn containers_survive_the_service_and_are_adopted_by_the_next() {
    let rig = Rig::new().await;
    let want = {
        let service = rig.service();
        let script = "while busybox sleep 0.05; do echo tick; done";
        let want = [rig.image("one").script("web", script)];
        service.reconcile(&want).await.unwrap();
        let pid = service.observe()[0].pid;
        (want, pid, service.observe())
    };
    let (want, pid, before) = want;
    let service = rig.service();
    assert_eq!(service.observe(), before);
    assert_eq!(service.image_state(&want), ImageState::Active);
    let mut lines = service.follow_logs().unwrap();
    assert_eq!(next_line(&mut lines).await, "tick");
    assert_eq!(service.reconcile(&want).await.unwrap().kept.len(), 1);

    kill_9(pid.unwrap());
    wait_for(&service, |seen| seen[0].state == ContainerState::Dead).await;
    drop(service);
    // A third service learns from the record how it ended.
    let service = rig.service();
    assert_eq!(service.observe()[0].exit, Some(Exit::Signal(9)));
    service.reconcile(&want).await.unwrap();
    assert_eq!(service.observe()[0].restarts, 1);
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn a_container_can_be_stopped_although_its_node_holds_signals_back() {
    // As init does, and every process that it starts would by inheritance.
    let mut held = nix::sys::signal::SigSet::empty();
    held.add(nix::sys::signal::SIGTERM);
    held.thread_block().unwrap();
    let rig = Rig::new().await;
    let service = rig.service();
    let mut spec = rig.image("one").idle("web");
    service.reconcile(std::slice::from_ref(&spec)).await.unwrap();
    spec.workdir = Some("/bin".to_owned());
    let report = service.reconcile(&[spec]).await.unwrap();
    let stop_ms = report.started[0].stop_ns.unwrap() / 1_000_000;
    assert!(stop_ms < 5_000, "it took {stop_ms} ms to stop: it was killed, not asked");
    service.reconcile(&[]).await.unwrap();
}
