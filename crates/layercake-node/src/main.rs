//! `layercake-node`: chooses the role, see the library.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use layercake_node::init::{self, Halt};
use layercake_node::{agent, container, monitor, network, seed};

const USAGE: &str = "\
layercake-node: the userland of Layer 0. As process 1 it is init; otherwise:

  layercake-node network [SEED [RESOLV_CONF]]   bring up the network of the seed
  layercake-node poweroff | reboot              ask init for an orderly end
  layercake-node agent | monitor | container | shell   started by init and the image service
";

fn main() -> ExitCode {
    if rustix::process::getpid() == rustix::process::Pid::INIT && !is_container() {
        return init::run();
    }
    init::unblock_signals();
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("agent") => agent::run(),
        Some("container") => container::run(),
        Some("monitor") => monitor::detach(),
        Some("monitor-detached") => monitor::run(),
        Some("shell") => init::shell(),
        Some("network") => bring_up_network(arguments.next(), arguments.next()),
        Some("poweroff") => init::ask_to_halt(Halt::PowerOff),
        Some("reboot") => init::ask_to_halt(Halt::Reboot),
        _ => {
            let _ = std::io::stderr().write_all(USAGE.as_bytes());
            ExitCode::from(2)
        }
    }
}

/// The first process of a container is process 1 too, of its own namespace.
fn is_container() -> bool {
    std::env::args().nth(1).as_deref() == Some("container")
}

fn bring_up_network(seed_path: Option<String>, resolv_conf: Option<String>) -> ExitCode {
    let seed_path = PathBuf::from(seed_path.unwrap_or_else(|| seed::KEPT_PATH.to_owned()));
    let resolv_conf = PathBuf::from(resolv_conf.unwrap_or_else(|| "/etc/resolv.conf".to_owned()));
    match try_network(&seed_path, &resolv_conf) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("layercake-node: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn try_network(seed_path: &Path, resolv_conf: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let seed = seed::load(seed_path)?;
    let mut say = |text: &str| drop(writeln!(std::io::stderr(), "layercake-node: {text}"));
    for up in network::bring_up(&seed, resolv_conf, network::DEVICE_LIMIT, &mut say)?.configured {
        let carrier = if up.has_carrier { "" } else { ", no carrier" };
        writeln!(std::io::stdout(), "{} is up as {}{carrier}", up.mac, up.interface)?;
    }
    Ok(())
}
