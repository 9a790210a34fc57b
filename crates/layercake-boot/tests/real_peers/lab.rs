//! A server's and a client's network namespace, joined by a bridge; both are gone with the lab.
//!
//! ```text
//! server: br0 10.77.0.1/24 -- s0 ═══ c0 52:54:00:00:00:0b :client
//!                          └- tap0 (for a virtual machine)
//! ```

use std::{
    fs::File,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use layercake_boot::{
    BootConfig, BootEvent, BootFile, BootHandle, BootPlan, BootService, Host, Hosts, MacAddr, Seed,
};
use tokio::{
    process::Command,
    sync::{mpsc, watch},
};

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
pub(crate) const NODE_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 11]);
/// Longer than anything here takes on a busy machine; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The names of the namespaces; dropping it removes them, also when the test panics.
pub(crate) struct Lab {
    server: String,
    client: String,
}

static LABS: AtomicU32 = AtomicU32::new(0);

/// Runs a test inside the server's namespace of a new lab.
pub(crate) fn in_lab<F: Future<Output = ()>>(test: impl FnOnce(Arc<Lab>) -> F + Send + 'static) {
    let lab = Arc::new(Lab::new());
    let of_test = lab.clone();
    // The namespace belongs to the thread, and to what the thread starts.
    let ran = std::thread::spawn(move || {
        enter(&of_test.server);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(of_test));
    })
    .join();
    drop(lab);
    if let Err(panic) = ran {
        std::panic::resume_unwind(panic);
    }
}

fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    rustix::thread::move_into_link_name_space(file.as_fd(), None).unwrap();
}

fn ip(arguments: &str) {
    let output = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
}

/// A test that was killed could not remove its lab.
fn remove_labs_of_the_dead() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let process = name.strip_prefix("lcboot-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another test may be at the same.
            let _ = std::process::Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

impl Lab {
    fn new() -> Self {
        remove_labs_of_the_dead();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("lcboot-{}-{number}", std::process::id());
        let lab = Self { server: format!("{name}-s"), client: format!("{name}-c") };
        let Self { server, client } = &lab;
        for command in [
            format!("netns add {server}"),
            format!("netns add {client}"),
            format!("link add s0 netns {server} type veth peer name c0 netns {client}"),
            format!("-n {server} link add br0 type bridge"),
            format!("-n {server} tuntap add tap0 mode tap"),
            format!("-n {server} link set s0 master br0 up"),
            format!("-n {server} link set tap0 master br0 up"),
            format!("-n {server} addr add {SERVER}/24 dev br0"),
            format!("-n {server} link set br0 up"),
            format!("-n {server} link set lo up"),
            format!("-n {client} link set c0 address {NODE_MAC} up"),
            format!("-n {client} link set lo up"),
        ] {
            ip(&command);
        }
        lab
    }

    /// Gives the client an address, as a machine has one after DHCP.
    pub(crate) fn address(&self, address: &str) {
        ip(&format!("-n {} addr add {address}/24 dev c0", self.client));
    }

    /// A command in the client's namespace.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.client, program]);
        command.kill_on_drop(true).stdin(Stdio::null());
        command
    }

    /// Runs a command in the client's namespace; its output, which must be a success.
    pub(crate) async fn run(&self, line: &str) -> String {
        let (succeeded, output) = self.try_run(line).await;
        assert!(succeeded, "{line}: {output}");
        output
    }

    /// Runs a command in the client's namespace: whether it succeeded, and what it said.
    pub(crate) async fn try_run(&self, line: &str) -> (bool, String) {
        let mut words = line.split(' ');
        let mut command = self.client(words.next().unwrap());
        let output = tokio::time::timeout(PATIENCE, command.args(words).output()).await;
        let output = output.unwrap_or_else(|_| panic!("{line}: no end")).unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs code on a thread in the client's namespace.
    pub(crate) async fn as_client<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let client = self.client.clone();
        let thread = std::thread::spawn(move || {
            enter(&client);
            run()
        });
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            // One that was never made cannot be removed; that is no second failure.
            let _ = std::process::Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

/// A boot service, its table and its events.
pub(crate) struct Server {
    pub(crate) hosts: watch::Sender<Arc<Hosts>>,
    pub(crate) handle: BootHandle,
    events: mpsc::Receiver<BootEvent>,
}

impl Server {
    pub(crate) fn start(hosts: impl IntoIterator<Item = Host>) -> Self {
        Self::start_with(hosts, |_| {})
    }

    pub(crate) fn start_with(
        hosts: impl IntoIterator<Item = Host>,
        change: impl FnOnce(&mut BootConfig),
    ) -> Self {
        let (hosts, table) = watch::channel(Arc::new(table(hosts)));
        let (sender, events) = mpsc::channel(1024);
        let mut config = BootConfig::new("br0", SERVER);
        config.programs = Arc::new([("undionly.kpxe".into(), program().into())].into());
        config.tftp_retransmit_after = Duration::from_millis(100);
        change(&mut config);
        let handle = BootService::start(config, table, sender).unwrap();
        Self { hosts, handle, events }
    }

    pub(crate) fn change_hosts(&self, hosts: impl IntoIterator<Item = Host>) {
        self.hosts.send(Arc::new(table(hosts))).unwrap();
    }

    /// Waits for an event; those before it are passed over.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&BootEvent) -> bool) -> BootEvent {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let event = self.events.recv().await.unwrap();
                if wanted(&event) {
                    return event;
                }
                seen.push(event);
            }
        });
        match found.await {
            Ok(event) => event,
            Err(_) => panic!("not among {seen:?}"),
        }
    }

    /// Waits until the counters say so.
    pub(crate) async fn counted(&self, reached: impl Fn(&layercake_boot::CounterSnapshot) -> bool) {
        let polled = tokio::time::timeout(PATIENCE, async {
            while !reached(&self.handle.counters()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        polled.await.unwrap_or_else(|_| panic!("{:?}", self.handle.counters()));
    }
}

fn table(hosts: impl IntoIterator<Item = Host>) -> Hosts {
    Hosts::new(hosts.into_iter().map(Arc::new)).unwrap()
}

/// A file that no two blocks of are alike.
pub(crate) fn bytes(len: usize) -> Bytes {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

pub(crate) fn program() -> Bytes {
    bytes(300_001)
}

pub(crate) fn armed() -> BootPlan {
    BootPlan::Armed {
        boot_id: "boot-7".into(),
        kernel: BootFile::from(bytes(200_000)),
        initramfs: BootFile::from(bytes(3_000_000)),
        seed: Seed::from("a secret seed"),
        cmdline: "console=ttyS0".into(),
    }
}

pub(crate) fn node(plan: BootPlan) -> Host {
    Host {
        node: "n11".into(),
        mac: NODE_MAC,
        address: NODE,
        prefix: 24,
        gateway: Some(SERVER),
        dns: vec![SERVER],
        domain: Some("lab.example".into()),
        arch: Some(layercake_boot::Arch::X86_64),
        others: Vec::new(),
        hostname: "n11".into(),
        lease_secs: 3600,
        plan,
    }
}
