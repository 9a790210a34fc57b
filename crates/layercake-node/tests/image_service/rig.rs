//! A node's image service in a directory and a cgroup of its own, with images to run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use layercake_node::image::{
    Digest, ImageLine, ImageService, ImageSpec, Kernel, Linux, Observation, ServiceConfig,
    mounts_below,
};
use layercake_node::monitor::LogLimits;
use tokio::sync::mpsc::Receiver;

use crate::server::Server;

/// Longer than anything here takes, even on a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What one running container consists of: mounts of image, scratch and root, a loop device, a
/// cgroup, and a monitor that has the log open.
pub(crate) const OBJECTS_OF_ONE: usize = 6;

pub(crate) struct Rig {
    dir: tempfile::TempDir,
    cgroup: PathBuf,
    pub(crate) server: Server,
}

/// An image that a server offers.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let dir = tempfile::Builder::new().prefix("layercake-test-").tempdir().unwrap();
        let cgroup = cgroup2_mount().join(dir.path().file_name().unwrap());
        Self { dir, cgroup, server: Server::start().await }
    }

    pub(crate) fn state_root(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn config(&self) -> ServiceConfig {
        let resolv_conf = self.dir.path().join("resolv.conf");
        fs::write(&resolv_conf, "nameserver 192.0.2.53\n").unwrap();
        ServiceConfig {
            state_root: self.state_root(),
            cgroup_root: self.cgroup.clone(),
            program: env!("CARGO_BIN_EXE_layercake-node").into(),
            image_base: self.server.base(),
            resolv_conf,
            machine_id: layercake_node::image::machine_id("lab", "n1"),
            addresses: vec!["10.7.0.11".parse().unwrap()],
            log_limits: LogLimits::default(),
            on_progress: Arc::new(|_| {}),
        }
    }

    pub(crate) fn service(&self) -> ImageService {
        self.service_on(Arc::new(Linux))
    }

    pub(crate) fn service_on(&self, kernel: Arc<dyn Kernel>) -> ImageService {
        ImageService::open_on(self.config(), kernel).unwrap()
    }

    /// An image with a static busybox and a file that says which image it is; the server has it.
    pub(crate) fn image(&self, version: &str) -> Image {
        self.image_with(version, |_| {})
    }

    pub(crate) fn image_with(&self, version: &str, furnish: impl FnOnce(&Path)) -> Image {
        let root = self.dir.path().join(format!("root-{version}"));
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("install busybox-static");
        symlink("busybox", root.join("bin/sh")).unwrap();
        fs::write(root.join("version"), format!("{version}\n")).unwrap();
        furnish(&root);
        let file = self.dir.path().join(format!("{version}.squashfs"));
        let made = Command::new("mksquashfs")
            .args([&root, &file])
            .args(["-quiet", "-no-progress", "-noappend", "-noI", "-noD", "-noF", "-noX"])
            .output()
            .expect("install squashfs-tools");
        assert!(made.status.success(), "mksquashfs: {}", String::from_utf8_lossy(&made.stderr));
        let bytes = fs::read(&file).unwrap();
        let image = Image { digest: digest_of(&bytes), size: bytes.len() as u64 };
        self.server.offer(image.digest, bytes);
        image
    }

    /// Everything in the kernel that belongs to this rig, in words.
    pub(crate) fn kernel_objects(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let below = |dir: &Path| mounts_below(dir).unwrap();
        found.extend(below(self.dir.path()).iter().map(|at| format!("mount {}", at.display())));
        for entry in fs::read_dir("/sys/block").unwrap() {
            let file = entry.unwrap().path().join("loop/backing_file");
            let backing = fs::read_to_string(file).unwrap_or_default();
            if Path::new(backing.trim()).starts_with(self.dir.path()) {
                found.push(format!("loop device of {}", backing.trim()));
            }
        }
        for group in subdirectories(&self.cgroup) {
            for instance in subdirectories(&group) {
                found.push(format!("cgroup {}", instance.display()));
            }
        }
        found.extend(self.processes().iter().map(|pid| format!("process {pid}")));
        found
    }

    /// Processes that have a file of this rig open: monitors and containers.
    fn processes(&self) -> Vec<String> {
        let own = std::process::id().to_string();
        let mut found = Vec::new();
        for process in subdirectories(Path::new("/proc")) {
            let pid = process.file_name().unwrap().to_str().unwrap().to_owned();
            let fds = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            let has_ours = |fd: fs::DirEntry| {
                fs::read_link(fd.path()).is_ok_and(|file| file.starts_with(self.dir.path()))
            };
            let is_process = pid.bytes().all(|digit| digit.is_ascii_digit());
            if is_process && pid != own && fds.into_iter().any(has_ours) {
                found.push(pid);
            }
        }
        found
    }

    /// Waits until nothing in the kernel belongs to this rig: the last parts of a container go
    /// when the kernel has taken its namespaces apart.
    pub(crate) async fn wait_until_nothing_is_left(&self) {
        self.wait_for_objects(0).await;
    }

    pub(crate) async fn wait_for_objects(&self, count: usize) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = self.kernel_objects();
            if found.len() == count {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "expected {count}: {found:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn instance_dirs(&self) -> usize {
        let names = subdirectories(&self.state_root().join("containers"));
        names.iter().map(|name| subdirectories(name).len()).sum()
    }
}

