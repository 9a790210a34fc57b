//! Network: from the seed to an address, a route and a resolver.
//!
//! Everything is asked of the kernel by netlink, which also says when something changed, so the
//! wait for a device (its driver may still be loading) or for a carrier is a wait for a state. Done
//! twice it changes nothing.

mod netlink;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use layercake_seed::{Mac, Seed, SeedInterface};

use crate::image::monotonic_ns;
use netlink::{Link, Route};

/// How long a device may take to appear. Slow firmware and switches take tens of seconds; what is
/// not there after this is reported, and the agent tries again.
pub const DEVICE_LIMIT: Duration = Duration::from_secs(60);

/// Why the network is not up.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Netlink does not work.
    #[error("cannot speak netlink with the kernel")]
    Netlink(#[source] io::Error),
    /// There is no such device.
    #[error(
        "no network device has the address {mac}; is its driver in the initramfs? present: {present}"
    )]
    NoDevice {
        /// Which was looked for.
        mac: Mac,
        /// Which are there.
        present: String,
    },
    /// The kernel refused a step.
    #[error("cannot {step} on {interface}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// On which interface.
        interface: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host name was refused.
    #[error("cannot set the host name")]
    HostName(#[source] io::Error),
}

/// An interface that was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// The kernel's name for it.
    pub interface: String,
    /// By which address it was found.
    pub mac: Mac,
    /// Whether a cable (or bridge) is on the other side.
    pub has_carrier: bool,
}

/// Brings up every interface of the seed, the host name, and the resolver file. Blocks, at most
/// for `limit` in all.
pub fn bring_up(
    seed: &Seed,
    resolv_conf: &Path,
    limit: Duration,
) -> Result<Vec<Configured>, NetworkError> {
    rustix::system::sethostname(seed.node.as_bytes())
        .map_err(|error| NetworkError::HostName(error.into()))?;
    let mut route = Route::open().map_err(NetworkError::Netlink)?;
    let deadline = Deadline::after(limit);
    let loopback = wait_for(&mut route, deadline, |link| link.name == "lo")?;
    if let Some(loopback) = loopback {
        step("bring up", &loopback, route.set_up(loopback.index, None))?;
    }
    let mut configured = Vec::new();
    for interface in &seed.interfaces {
        configured.push(configure(&mut route, interface, deadline)?);
    }
    write_resolv_conf(seed, resolv_conf)?;
    Ok(configured)
}

fn configure(
    route: &mut Route,
    interface: &SeedInterface,
    deadline: Deadline,
) -> Result<Configured, NetworkError> {
    let is_it = |link: &Link| link.mac == Some(interface.mac) && !link.is_stacked;
    let Some(link) = wait_for(route, deadline, is_it)? else {
        let links = route.links().map_err(NetworkError::Netlink)?;
        let shown = links.iter().map(|link| match link.mac {
            Some(mac) => format!("{} ({mac})", link.name),
            None => link.name.clone(),
        });
        let present = shown.collect::<Vec<_>>().join(", ");
        return Err(NetworkError::NoDevice { mac: interface.mac, present });
    };
    step("bring up the link", &link, route.set_up(link.index, interface.mtu))?;
    step("set the address", &link, route.add_address(link.index, interface.address))?;
    // The route is accepted without a carrier, and works as soon as there is one.
    let has_carrier =
        wait_for(route, deadline, |now| now.index == link.index && now.has_carrier)?.is_some();
    if let Some(gateway) = interface.gateway {
        step("set the default route", &link, route.add_default_route(link.index, gateway))?;
    }
    Ok(Configured { interface: link.name, mac: interface.mac, has_carrier })
}

fn step(step: &'static str, link: &Link, result: io::Result<()>) -> Result<(), NetworkError> {
    result.map_err(|source| NetworkError::Step { step, interface: link.name.clone(), source })
}

/// A point on the clock that never jumps.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    ns: u64,
}

impl Deadline {
    fn after(limit: Duration) -> Self {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Self { ns: monotonic_ns().saturating_add(limit) }
    }

    fn left(self) -> Option<Duration> {
        let left = self.ns.checked_sub(monotonic_ns())?;
        (left > 0).then(|| Duration::from_nanos(left))
    }
}

/// Waits until there is a link as wanted. The kernel's events say when to look; what counts is
/// what is seen then.
fn wait_for(
    route: &mut Route,
    deadline: Deadline,
    wanted: impl Fn(&Link) -> bool,
) -> Result<Option<Link>, NetworkError> {
    let mut changes = netlink::LinkEvents::open().map_err(NetworkError::Netlink)?;
    loop {
        let links = route.links().map_err(NetworkError::Netlink)?;
        if let Some(link) = links.into_iter().find(&wanted) {
            return Ok(Some(link));
        }
        let Some(left) = deadline.left() else { return Ok(None) };
        changes.wait(left).map_err(NetworkError::Netlink)?;
    }
}

fn write_resolv_conf(seed: &Seed, path: &Path) -> Result<(), NetworkError> {
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in seed.interfaces.iter().flat_map(|interface| &interface.dns) {
        if !servers.contains(server) {
            servers.push(*server);
        }
    }
    let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    fs::write(path, text).map_err(|source| NetworkError::File { path: path.to_owned(), source })
}
