//! Network: from the seed to an address, a route and a resolver.
//!
//! Everything is asked of the kernel by netlink, which also says when something changed, so the
//! wait for a device (its driver may still be loading) or for a carrier is a wait for a state. Done
//! twice it changes nothing.

mod hardware;
mod netlink;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use layercake_seed::{Mac, Seed, SeedInterface};

use crate::image::monotonic_ns;
pub use hardware::{Hardware, Unclaimed};
use netlink::{Link, LinkEvents, Route};

/// How long a device may take to appear. Slow firmware and switches take tens of seconds; what is
/// not there after this is reported, and the agent tries again.
pub const DEVICE_LIMIT: Duration = Duration::from_secs(60);

/// How long a link may take to come up before it is said that there is none: what two ends take to agree on a
/// speed.
const LINK_GRACE: Duration = Duration::from_secs(4);

/// Why the network is not up.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Netlink does not work.
    #[error("cannot speak netlink with the kernel")]
    Netlink(#[source] io::Error),
    /// There is no such device.
    #[error("no network interface has the address {mac}; interfaces: {present}")]
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

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Up {
    /// The interfaces that were configured.
    pub configured: Vec<Configured>,
    /// What is wrong with the others, or with these, for a person.
    pub problems: Vec<String>,
}

/// Brings up every interface of the seed, the host name, and the resolver file. Blocks, at most
/// for `limit` in all, and tells `say` at once what it waits for.
///
/// An interface that cannot be had does not cost the others: it is an error only when there is none.
pub fn bring_up(
    seed: &Seed,
    resolv_conf: &Path,
    limit: Duration,
    say: &mut dyn FnMut(&str),
) -> Result<Up, NetworkError> {
    rustix::system::sethostname(seed.node.as_bytes())
        .map_err(|error| NetworkError::HostName(error.into()))?;
    let mut route = Route::open().map_err(NetworkError::Netlink)?;
    // Before the first look, so that nothing can come in between unseen.
    let mut events = LinkEvents::open().map_err(NetworkError::Netlink)?;
    let mut ports: Vec<Port<'_>> = seed.interfaces.iter().map(Port::new).collect();
    let deadline = Deadline::after(limit);
    let mut quiet = Some(Deadline::after(LINK_GRACE.min(limit)));
    let links = loop {
        let links = route.links().map_err(NetworkError::Netlink)?;
        if let Some(loopback) = links.iter().find(|link| link.name == "lo" && !link.is_up) {
            step("bring up", loopback, route.set_up(loopback.index, None))?;
        }
        let mut is_news = false;
        for port in &mut ports {
            is_news |= port.advance(&mut route, &links);
        }
        if is_news {
            continue;
        }
        if quiet.is_some_and(|quiet| quiet.left().is_none()) {
            quiet = None;
        }
        for port in &mut ports {
            port.tell(&links, quiet.is_none(), deadline, say);
        }
        let Some(left) = deadline.left() else { break links };
        if ports.iter().all(Port::is_ready) {
            break links;
        }
        let left = quiet.and_then(Deadline::left).map_or(left, |quiet| quiet.min(left));
        events.wait(left).map_err(NetworkError::Netlink)?;
    };
    write_resolv_conf(seed, resolv_conf)?;
    finish(ports, &links)
}

/// What came of the interfaces; the first one's error when none could be had.
fn finish(ports: Vec<Port<'_>>, links: &[Link]) -> Result<Up, NetworkError> {
    let mut up = Up { configured: Vec::new(), problems: Vec::new() };
    let mut first_error = None;
    for port in ports {
        let error = match port.state {
            State::Missing => Some(port.missing(links)),
            State::Refused(error) => Some(error),
            State::Up { interface, has_carrier, .. } => {
                let mac = port.interface.mac;
                if !has_carrier {
                    up.problems.push(format!("{interface} ({mac}) has no link"));
                }
                up.configured.push(Configured { interface, mac, has_carrier });
                None
            }
        };
        if let Some(error) = error {
            up.problems.push(crate::init::error_chain(&error));
            first_error.get_or_insert(error);
        }
    }
    match first_error {
        Some(error) if up.configured.is_empty() => Err(error),
        _ => Ok(up),
    }
}

/// An interface of the seed on its way.
struct Port<'a> {
    interface: &'a SeedInterface,
    state: State,
    /// What it waits for was told.
    was_told: bool,
}

