//! Why an image ended, in words.

use std::fs;
use std::path::{Path, PathBuf};

use layercake_node::image::{ContainerState, ImageState};

use crate::rig::{Rig, next_line, wait_for};

#[tokio::test]
async fn an_image_that_ends_is_told_with_its_status_and_its_last_words_also_when_it_runs_again() {
    let rig = Rig::new().await;
    let service = rig.service();
    let script = "echo reading /etc/app.conf; echo 'cannot open /etc/app.conf' >&2; exit 3";
    let want = [rig.image("one").script("web", script)];
    service.reconcile(&want).await.unwrap();
    let seen = wait_for(&service, |seen| seen[0].state == ContainerState::Exited).await;
    let reason = seen[0].reason.clone().unwrap();
    assert!(
        reason.starts_with("the main process ended with status 3; it last printed: "),
        "{reason}"
    );
    assert!(reason.contains("cannot open /etc/app.conf"), "{reason}");
    assert_eq!(seen[0].last_exit, None);
    service.reconcile(&want).await.unwrap();
    let seen = wait_for(&service, |seen| seen[0].state == ContainerState::Exited).await;
    assert_eq!((seen[0].restarts, seen[0].last_exit.as_deref()), (1, Some(reason.as_str())));
    // Another command is another story.
    let other = [rig.image("two").idle("web")];
    service.reconcile(&other).await.unwrap();
    let seen = service.observe();
    assert_eq!((seen[0].restarts, seen[0].last_exit.as_deref()), (0, None));
    service.reconcile(&[]).await.unwrap();
}

#[tokio::test]
async fn a_port_that_another_image_has_is_told_with_the_name_of_that_image() {
    let rig = Rig::new().await;
    let service = rig.service();
    let mut lines = service.follow_logs().unwrap();
    let image = rig.image("one");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // In the background, which it goes to when it has the port.
    let serve =
        format!("busybox httpd -p 127.0.0.1:{free} -h /; echo ready; busybox sleep 1000000");
    let first = image.script("first", &serve);
    service.reconcile(std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(next_line(&mut lines).await, "ready");
    let serve = format!("echo serving on {free}; exec busybox httpd -f -p 127.0.0.1:{free}");
    let second = image.script("second", &serve);
    let want = [first, second];
    service.reconcile(&want).await.unwrap();
    let seen = wait_for(&service, |seen| seen[1].state == ContainerState::Exited).await;
    let reason = seen[1].reason.clone().unwrap();
    assert!(reason.contains(&format!("; port {free} is taken by image first; ")), "{reason}");
    assert!(seen[0].is_up());
    assert_eq!(service.image_state(&want), ImageState::Error);
    service.reconcile(&[]).await.unwrap();
}

/// A limit of memory for this test and everything that it starts, and for nobody else.
struct MemoryLimit {
    group: PathBuf,
    before: PathBuf,
}

impl MemoryLimit {
    /// None where neither version of the controller can be had.
    fn new(bytes: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = |controllers: &str| {
            own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                (fields.next()? == controllers).then(|| fields.next())?
            })
        };
        let (root, path, file) = match (path("memory"), path("")) {
            (Some(path), _) => ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
            (None, Some(path)) => ("/sys/fs/cgroup", path, "memory.max"),
            (None, None) => return None,
        };
        let before = Path::new(root).join(path.trim_start_matches('/'));
        let group = Path::new(root).join(format!("node-memory-{}", std::process::id()));
        fs::create_dir(&group).ok()?;
        let limit = Self { group, before };
        fs::write(limit.group.join(file), bytes.to_string()).ok()?;
        fs::write(limit.group.join("cgroup.procs"), "0").ok()?;
        Some(limit)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let _ = fs::write(self.before.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.group);
    }
}

#[tokio::test]
async fn an_image_that_the_kernel_kills_for_lack_of_memory_is_told_as_that() {
    let rig = Rig::new().await;
    let image = rig.image("one");
    let Some(limit) = MemoryLimit::new(256 << 20) else {
        panic!("no memory controller to test with")
    };
    let service = rig.service();
    // The memory of a program itself, not of a file: a string that doubles.
    let want = [image.script("hog", "x=0123456789abcdef; while :; do x=$x$x; done")];
    service.reconcile(&want).await.unwrap();
    let seen = wait_for(&service, |seen| !seen[0].is_up()).await;
    let reason = seen[0].reason.clone().unwrap();
    assert!(reason.starts_with("out of memory: the kernel killed "), "{reason}");
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
    drop(limit);
}
