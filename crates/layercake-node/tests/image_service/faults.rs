//! A kernel that fails at any step.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use layercake_node::image::{
    Attachment, ContainerState, ImageName, ImageState, Kernel, LaunchError, Launched, Linux,
};
use layercake_node::monitor::MonitorSpec;

use crate::rig::{OBJECTS_OF_ONE, Rig, wait_for};

/// The real kernel, except that one step fails.
#[derive(Default)]
struct Failing {
    /// Steps until the failure; far away when switched off.
    steps_left: AtomicU32,
    failed: AtomicBool,
}

impl Failing {
    fn step(&self) -> io::Result<()> {
        match self.steps_left.fetch_sub(1, Ordering::SeqCst) {
            1 => {
                self.failed.store(true, Ordering::SeqCst);
                Err(io::Error::from_raw_os_error(5))
            }
            _ => Ok(()),
        }
    }

    fn fail_at(&self, step: u32) {
        self.steps_left.store(step, Ordering::SeqCst);
        self.failed.store(false, Ordering::SeqCst);
    }
}

impl Kernel for Failing {
    fn attach(&self, image: &Path) -> io::Result<Attachment> {
        self.step().and_then(|()| Linux.attach(image))
    }

    fn mount_image(&self, device: &Attachment, target: &Path) -> io::Result<()> {
        self.step().and_then(|()| Linux.mount_image(device, target))
    }

    fn mount_root(&self, image: &Path, scratch: &Path, target: &Path) -> io::Result<()> {
        self.step().and_then(|()| Linux.mount_root(image, scratch, target))
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        Linux.unmount(target)
    }

    fn make_cgroup(&self, root: &Path, group: &Path) -> io::Result<()> {
        self.step().and_then(|()| Linux.make_cgroup(root, group))
    }

    fn remove_cgroup(&self, group: &Path) -> io::Result<()> {
        Linux.remove_cgroup(group)
    }

    fn launch(&self, program: &Path, spec: &MonitorSpec) -> Result<Launched, LaunchError> {
        let failed = |source| LaunchError::Monitor { step: "start", source };
        self.step().map_err(failed).and_then(|()| Linux.launch(program, spec))
    }
}

#[tokio::test]
async fn a_failure_at_any_step_leaves_the_old_running_and_nothing_of_the_new() {
    let rig = Rig::new().await;
    let kernel = Arc::new(Failing::default());
    let service = rig.service_on(Arc::clone(&kernel) as Arc<dyn Kernel>);
    let old = [rig.image("one").idle("web")];
    kernel.fail_at(u32::MAX);
    service.reconcile(&old).await.unwrap();
    let pid = service.observe()[0].pid;
    rig.wait_for_objects(OBJECTS_OF_ONE).await;
    let before = rig.kernel_objects();
    let new = [rig.image("two").idle("web")];
    let mut steps = 0;
    for step in 1.. {
        kernel.fail_at(step);
        let result = service.reconcile(&new).await;
        if !kernel.failed.load(Ordering::SeqCst) {
            result.unwrap();
            break;
        }
        let error = result.unwrap_err();
        assert!(error.reason().contains("os error 5"), "{}", error.reason());
        rig.wait_for_objects(before.len()).await;
        assert_eq!(rig.kernel_objects(), before, "after a failure at step {step}");
        assert_eq!((service.observe()[0].pid, rig.instance_dirs()), (pid, 1));
        assert_eq!(service.image_state(&new), ImageState::Error);
        steps = step;
    }
    assert_eq!(steps, 5, "attach, two mounts, cgroup and launch");
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn a_failure_at_any_step_of_one_image_keeps_no_other_from_starting() {
    let rig = Rig::new().await;
    let kernel = Arc::new(Failing::default());
    let service = rig.service_on(Arc::clone(&kernel) as Arc<dyn Kernel>);
    let want =
        [rig.image("one").idle("a"), rig.image("two").idle("b"), rig.image("three").idle("c")];
    for step in 1..=5 {
        kernel.fail_at(5 + step);
        let error = service.reconcile(&want).await.unwrap_err();
        let seen = service.observe();
        let running: Vec<&str> =
            seen.iter().filter(|s| s.is_up()).map(|s| s.name.as_str()).collect();
        assert_eq!(running, ["a", "c"], "after a failure at step {step} of b");
        let failed = error.images();
        assert_eq!(failed.keys().map(ImageName::as_str).collect::<Vec<_>>(), ["b"]);
        assert!(failed.values().all(|reason| reason.starts_with("image b: ")), "{failed:?}");
        assert_eq!(service.image_state(&want), ImageState::Error);
        // Nothing is left of what failed, and tried again it runs beside the others, which go on.
        rig.wait_for_objects(2 * OBJECTS_OF_ONE).await;
        kernel.fail_at(u32::MAX);
        let report = service.reconcile(&want).await.unwrap();
        assert_eq!((report.started.len(), report.kept.len()), (1, 2));
        assert_eq!(service.image_state(&want), ImageState::Active);
        service.reconcile(&[]).await.unwrap();
    }
    rig.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn an_image_without_its_program_is_refused_while_the_old_one_runs() {
    let rig = Rig::new().await;
    let service = rig.service();
    service.reconcile(&[rig.image("one").idle("web")]).await.unwrap();
    rig.wait_for_objects(OBJECTS_OF_ONE).await;
    let before = rig.kernel_objects();
    let new = [rig.image("two").run("web", &["/bin/httpd"])];
    let error = service.reconcile(&new).await.unwrap_err();
    assert!(error.reason().contains("cannot run the program /bin/httpd"), "{}", error.reason());
    rig.wait_for_objects(before.len()).await;
    assert_eq!(rig.kernel_objects(), before);
    assert_eq!(service.observe()[0].state, ContainerState::Running);
    service.reconcile(&[]).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_squashfs_is_refused_and_its_device_freed() {
    let rig = Rig::new().await;
    let service = rig.service();
    let bytes = vec![7; 1 << 16];
    let digest = crate::rig::digest_of(&bytes);
    let image = crate::rig::Image { digest, size: bytes.len() as u64 };
    rig.server.offer(digest, bytes);
    let error = service.reconcile(&[image.idle("web")]).await.unwrap_err();
    assert!(error.reason().contains("cannot mount the image"), "{}", error.reason());
    rig.wait_until_nothing_is_left().await;
    assert_eq!(rig.instance_dirs(), 0);
}

#[tokio::test]
async fn a_container_ends_with_its_monitor() {
    let rig = Rig::new().await;
    let service = rig.service();
    let want = [rig.image("one").idle("web")];
    service.reconcile(&want).await.unwrap();
    let status = rig.state_root().join("containers/web/1/status.json");
    let status: layercake_node::image::Status =
        layercake_node::image::read_record(&status).unwrap();
    crate::rig::kill_9(status.monitor.pid);
    let seen = wait_for(&service, |seen| seen[0].state == ContainerState::Dead).await;
    assert!(seen[0].reason.as_ref().unwrap().contains("lost together with its monitor"));
    service.reconcile(&want).await.unwrap();
    assert_eq!(service.image_state(&want), ImageState::Active);
    service.reconcile(&[]).await.unwrap();
    rig.wait_until_nothing_is_left().await;
}