enum State {
    /// There is no such device yet.
    Missing,
    /// The kernel refused a step.
    Refused(NetworkError),
    /// It is configured.
    Up { index: u32, interface: String, has_carrier: bool },
}

impl<'a> Port<'a> {
    fn new(interface: &'a SeedInterface) -> Self {
        Self { interface, state: State::Missing, was_told: false }
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, State::Refused(_) | State::Up { has_carrier: true, .. })
    }

    /// Does what can be done now; true when it was configured, and has to be looked at again.
    fn advance(&mut self, route: &mut Route, links: &[Link]) -> bool {
        match &mut self.state {
            State::Up { index, has_carrier, .. } => {
                *has_carrier = links.iter().any(|link| link.index == *index && link.has_carrier);
                false
            }
            State::Refused(_) => false,
            State::Missing => {
                let is_it = |link: &&Link| link.mac == Some(self.interface.mac) && !link.is_stacked;
                let Some(link) = links.iter().find(is_it) else { return false };
                self.state = match configure(route, self.interface, link) {
                    Ok(()) => State::Up {
                        index: link.index,
                        interface: link.name.clone(),
                        has_carrier: false,
                    },
                    Err(error) => State::Refused(error),
                };
                self.was_told = false;
                true
            }
        }
    }

    fn missing(&self, links: &[Link]) -> NetworkError {
        let shown = links.iter().filter(|link| link.name != "lo").map(|link| match link.mac {
            Some(mac) => format!("{} ({mac})", link.name),
            None => link.name.clone(),
        });
        let present: Vec<String> = shown.collect();
        let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
        NetworkError::NoDevice { mac: self.interface.mac, present }
    }

    /// Says what it waits for, once. A link takes its time, and is missed only after that.
    fn tell(&mut self, links: &[Link], is_late: bool, until: Deadline, say: &mut dyn FnMut(&str)) {
        let seconds = until.left().unwrap_or_default().as_secs();
        let mac = self.interface.mac;
        let text = match &self.state {
            _ if self.was_told => return,
            State::Missing => {
                format!("{}; waiting for it, {seconds} s at most", self.missing(links))
            }
            State::Refused(error) => crate::init::error_chain(error),
            State::Up { has_carrier: true, .. } => return,
            State::Up { .. } if !is_late => return,
            State::Up { interface, .. } => format!(
                "{interface} ({mac}) has no link: is its cable plugged in, and the port of the switch up? \
                 Waiting for it, {seconds} s at most"
            ),
        };
        self.was_told = true;
        say(&text);
    }
}

fn configure(
    route: &mut Route,
    interface: &SeedInterface,
    link: &Link,
) -> Result<(), NetworkError> {
    step("bring up the link", link, route.set_up(link.index, interface.mtu))?;
    step("set the address", link, route.add_address(link.index, interface.address))?;
    // Accepted without a carrier too; both work as soon as there is one.
    if let Some(gateway) = interface.gateway {
        step("set the default route", link, route.add_default_route(link.index, gateway))?;
    }
    Ok(())
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

/// The resolver file (resolv.conf(5)): every name server and every domain of the seed, once, in its order.
fn resolv_conf(seed: &Seed) -> String {
    let mut servers: Vec<IpAddr> = Vec::new();
    let mut domains: Vec<&str> = Vec::new();
    for interface in &seed.interfaces {
        for server in &interface.dns {
            if !servers.contains(server) {
                servers.push(*server);
            }
        }
        domains.extend(interface.domain.as_deref().filter(|domain| !domains.contains(domain)));
    }
    let search = if domains.is_empty() { None } else { Some(domains.join(" ")) };
    let search = search.map(|domains| format!("search {domains}\n"));
    search.into_iter().chain(servers.iter().map(|s| format!("nameserver {s}\n"))).collect()
}

fn write_resolv_conf(seed: &Seed, path: &Path) -> Result<(), NetworkError> {
    let text = resolv_conf(seed);
    fs::write(path, text).map_err(|source| NetworkError::File { path: path.to_owned(), source })
}