/// A test that failed in the middle must not leave containers behind either.
impl Drop for Rig {
    fn drop(&mut self) {
        let groups: Vec<PathBuf> =
            subdirectories(&self.cgroup).iter().flat_map(|name| subdirectories(name)).collect();
        for group in &groups {
            let _ = Linux.remove_cgroup(group);
        }
        for name in subdirectories(&self.cgroup) {
            let _ = fs::remove_dir(name);
        }
        let _ = fs::remove_dir(&self.cgroup);
        for at in mounts_below(self.dir.path()).unwrap_or_default() {
            let _ = Linux.unmount(&at);
        }
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Where cgroup2 is mounted: `/sys/fs/cgroup`, or `unified` in it beside the old hierarchies.
fn cgroup2_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = lines.find(|fields| fields.get(2) == Some(&"cgroup2"));
    PathBuf::from(found.expect("these tests need a mounted cgroup2")[1])
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    Digest::new(digest.as_ref().try_into().unwrap())
}

impl Image {
    pub(crate) fn run(self, name: &str, command: &[&str]) -> ImageSpec {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        ImageSpec::plain(name.parse().unwrap(), self.digest, self.size, command)
    }

    /// Runs a script.
    pub(crate) fn script(self, name: &str, script: &str) -> ImageSpec {
        self.run(name, &["/bin/sh", "-c", &format!("alias busybox=/bin/busybox; {script}")])
    }

    /// Does nothing until it is stopped.
    pub(crate) fn idle(self, name: &str) -> ImageSpec {
        self.run(name, &["/bin/busybox", "sleep", "1000000"])
    }
}

/// Waits until what the service observes is as wanted.
pub(crate) async fn wait_for(
    service: &ImageService,
    mut wanted: impl FnMut(&[Observation]) -> bool,
) -> Vec<Observation> {
    let mut changes = service.changes();
    let waiting = async {
        loop {
            changes.borrow_and_update();
            let seen = service.observe();
            if wanted(&seen) {
                return seen;
            }
            changes.changed().await.unwrap();
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(seen) => seen,
        Err(_) => panic!("what was waited for did not come: {:#?}", service.observe()),
    }
}

/// The next line of a container's output.
pub(crate) async fn next_line(lines: &mut Receiver<ImageLine>) -> String {
    let line = tokio::time::timeout(PATIENCE, lines.recv()).await;
    line.expect("no line came").unwrap().line.text
}

/// Every line up to one that says `end`.
pub(crate) async fn lines_until_end(lines: &mut Receiver<ImageLine>) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match next_line(lines).await {
            line if line == "end" => return seen,
            line => seen.push(line),
        }
    }
}

pub(crate) fn kill_9(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
