//! Runs DHCP, TFTP and HTTP on one interface.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    dhcp::{self, BootPrograms, ServerConfig},
    events::{BootEvent, CounterSnapshot, Reporter},
    hosts::{BootFile, BootFileError, Hosts},
    http::{self, HttpBoot, driver::HttpLimits},
    ndp,
    script::{ScriptError, Scripts},
    socket::{self, BindError},
    tftp::{self, BootFiles, driver::TftpConfig},
};

/// Events that may wait to be read; see [`crate::events`] for what happens beyond.
pub const EVENT_CHANNEL_PLACES: usize = 1024;
/// The largest TFTP block: what an Ethernet frame holds besides the headers.
pub const MAX_BLOCK_BYTES: u16 = 1468;
/// Programs are small; whatever is larger does not belong into their directory.
const MAX_PROGRAM_BYTES: u64 = 16 << 20;
/// Files that are taken from the directory of boot programs.
const MAX_PROGRAMS: usize = 64;

/// How the service is set up.
#[derive(Clone)]
pub struct BootConfig {
    /// The interface in the machines' network; nothing is heard or said elsewhere.
    pub iface: Arc<str>,
    /// Our address there.
    pub address: Ipv4Addr,
    /// The port of DHCP; clients know no other than 67.
    pub dhcp_port: u16,
    /// The port of TFTP; firmware knows no other than 69.
    pub tftp_port: u16,
    /// The port of HTTP; 0 takes a free one.
    pub http_port: u16,
    /// Boot programs by name; see [`read_programs`].
    pub programs: Arc<BootPrograms>,
    /// The name and text of the site's own script template.
    pub template: Option<(String, String)>,
    /// More routes for machines, served under the same limits.
    pub routes: Router,
    /// What HTTP allows.
    pub http_limits: HttpLimits,
    /// The first wait of TFTP for an answer.
    pub tftp_retransmit_after: Duration,
}

impl BootConfig {
    /// With the usual ports and limits, and no boot programs.
    pub fn new(iface: &str, address: Ipv4Addr) -> Self {
        Self {
            iface: iface.into(),
            address,
            dhcp_port: dhcp::SERVER_PORT,
            tftp_port: 69,
            http_port: 8080,
            programs: Arc::default(),
            template: None,
            routes: Router::new(),
            http_limits: HttpLimits::default(),
            tftp_retransmit_after: Duration::from_secs(1),
        }
    }
}

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port or interface cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The template of scripts is not one.
    #[error(transparent)]
    Template(#[from] ScriptError),
    /// The listener does not know its own address.
    #[error("cannot ask for the address of the HTTP listener")]
    LocalAddress(#[source] io::Error),
}

/// The boot service.
pub struct BootService;

impl BootService {
    /// Starts to serve. When this returns, all ports are open. Must be called within a tokio runtime.
    pub fn start(
        config: BootConfig,
        hosts: watch::Receiver<Arc<Hosts>>,
        events: mpsc::Sender<BootEvent>,
    ) -> Result<BootHandle, StartError> {
        let BootConfig { iface, address, programs, .. } = config;
        let on = |port| SocketAddrV4::new(address, port);
        let dhcp_address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, config.dhcp_port);
        let dhcp_socket = socket::bind_udp("DHCP", dhcp_address, Some(&iface), true)?;
        let tftp_socket = socket::bind_udp("TFTP", on(config.tftp_port), Some(&iface), false)?;
        let listener = socket::listen_tcp("HTTP", on(config.http_port), Some(&iface))?;
        let http_address = match listener.local_addr().map_err(StartError::LocalAddress)? {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => on(config.http_port),
        };
        let scripts = Arc::new(match &config.template {
            Some((name, text)) => Scripts::new(http_address, name, text)?,
            None => Scripts::built_in(http_address)?,
        });
        let reporter = Reporter::new(events);
        let (stop, stopped) = watch::channel(false);

        let dhcp_config = ServerConfig {
            address,
            tftp_port: config.tftp_port,
            http_port: http_address.port(),
            programs: programs.clone(),
        };
        let files = BootFiles {
            hosts: hosts.clone(),
            programs: programs.clone(),
            scripts: scripts.clone(),
        };
        let tftp_config = TftpConfig {
            address,
            iface: Some(iface.clone()),
            retransmit_after: config.tftp_retransmit_after,
            max_block_bytes: MAX_BLOCK_BYTES,
        };
        let boot = HttpBoot { hosts: hosts.clone(), programs, scripts, reporter: reporter.clone() };
        let router = http::router(boot).merge(config.routes);

        let mut tasks = JoinSet::new();
        match ndp::bind(&iface) {
            Ok(socket) => {
                let ndp = ndp::serve(socket, iface.clone(), hosts.clone(), reporter.clone());
                tasks.spawn(until(stopped.clone(), ndp));
            }
            Err(error) => tracing::info!(%iface, %error, "router solicitations are not answered"),
        }
        let dhcp = dhcp::driver::serve(dhcp_socket, iface, dhcp_config, hosts, reporter.clone());
        let tftp = tftp::driver::serve(tftp_socket, tftp_config, Arc::new(files), reporter.clone());
        tasks.spawn(until(stopped.clone(), dhcp));
        tasks.spawn(until(stopped.clone(), tftp));
        let limits = config.http_limits;
        tasks.spawn(http::driver::serve(listener, router, limits, reporter.clone(), stopped));
        Ok(BootHandle { stop, tasks, reporter, http_address })
    }
}

