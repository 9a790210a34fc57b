//! The QEMU driver against real machines, emulated, without disk: their firmware is enough to be on.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use layercake_power::qmp::Connection;
use layercake_power::{
    Console, Machine, Off, PowerDriver, PowerError, PowerState, QemuConfig, QemuHost, QemuMachine,
    watch,
};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

const AMPLE: Duration = Duration::from_secs(60);

/// A run directory of this test; whatever machine is still on at the end is ended by its process id.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn host(&self) -> QemuHost {
        QemuHost::new(self.dir.path().join("machines")).unwrap()
    }

    /// As a server process that has just started would see the machine.
    fn machine(&self, name: &str) -> Arc<QemuMachine> {
        self.machine_of(&self.host(), name)
    }

    fn machine_of(&self, host: &QemuHost, name: &str) -> Arc<QemuMachine> {
        let config = serde_json::from_str(r#"{"memory": 256, "accel": "tcg"}"#).unwrap();
        let machine = Machine::new(name.parse().unwrap(), None, &config).unwrap();
        Arc::new(host.machine(machine).unwrap())
    }

    fn file(&self, machine: &str, file: &str) -> PathBuf {
        self.host().run_dir().join(machine).join(file)
    }

    fn pid(&self, machine: &str) -> i32 {
        fs::read_to_string(self.file(machine, "pid")).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.host().machines().unwrap_or_default() {
            let pid_file = self.file(name.as_str(), "pid");
            let Ok(pid) = fs::read_to_string(&pid_file) else { continue };
            let command = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&*pid_file.to_string_lossy()) {
                kill(pid.trim().parse().unwrap());
            }
        }
    }
}

