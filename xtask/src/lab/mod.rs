//! A network for virtual machines that touches nothing outside, and leaves nothing behind.
//!
//! A lab is a network namespace with a bridge, and a directory `target/lab/<id>/`. Before anything is made it
//! is written into the lab's record there, with the process that owns the lab. So a lab whose owner was
//! killed can be taken down by the next one, completely, and no other process, namespace, mount or file is
//! ever touched.

mod record;
mod teardown;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::Error;
use crate::process::Identity;
use crate::run::{check, command, require_root, root};
use crate::{interrupt, run};
use record::Record;
pub(crate) use teardown::Leftovers;

/// The bridge inside, and its address, which is where the lab's services listen.
pub(crate) const BRIDGE: &str = "br0";
/// The bridge's address with its network.
pub(crate) const BRIDGE_CIDR: &str = "10.77.0.1/24";
/// Set, because a bridge otherwise takes the lowest address of what is plugged in, and changes it under
/// everybody's ARP caches.
const BRIDGE_MAC: &str = "02:4c:43:00:00:01";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make a lab, run a command inside (a shell when none is given), and take the lab down
    Run {
        /// The command and its arguments
        #[arg(trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// List labs and whose they are
    List,
    /// Take down the labs whose owners are gone
    Clean,
}

pub(crate) fn main(args: Args) -> Result<(), Error> {
    match args.action {
        Action::Run { command } => run_inside(command),
        Action::List => list(),
        Action::Clean => {
            require_root("lab clean", "removing network namespaces")?;
            let cleaned = clean(&labs_dir())?;
            println!("{cleaned} abandoned labs taken down");
            Ok(())
        }
    }
}

fn run_inside(mut words: Vec<String>) -> Result<(), Error> {
    require_root("lab run", "making a network namespace")?;
    if words.is_empty() {
        words.push(std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned()));
    }
    let mut lab = Lab::create(&labs_dir())?;
    println!(
        "Inside {}: {BRIDGE} is {BRIDGE_CIDR}, files go to {}",
        lab.netns(),
        lab.dir().display()
    );
    let mut inside = Command::new(&words[0]);
    inside.args(&words[1..]).env("LAB_DIR", lab.dir());
    let ended = lab.spawn(&mut inside).and_then(|mut child| {
        child.wait().map_err(|source| Error::Start { program: words[0].clone(), source })
    });
    let left = lab.take_down()?;
    if !left.is_empty() {
        eprint!("The lab left things behind:\n{left}");
    }
    let status = ended?;
    match (left.is_empty(), status.code()) {
        (true, Some(0)) => Ok(()),
        (true, Some(code)) => Err(Error::Status(u8::try_from(code).unwrap_or(1))),
        _ => Err(Error::Status(1)),
    }
}

fn list() -> Result<(), Error> {
    let records = Record::all(&labs_dir())?;
    if records.is_empty() {
        println!("no labs");
    }
    for (dir, record) in records {
        let state = if record.owner.is_alive() {
            format!("owned by process {}", record.owner.pid)
        } else {
            "abandoned; `cargo xtask lab clean` takes it down".to_owned()
        };
        println!("{}  {}  {state}", record.netns, dir.display());
    }
    Ok(())
}

/// Where labs are.
pub(crate) fn labs_dir() -> PathBuf {
    root().join("target/lab")
}

/// Takes down every lab whose owner is gone, and returns how many there were.
pub(crate) fn clean(labs: &Path) -> Result<usize, Error> {
    let mut cleaned = 0;
    for (dir, record) in Record::all(labs)? {
        if record.owner.is_alive() {
            continue;
        }
        println!("taking down the abandoned lab {}", record.netns);
        let left = teardown::take_down(&dir, &record)?;
        if !left.is_empty() {
            return Err(Error::Refused(format!(
                "the abandoned lab {} is still there:\n{left}",
                record.netns
            )));
        }
        cleaned += 1;
    }
    Ok(cleaned)
}

/// A lab that is up. Taken down when dropped; call [`take_down`](Self::take_down) to learn what resisted.
pub(crate) struct Lab {
    dir: PathBuf,
    record: Record,
    is_up: bool,
}

impl Lab {
    /// Makes a lab below `labs`, after taking down those whose owners are gone.
    pub(crate) fn create(labs: &Path) -> Result<Self, Error> {
        clean(labs)?;
        let owner = Identity::own().ok_or_else(|| {
            Error::Refused("cannot read /proc/self/stat; is /proc mounted?".to_owned())
        })?;
        let (id, dir) = record::new_dir(labs)?;
        let record = Record { netns: format!("lc-{id}"), owner, processes: Vec::new() };
        record.save(&dir)?;
        let lab = Self { dir, record, is_up: true };
        lab.make_network()?;
        Ok(lab)
    }

    fn make_network(&self) -> Result<(), Error> {
        let ns = self.netns();
        for args in [
            vec!["netns", "add", ns],
            vec!["-n", ns, "link", "set", "lo", "up"],
            vec!["-n", ns, "link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge"],
            vec!["-n", ns, "address", "add", BRIDGE_CIDR, "dev", BRIDGE],
            vec!["-n", ns, "link", "set", BRIDGE, "up"],
        ] {
            interrupt::check()?;
            check(&mut command("ip", args))?;
        }
        Ok(())
    }

    /// The name of the network namespace, as `ip netns` knows it.
    pub(crate) fn netns(&self) -> &str {
        &self.record.netns
    }

    /// The lab's own directory; it goes with the lab.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs `work` on a thread inside the namespace: sockets it opens and processes it starts are there.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let path = teardown::netns_path(self.netns());
        let netns = File::open(&path).map_err(Error::file("open", &path))?;
        let inside = || {
            // Of this thread only, which ends below.
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
                |errno| Error::Kernel {
                    doing: "enter the network namespace".to_owned(),
                    source: errno.into(),
                },
            )?;
            Ok(work())
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Starts a process inside and writes it into the lab's record.
    ///
    /// Give it a process group of its own (`process_group(0)`) unless it is to be interrupted together with
    /// this program: a Ctrl-C goes to the whole group, and a server should end when it is its turn.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<Child, Error> {
        let line = run::line(command);
        let child = self
            .enter(|| command.spawn())?
            .map_err(|source| Error::Start { program: line, source })?;
        // A child that has ended already needs no record.
        if let Some(identity) = i32::try_from(child.id()).ok().and_then(Identity::of) {
            self.record.processes.push(identity);
            self.record.save(&self.dir)?;
        }
        Ok(child)
    }

    /// Ends every process, removes every mount, the namespace and the directory, and says what is left.
    pub(crate) fn take_down(mut self) -> Result<Leftovers, Error> {
        self.is_up = false;
        teardown::take_down(&self.dir, &self.record)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.is_up {
            return;
        }
        match teardown::take_down(&self.dir, &self.record) {
            Ok(left) if left.is_empty() => {}
            Ok(left) => eprint!("xtask: the lab {} left things behind:\n{left}", self.record.netns),
            Err(error) => {
                eprintln!("xtask: the lab could not be taken down: {}", error.with_causes());
            }
        }
    }
}

#[cfg(test)]
mod tests;
