//! The demo's cluster: a lab, the server in it, and what is seen of its nodes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::client::{Client, Node};
use super::images::Source;
use super::progress::Screen;
use crate::error::Error;
use crate::interrupt;
use crate::lab::{Lab, Leftovers, labs_dir};
use crate::process::{Identity, end_all};
use crate::run::{capture, check, root};

/// The file that the demo runs with, below the root of the checkout.
const CLUSTER_FILE: &str = "examples/lab/cluster.yaml";
/// How often to look. Two short processes each time, on a machine that emulates three others.
const LOOK_EVERY: Duration = Duration::from_millis(700);
/// How long a server may take to answer after its start, and to end when asked to.
const SERVER_LIMIT: Duration = Duration::from_secs(60);

/// A cluster that runs. Taken down when dropped, like the lab in it.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) screen: Screen,
    lab: Lab,
    minos: PathBuf,
    server: Option<Child>,
    made: Instant,
}

impl Cluster {
    /// A lab with nothing in it yet.
    pub(super) fn new(program: PathBuf, minos: PathBuf) -> Result<Self, Error> {
        Self::with_file(program, minos, |_| {
            let file = root().join(CLUSTER_FILE);
            fs::read_to_string(&file).map_err(Error::file("read", &file))
        })
    }

    /// The same, with another cluster file; it is given the lab's own directory.
    pub(super) fn with_file(
        program: PathBuf,
        minos: PathBuf,
        file: impl FnOnce(&Path) -> Result<String, Error>,
    ) -> Result<Self, Error> {
        let made = Instant::now();
        let lab = Lab::create(&labs_dir())?;
        let socket = lab.dir().join("run/api.sock");
        let client = Client { program, server: format!("unix:{}", socket.display()) };
        // A copy, because the demo changes it.
        let copy = lab.dir().join("cluster.yaml");
        fs::write(&copy, file(lab.dir())?).map_err(Error::file("write", &copy))?;
        Ok(Self { client, screen: Screen::new(), lab, minos, server: None, made })
    }

    /// How long ago there was nothing.
    pub(super) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// The lab's own directory.
    pub(super) fn dir(&self) -> &Path {
        self.lab.dir()
    }

    /// The cluster file that was applied.
    pub(super) fn file(&self) -> PathBuf {
        self.dir().join("cluster.yaml")
    }

    /// What the server writes to standard error.
    pub(super) fn log(&self) -> PathBuf {
        self.dir().join("serve.log")
    }

    /// A file of a machine: of one that Layercake starts itself, or of one that a script does.
    pub(super) fn machine_file(&self, node: &str, file: &str) -> PathBuf {
        let by_script = self.dir().join("machines").join(node);
        let by_itself = self.dir().join("run/qemu").join(node);
        if by_script.exists() { by_script } else { by_itself }.join(file)
    }

    /// Runs a command inside of the lab's network until it is ended; it ends with the lab at last.
    pub(super) fn spawn_inside(&mut self, command: &mut Command) -> Result<Child, Error> {
        self.lab.spawn(command)
    }

    /// The kernel of Layer 0 and its initramfs.
    pub(super) fn minos(&self) -> &Path {
        &self.minos
    }

    /// The shell words with which a command runs inside of the lab's network.
    pub(super) fn inside(&self) -> [&str; 4] {
        ["ip", "netns", "exec", self.lab.netns()]
    }

