//! The virtual tree that TFTP serves: boot programs at its root, each node's script, and a place where
//! iPXE leaves word of what failed.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    dhcp::BootPrograms,
    events::{BootEvent, Service},
    firmwares::Firmwares,
    hosts::{BootPlan, Host, Hosts},
    report,
    script::Scripts,
};

/// A file that a client may have.
#[derive(Debug, Clone)]
pub struct Served {
    /// Its content.
    pub bytes: Bytes,
    /// What is to be told when the client has all of it.
    pub event: Option<BootEvent>,
    /// The host that it is for, and the name under which it asked.
    pub what: Option<(Arc<Host>, Arc<str>)>,
}

/// Why a client does not get a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// There is no such file for it.
    #[error("{0}")]
    NotFound(String),
    /// It may not have it.
    #[error("{0}")]
    Denied(String),
    /// It cannot boot: the event says why.
    #[error("{0}")]
    Stuck(String, BootEvent),
    /// It asked for what need not be there.
    #[error("no such file")]
    Optional,
}

/// What newer builds of iPXE look for beside themselves, for sites that want to add to their start.
pub(crate) const OPTIONAL: &[&str] = &["autoexec.ipxe"];

/// Where files come from. Asked once per transfer; never with a path that is not normalized.
pub trait Files: Send + Sync {
    /// The file that this client gets under this path.
    fn lookup(&self, client: Ipv4Addr, path: &str) -> Result<Served, NotServed>;
}

/// Where a node's script is in the tree.
pub fn script_path(node: &str) -> String {
    format!("boot/{node}.ipxe")
}

/// The tree of the boot service.
pub struct BootFiles {
    /// The machines.
    pub hosts: watch::Receiver<Arc<Hosts>>,
    /// Boot programs by name.
    pub programs: Arc<BootPrograms>,
    /// Renders scripts.
    pub scripts: Arc<Scripts>,
    /// Which firmware each machine has.
    pub firmwares: Firmwares,
}

impl Files for BootFiles {
    fn lookup(&self, client: Ipv4Addr, path: &str) -> Result<Served, NotServed> {
        let hosts = self.hosts.borrow().clone();
        let host = hosts
            .by_address(client)
            .ok_or_else(|| NotServed::Denied(format!("{client} is not a known machine")))?;
        if let Some(words) = path.strip_prefix("report/") {
            return noted(host, words);
        }
        let (bytes, event) = match self.programs.get(path) {
            Some(program) => (program.bytes().clone(), None),
            None => self.script(host, path)?,
        };
        self.firmwares.check(host).map_err(|reason| stuck(host, reason))?;
        Ok(Served { bytes, event, what: Some((host.clone(), path.into())) })
    }
}

impl BootFiles {
    fn script(&self, host: &Host, path: &str) -> Result<(Bytes, Option<BootEvent>), NotServed> {
        if OPTIONAL.contains(&path) {
            return Err(NotServed::Optional);
        }
        let Some(node) = path.strip_prefix("boot/").and_then(|p| p.strip_suffix(".ipxe")) else {
            return Err(NotServed::NotFound(format!(
                "{} asked for {path}: no such file",
                host.node
            )));
        };
        if *node != *host.node {
            return Err(NotServed::Denied(format!(
                "{} asked for the script of {node:?}; a machine gets only its own",
                host.node
            )));
        }
        let BootPlan::Armed { boot_id, .. } = &host.plan else {
            return Err(NotServed::NotFound(format!("{node} is not expected to boot now")));
        };
        let script = self.scripts.render(host).map_err(|error| stuck(host, error.to_string()))?;
        let event = BootEvent::ScriptServed { node: host.node.clone(), boot_id: boot_id.clone() };
        Ok((script.into(), Some(event)))
    }
}

fn stuck(host: &Host, reason: String) -> NotServed {
    NotServed::Stuck(reason.clone(), BootEvent::stuck(host, Service::Tftp, reason))
}

/// A report is a file that somebody asks for: iPXE has no simpler way of saying something.
fn noted(host: &Host, words: &str) -> Result<Served, NotServed> {
    let event = report::read(host, words).ok_or_else(|| {
        NotServed::NotFound(format!("{} asked for report/{words}: no such report", host.node))
    })?;
    Ok(Served { bytes: Bytes::from_static(b"noted\n"), event: Some(event), what: None })
}