/// A server that can be dropped at any point, until it is told to stop.
async fn until(mut stop: watch::Receiver<bool>, server: impl Future<Output = ()>) {
    tokio::select! {
        () = server => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// A boot service that runs. Dropping it ends it at once.
pub struct BootHandle {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    reporter: Reporter,
    http_address: SocketAddrV4,
}

impl BootHandle {
    /// Where HTTP is served.
    pub fn http_address(&self) -> SocketAddrV4 {
        self.http_address
    }

    /// The counters at this moment.
    pub fn counters(&self) -> CounterSnapshot {
        self.reporter.snapshot()
    }

    /// Waits until a part of the service ends, which it does only by a panic.
    pub async fn failed(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a part of the boot service broke off");
        }
    }

    /// Stops: no new work, a short while for what is under way. All ports are free when it returns.
    pub async fn shutdown(mut self) {
        // Nobody listens any more if all parts have ended already.
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Why the boot programs could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// The directory cannot be listed.
    #[error("cannot list the boot programs in {}", path.display())]
    List {
        /// Which directory.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A file in it cannot be read.
    #[error(transparent)]
    File(#[from] BootFileError),
    /// More files than boot programs there can be.
    #[error("more than {MAX_PROGRAMS} files in {}; it is not a directory of boot programs", path.display())]
    TooMany {
        /// Which directory.
        path: PathBuf,
    },
}

/// Reads the `*.kpxe`, `*.pxe` and `*.efi` of a directory, such as Debian's `/usr/lib/ipxe`. They are
/// read once: no request from the network ever opens a file.
pub fn read_programs(directory: &Path) -> Result<BootPrograms, ProgramsError> {
    let list = |source| ProgramsError::List { path: directory.to_owned(), source };
    let mut programs = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(list)? {
        let path = entry.map_err(list)?.path();
        let program = path.extension().is_some_and(|e| e == "kpxe" || e == "pxe" || e == "efi");
        let small = path.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_PROGRAM_BYTES);
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if program && small {
            programs.insert(name.to_owned(), BootFile::read(&path)?);
            if programs.len() > MAX_PROGRAMS {
                return Err(ProgramsError::TooMany { path: directory.to_owned() });
            }
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_boot_programs_are_taken_from_their_directory() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["undionly.kpxe", "snponly.efi", "README", "big.iso"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        std::fs::create_dir(directory.path().join("old.efi")).unwrap();
        let programs = read_programs(directory.path()).unwrap();
        assert_eq!(programs.keys().collect::<Vec<_>>(), ["snponly.efi", "undionly.kpxe"]);
        assert_eq!(programs["snponly.efi"].bytes(), "snponly.efi");
    }

    #[test]
    fn a_missing_or_broken_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("none");
        let error = read_programs(&missing).unwrap_err().to_string();
        assert_eq!(error, format!("cannot list the boot programs in {}", missing.display()));
        std::fs::write(directory.path().join("empty.efi"), "").unwrap();
        let error = read_programs(directory.path()).unwrap_err().to_string();
        assert!(error.ends_with("empty.efi has 0 bytes; expected 1 to 1073741824"), "{error}");
    }
}