    /// Starts the server and waits until it answers.
    pub(super) fn start_server(&mut self) -> Result<(), Error> {
        let log = self.log();
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) = (open(), open());
        let mut serve = Command::new(&self.client.program);
        serve.arg("serve");
        for (option, path) in [("--state", "state"), ("--run", "run")] {
            serve.arg(option).arg(self.dir().join(path));
        }
        serve.arg("--minos").arg(&self.minos).env_remove("LAYERCAKE_SERVER");
        serve.stdin(Stdio::null()).process_group(0);
        serve.stdout(out.map_err(Error::file("open", &log))?);
        serve.stderr(err.map_err(Error::file("open", &log))?);
        self.server = Some(self.lab.spawn(&mut serve)?);
        let deadline = Instant::now() + SERVER_LIMIT;
        while let Err(error) = self.client.run(&["status"]) {
            interrupt::check()?;
            self.check_server()?;
            if Instant::now() > deadline {
                return Err(error);
            }
            pause(Duration::from_millis(100));
        }
        Ok(())
    }

    /// An error when the server has ended.
    fn check_server(&mut self) -> Result<(), Error> {
        let ended = self.server.as_mut().map(Child::try_wait);
        match ended {
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(status))) => {
                Err(Error::Refused(format!("`layercake serve` ended by itself ({status})")))
            }
            _ => Err(Error::Refused("`layercake serve` does not run".to_owned())),
        }
    }

    /// Ends the server as a crash does.
    pub(super) fn kill_server(&mut self) -> Result<(), Error> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        server
            .kill()
            .and_then(|()| server.wait())
            .map(drop)
            .map_err(|source| Error::Kernel { doing: "kill `layercake serve`".to_owned(), source })
    }

    /// Puts images into the server's store.
    pub(super) fn import(&self, images: &[Source]) -> Result<(), Error> {
        for image in images {
            interrupt::check()?;
            let path = image.path.to_string_lossy();
            let mut args = vec!["image", "import", &path, "--name", image.name];
            if !image.command.is_empty() {
                args.push("--");
                args.extend(image.command);
            }
            self.client.run(&args)?;
        }
        Ok(())
    }

    /// Makes the cluster file what the cluster should be.
    pub(super) fn apply(&self) -> Result<(), Error> {
        self.client.run(&["apply", "--file", &self.file().to_string_lossy()]).map(drop)
    }

    /// The body of a page of a node, fetched as a user of the node would.
    pub(super) fn page(&self, address: Ipv4Addr, path: &str) -> Result<String, Error> {
        let [ip, rest @ ..] = self.inside();
        let url = format!("http://{address}{path}");
        let mut curl = Command::new(ip);
        check(curl.args(rest).args(["curl", "--silent", "--show-error", "--max-time", "10", &url]))
    }

    /// The process that is the machine of a node.
    pub(super) fn machine(&self, node: &str) -> Result<Identity, Error> {
        let path = self.machine_file(node, "pid");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let found = text.trim().parse().ok().and_then(Identity::of);
        found.ok_or_else(|| Error::Refused(format!("the machine of {node} does not run")))
    }

    /// Looks once, shows what is seen, and gives it.
    pub(super) fn look(&mut self, waits_for: &str) -> Result<BTreeMap<String, Node>, Error> {
        let nodes = self.client.nodes()?;
        let explained = self.client.explain(&nodes)?;
        self.screen.show(&nodes, &explained, waits_for);
        Ok(nodes.into_iter().map(|node| (node.name.clone(), node)).collect())
    }

    /// Shows the nodes until `done` says so.
    pub(super) fn wait<T>(
        &mut self,
        waits_for: &str,
        limit: Duration,
        mut done: impl FnMut(&Self, &BTreeMap<String, Node>) -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + limit;
        loop {
            interrupt::check()?;
            let seen = self.look(waits_for);
            // The answer may be an error because of the interrupt, or of the server's end.
            interrupt::check()?;
            self.check_server()?;
            if let Ok(Some(found)) = seen.as_ref().map(|nodes| done(self, nodes)) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                seen?;
                return Err(Error::Refused(format!(
                    "waited {} s in vain for: {waits_for}",
                    limit.as_secs()
                )));
            }
            pause(LOOK_EVERY);
        }
    }

    /// Ends the server in an orderly way, so that it does not bring back the machines that end next, and
    /// takes the lab down.
    pub(super) fn take_down(mut self) -> Result<Leftovers, Error> {
        self.screen.close();
        if let Some(mut server) = self.server.take() {
            let pid = i32::try_from(server.id()).ok();
            end_all(pid.and_then(Identity::of).as_slice(), SERVER_LIMIT);
            let _ = server.wait();
        }
        self.lab.take_down()
    }
}

/// Between two looks. A person in front of the screen would do the same: the looks go through the command
/// line, and what is waited for may also be a web page or the start of a server, which announce nothing.
#[allow(clippy::disallowed_methods)]
pub(super) fn pause(pause: Duration) {
    std::thread::sleep(pause);
}

/// Builds kernel and initramfs of Layer 0 into `out`.
pub(super) fn build_minos(
    program: &Path,
    node: &Path,
    out: &Path,
    cache: &Path,
) -> Result<(), Error> {
    let mut build = Command::new(program);
    // Its machines are virtual, and this kernel is a third of the other one.
    build.args(["minos", "build", "--kernel-package", "linux-image-cloud-amd64"]);
    build.args(["--profile", "virtual", "--out"]).arg(out);
    build.arg("--node").arg(node).arg("--cache").arg(cache);
    check(&mut build).map(drop)
}

/// What a command says, whether or not it succeeds: for evidence.
pub(super) fn whatever(command: &mut Command) -> String {
    match capture(command) {
        Ok(finished) => finished.output,
        Err(error) => error.with_causes(),
    }
}