fn kill(pid: i32) {
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(killed.success() || killed.signal().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_outlives_its_driver_and_is_found_again() {
    let lab = Lab::new();
    let first = lab.machine("n1");
    assert_eq!(first.status().await.unwrap(), PowerState::Off);
    first.on().await.unwrap();
    let pid = lab.pid("n1");
    assert_eq!(first.status().await.unwrap(), PowerState::On);
    first.on().await.unwrap();
    assert_eq!(lab.pid("n1"), pid, "switching on twice made a second machine");
    drop(first);

    let second = lab.machine("n1");
    assert_eq!(second.status().await.unwrap(), PowerState::On);
    second.cycle().await.unwrap();
    assert_ne!(lab.pid("n1"), pid, "a cold start needs a new process");
    assert_eq!(second.status().await.unwrap(), PowerState::On);
    second.off(Off::Hard).await.unwrap();
    assert_eq!(second.status().await.unwrap(), PowerState::Off);
    second.off(Off::Hard).await.unwrap();
    assert!(!lab.file("n1", "pid").exists() && !lab.file("n1", "qmp.sock").exists());
    assert_eq!(lab.host().machines().unwrap(), ["n1".parse().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_switch_on_at_once_get_one_machine() {
    let lab = Lab::new();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let machine = lab.machine("n1");
            tokio::spawn(async move { machine.on().await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let pid_file = lab.file("n1", "pid").to_string_lossy().into_owned();
    let running = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok())
        .filter(|command| String::from_utf8_lossy(command).contains(&pid_file))
        .count();
    assert_eq!(running, 1);
    lab.machine("n1").off(Off::Hard).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_machine_is_noticed_within_a_second_and_starts_again() {
    let lab = Lab::new();
    let machine = lab.machine("n1");
    machine.on().await.unwrap();
    // Polling is out of the picture: what is noticed is noticed at once.
    let mut watch = watch(machine.clone(), Duration::from_secs(3600));
    assert_eq!(watch.next().await.unwrap().unwrap(), PowerState::On);
    let killed_at = Instant::now();
    kill(lab.pid("n1"));
    assert_eq!(watch.next().await.unwrap().unwrap(), PowerState::Off);
    let noticed = killed_at.elapsed();
    assert!(noticed < Duration::from_secs(1), "noticed after {noticed:?}");
    assert!(!lab.file("n1", "pid").exists(), "stale files were left");

    machine.on().await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap(), PowerState::On);
    machine.off(Off::Hard).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap(), PowerState::Off);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_machine_hangs_and_the_watcher_says_so_at_once() {
    let lab = Lab::new();
    let machine = lab.machine("n1");
    machine.on().await.unwrap();
    let mut watch = watch(machine.clone(), Duration::from_secs(3600));
    assert_eq!(watch.next().await.unwrap().unwrap(), PowerState::On);
    let mut qmp = Connection::open(&lab.file("n1", "qmp.sock"), AMPLE).await.unwrap();
    qmp.execute("stop", AMPLE).await.unwrap();
    drop(qmp);
    assert_eq!(watch.next().await.unwrap().unwrap(), PowerState::Hang);
    machine.off(Off::Hard).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap(), PowerState::Off);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ignores_the_power_button_is_switched_off_at_the_deadline() {
    let lab = Lab::new();
    let machine = lab.machine("n1");
    machine.on().await.unwrap();
    let asked_at = Instant::now();
    let deadline = Duration::from_millis(400);
    machine.off(Off::Graceful { deadline }).await.unwrap();
    assert!(asked_at.elapsed() >= deadline);
    assert_eq!(machine.status().await.unwrap(), PowerState::Off);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_socket_that_hangs_costs_its_own_machine_a_deadline_and_is_switched_off() {
    let lab = Lab::new();
    let host = lab.host().with_qmp_limit(Duration::from_millis(500));
    let (broken, healthy) = (lab.machine_of(&host, "broken"), lab.machine("healthy"));
    broken.on().await.unwrap();
    healthy.on().await.unwrap();
    let pid = lab.pid("broken");
    let socket = lab.file("broken", "qmp.sock");
    fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let dripper = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while stream.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
    });
    let asked_at = Instant::now();
    let (failed, fine) = tokio::join!(broken.status(), healthy.status());
    assert!(matches!(failed, Err(PowerError::Qmp { .. })), "{failed:?}");
    assert_eq!(fine.unwrap(), PowerState::On);
    assert!(asked_at.elapsed() < Duration::from_secs(5));
    let mut watch = watch(broken.clone(), Duration::from_secs(3600));
    assert!(watch.next().await.unwrap().is_err());
    broken.off(Off::Hard).await.unwrap();
    // Not the answer but the end of the process told the watcher.
    assert_eq!(watch.next().await.unwrap().unwrap(), PowerState::Off);
    assert!(!fs::exists(format!("/proc/{pid}/fd/0")).unwrap());
    healthy.off(Off::Hard).await.unwrap();
    dripper.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_keeps_what_the_firmware_said() {
    let lab = Lab::new();
    let machine = lab.machine("n1");
    machine.on().await.unwrap();
    let Console { socket, log } = machine.console().await.unwrap();
    let wanted = Instant::now() + AMPLE;
    while !fs::read_to_string(&log).unwrap_or_default().contains("SeaBIOS") {
        assert!(Instant::now() < wanted, "the firmware did not speak");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::net::UnixStream::connect(socket).await.unwrap();
    machine.off(Off::Hard).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hypervisor_that_cannot_start_says_why() {
    let lab = Lab::new();
    let name = "n1".parse().unwrap();
    let config = QemuConfig { memory: 1024 * 1024, ..QemuConfig::default() };
    let greedy = lab.host().machine(Machine::new(name, None, &config).unwrap()).unwrap();
    let error = greedy.on().await.unwrap_err();
    assert!(
        matches!(&error, PowerError::Launch { said, .. } if said.contains("memory")),
        "{error}"
    );
    assert_eq!(greedy.status().await.unwrap(), PowerState::Off);

    let nowhere = lab.host().with_program("/nonexistent/qemu");
    let error = lab.machine_of(&nowhere, "n2").on().await.unwrap_err();
    assert!(error.to_string().contains("cannot start the machine"), "{error}");
}
