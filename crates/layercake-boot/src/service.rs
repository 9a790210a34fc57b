//! Runs DHCP, TFTP and HTTP on one interface.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
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
    firmwares::Firmwares,
    hosts::Hosts,
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
    /// Boot programs by name; see [`crate::programs`].
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
        let scripts = match &config.template {
            Some((name, text)) => Scripts::new(http_address, name, text)?,
            None => Scripts::built_in(http_address)?,
        };
        let scripts = Arc::new(scripts.with_tftp_port(config.tftp_port));
        let reporter = Reporter::new(events);
        let firmwares = Firmwares::default();
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
            firmwares: firmwares.clone(),
        };
        let tftp_config = TftpConfig {
            address,
            iface: Some(iface.clone()),
            retransmit_after: config.tftp_retransmit_after,
            max_block_bytes: MAX_BLOCK_BYTES,
        };
        let boot = HttpBoot {
            hosts: hosts.clone(),
            programs,
            scripts,
            firmwares: firmwares.clone(),
            reporter: reporter.clone(),
        };
        let router = http::router(boot).merge(config.routes);

        let mut tasks = JoinSet::new();
        match ndp::bind(&iface) {
            Ok(socket) => {
                let ndp = ndp::serve(socket, iface.clone(), hosts.clone(), reporter.clone());
                tasks.spawn(until(stopped.clone(), ndp));
            }
            Err(error) => tracing::info!(%iface, %error, "router solicitations are not answered"),
        }
        let heard = dhcp::driver::Heard { reporter: reporter.clone(), firmwares };
        let dhcp = dhcp::driver::serve(dhcp_socket, iface, dhcp_config, hosts, heard);
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
