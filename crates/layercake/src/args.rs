//! What can be typed.

use crate::client::Address;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use layercake_sim_world::Kind;
use std::path::PathBuf;

/// Where the server's API is unless said otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "unix:/run/layercake/api.sock";

/// From machines that are switched off to running system images, kept so.
///
/// Wherever nodes are named, a node set does: `n1`, `ml[001-130]`, `@rack1`, `ml[001-130]!ml007`,
/// `run_state=ERROR`, `cfg:images.web.reference=web:2`.
#[derive(Debug, Parser)]
#[command(name = "layercake", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Where the server is: unix:/path or http://127.0.0.1:PORT
    #[arg(long, global = true, env = "LAYERCAKE_SERVER", default_value = DEFAULT_SOCKET)]
    pub(crate) server: Address,

    /// How answers are printed
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Output,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
    /// Names only, one a line
    Name,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the server, with everything that machines need, until it is stopped
    Serve(Box<Serve>),
    /// Make a cluster file what the cluster should be
    Apply(Apply),
    /// Show what applying a cluster file would change
    Diff(ClusterFile),
    /// Show what applying a cluster file would lead to: steps, times, and what is disrupted
    ///
    /// Nothing is changed.
    Plan {
        #[command(flatten)]
        file: ClusterFile,
        /// Change nothing, as without it: a plan never does
        #[arg(long)]
        dry_run: bool,
        /// Keep the plan, for `layercake apply --plan`
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// List nodes, images or modules
    #[command(subcommand)]
    Get(Get),
    /// What takes steps for nodes
    #[command(subcommand)]
    Modules(Modules),
    /// Show everything that is known of nodes: wanted beside discovered
    Describe {
        /// Which nodes
        nodes: String,
        /// What they were at that time, as with get nodes
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Say what is done about nodes, what comes next, or what stands in the way
    Explain {
        /// Which nodes
        nodes: String,
    },
    /// Draw the steps that there are: `layercake graph | dot -Tsvg > steps.svg`
    Graph(Graph),
    /// Show what happened
    Events(Events),
    /// Show what became of a node: what it was told, what it did, and how long it took
    History(History),
    /// Switch nodes on or off, and keep them so; or power-cycle them (as `reboot` does)
    Power {
        /// What to do
        #[arg(value_enum)]
        action: PowerAction,
        /// Which nodes
        nodes: String,
        /// Cut the power at once: images are not stopped first (cycle only)
        #[arg(long)]
        hard: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Restart nodes: their images are stopped, then the power goes off and on
    ///
    /// The restart waits for its turn: for whoever uses a node, for limits, holds and freezes. Until the power
    /// is off it can be withdrawn with --cancel.
    Reboot {
        /// Which nodes
        nodes: String,
        /// Cut the power at once: images are not stopped first
        #[arg(long, conflicts_with = "cancel")]
        hard: bool,
        /// Withdraw a restart that waits
        #[arg(long, conflicts_with_all = ["why", "until"])]
        cancel: bool,
        #[command(flatten)]
        terms: Terms,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Take no step on these nodes until they are released
    Hold {
        /// Which nodes
        nodes: String,
        #[command(flatten)]
        terms: Terms,
    },
    /// End the hold of these nodes
    Release {
        /// Which nodes
        nodes: String,
    },
    /// Forget the failures of these nodes, and try again now
    Retry {
        /// Which nodes
        nodes: String,
    },
    /// Cut the power of machines that were found running, whatever runs there, and boot them
    ///
    /// A machine that is on when the server sees it for the first time, and whose node is not heard, is left
    /// alone: it may do somebody's work. This says that it may end.
    TakeOver {
        /// Of which nodes
        nodes: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Say that these nodes are in use, so that nothing disturbs them
    Busy {
        /// Which nodes
        nodes: String,
        #[command(flatten)]
        terms: Terms,
    },
    /// Say that these nodes are no longer in use
    Free {
        /// Which nodes
        nodes: String,
    },
    /// Take no disruptive step until thawed
    Freeze {
        /// On which nodes; anywhere without
        nodes: Option<String>,
        #[command(flatten)]
        terms: Terms,
    },
    /// End a freeze
    Thaw {
        /// Of which nodes; without, that of everything, and a storm hold
        nodes: Option<String>,
    },
    /// System images in the server's store
    #[command(subcommand)]
    Image(Image),
    /// The minimal operating system that stays on every node (Layer 0)
    #[command(subcommand)]
    Minos(Minos),
    /// Attach to a node's console; end with Ctrl-]
    Console {
        /// Which node
        node: String,
        /// Show what was said so far, and end
        #[arg(long)]
        log: bool,
    },
    /// Show what the images of a node printed
    Logs {
        /// Which node
        node: String,
        /// Go on with what is printed from then on
        #[arg(short, long)]
        follow: bool,
    },
    /// Show how the server is
    Status,
    /// Run a server whose machines are simulated, or a simulated day of a fleet
    ///
    /// With --serve: the server as it ships, with machines that do not exist, until it is stopped. No
    /// root, and nothing on a network but the API. Without: one day of a fleet, faults and all, as fast
    /// as it can be computed; exit code 1 when an invariant was violated on it.
    Sim(Box<Sim>),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Sim {
    /// Run the server until it is stopped
    #[arg(long)]
    pub(crate) serve: bool,
    /// How many machines there are; 130 without
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) nodes: Option<u32>,
    /// What the machines do, as far as it is random
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) seed: u64,
    /// How many times as fast as elsewhere time passes for the machines, 0.1 to 600
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, requires = "serve")]
    pub(crate) speed: f64,
    /// So many faults an hour of the machines come by themselves, on average
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, requires = "serve")]
    pub(crate) chaos: f64,
    /// The cluster file to begin with; without, one is made up
    #[arg(long, value_name = "FILE", requires = "serve", conflicts_with = "nodes")]
    pub(crate) cluster: Option<PathBuf>,
    /// The loopback address of the API
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8470", requires = "serve")]
    pub(crate) api_listen: std::net::SocketAddr,
    /// The unix socket of the API; default: api.sock in the state directory
    #[arg(long, value_name = "PATH", requires = "serve")]
    pub(crate) socket: Option<PathBuf>,
    /// Where everything is kept, and found again by the next one; without, nothing is
    #[arg(long, value_name = "DIR", requires = "serve")]
    pub(crate) state: Option<PathBuf>,
    /// Where the files of modules out of process are; there need not be any
    #[arg(long, value_name = "DIR", requires = "serve")]
    pub(crate) modules: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) action: Option<SimAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SimAction {
    /// Faults of simulated machines
    #[command(subcommand)]
    Fault(Fault),
    /// Show how a simulation is: its seed, its speed, and whether it keeps up
    Status,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Fault {
    /// Break something: `rack-power r3`, `hang n[1-3]`, `lossy`
    #[command(after_help = fault_kinds())]
    Add {
        /// What breaks
        kind: Kind,
        /// Which nodes, or which rack
        target: Option<String>,
        /// For how long, in the time of the machines (90s, 10m, 1h); without, until it is cleared
        #[arg(long = "for", value_name = "DURATION")]
        lasts: Option<String>,
    },
    /// List the faults that there are
    List,
    /// Make whole again
    #[command(arg_required_else_help = true)]
    Clear {
        /// The numbers of the faults
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<u64>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
}

fn fault_kinds() -> String {
    let line = |kind: &Kind| format!("  {:<12} {}", kind.name(), kind.about());
    let lines: Vec<String> = Kind::ALL.iter().map(line).collect();
    format!("Kinds:\n{}", lines.join("\n"))
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The cluster file to apply at the start; without, the one applied last counts
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster: Option<PathBuf>,
    /// Where everything that lasts is kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/layercake")]
    pub(crate) state: PathBuf,
    /// Where sockets and running machines are
    #[arg(long, value_name = "DIR", default_value = "/run/layercake")]
    pub(crate) run: PathBuf,
    /// Kernel and initramfs of Layer 0, as made by `layercake minos build`
    #[arg(long, value_name = "DIR", default_value = "/var/lib/layercake/minos")]
    pub(crate) minos: PathBuf,
    /// Where the programs are that firmware loads: undionly.kpxe, snponly.efi, ipxe.efi (Debian: ipxe)
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/ipxe")]
    pub(crate) boot_programs: PathBuf,
    /// Where the files of modules out of process are; there need not be any
    #[arg(long, value_name = "DIR", default_value = "/etc/layercake/modules.d")]
    pub(crate) modules: PathBuf,
    /// The unix socket of the API; default: api.sock in the run directory
    #[arg(long, value_name = "PATH")]
    pub(crate) api_socket: Option<PathBuf>,
    /// The loopback address of the API
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8470")]
    pub(crate) api_listen: std::net::SocketAddr,
}

/// Why, and until when.
#[derive(Debug, Default, Args)]
pub(crate) struct Terms {
    /// Why, for whoever wonders
    #[arg(long, value_name = "REASON")]
    pub(crate) why: Option<String>,
    /// When it ends by itself: how far away (30m, 2h, 1d), a time of day in UTC (18:00), or a date and
    /// time (2026-11-25T18:00:00Z); without, when somebody ends it
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("what").required(true).args(["file", "plan"])))]
pub(crate) struct Apply {
    /// The cluster file; `-` reads it from standard input
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Do just what was planned (`layercake plan --save`), or nothing if the state moved on
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    /// Change nothing: show what it would lead to, as `layercake plan` does
    #[arg(long, conflicts_with = "plan")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) agreed: Agreed,
}

/// What is permitted beforehand.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Agreed {
    /// Do not ask: remove nodes, even if they are more than half of all
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Apply the file of a cluster with another name, which then is the name of this one
    #[arg(long)]
    pub(crate) rename: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterFile {
    /// The cluster file; `-` reads it from standard input
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Get {
    /// List nodes with their states
    #[command(visible_alias = "node")]
    Nodes {
        /// Which nodes; all without
        nodes: Option<String>,
        /// Redraw in place whenever something changes; in a pipe, print what changes, a line for each node
        #[arg(short, long)]
        watch: bool,
        /// What they were at that time: how long ago (2h), a time of day in UTC (14:05), or a date and
        /// time (2026-11-25T14:05:00Z)
        #[arg(long, value_name = "TIME", conflicts_with = "watch")]
        at: Option<String>,
    },
    /// List images in the server's store
    Images,
    /// List the modules that take steps for nodes, and how each one is
    Modules,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Modules {
    /// Have the server read the files of modules again, and go over to them: all of them, or none when
    /// anything is wrong with any
    Reload,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Graph {
    /// In which language; without, as --output says, which is dot for people
    #[arg(long, value_enum)]
    pub(crate) format: Option<GraphFormat>,
    /// For this node: where it is, its way ahead, and why other ways are closed
    #[arg(long)]
    pub(crate) node: Option<String>,
    #[command(subcommand)]
    pub(crate) action: Option<GraphAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GraphAction {
    /// Check the steps for what their author did not mean; exit code 1 when something is found
    Check,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// For Graphviz
    Dot,
    /// For Mermaid
    Mermaid,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Of which nodes; of all without
    pub(crate) nodes: Option<String>,
    /// Go on with what happens from then on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with this number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) from: Option<u64>,
    /// How many at most; default: the latest 50, or 10000 from where it begins
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) limit: Option<usize>,
    /// Only of these kinds, separated by commas, such as held,released,failed
    #[arg(short, long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    #[command(flatten)]
    pub(crate) span: Span,
}

/// From when to when.
#[derive(Debug, Default, Args)]
pub(crate) struct Span {
    /// Not before: how long ago (1h), a time of day in UTC (14:05), or a date and time
    /// (2026-11-25T14:05:00Z)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Not after
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Which node; one that is gone has a history too
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) span: Span,
    /// Of how many events at most, the latest
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 2000)]
    pub(crate) limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PowerAction {
    /// Should be on
    On,
    /// Should be off
    Off,
    /// Off and on again, once, as after a hang
    Cycle,
    /// Show the power
    Status,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Import a directory, a tar archive (plain, gz, xz, zst, bz2) or a squashfs; `-` is standard input
    Import {
        /// What to import
        source: PathBuf,
        /// What it is called from then on, such as web:1
        #[arg(short, long)]
        name: String,
        /// The main process of a plain image; without, the image is one with systemd
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// List images
    List,
    /// Show everything about an image, also what its import left out
    Inspect {
        /// Its name or digest
        image: String,
    },
    /// Take the name of an image away, and the image when no name is left
    Remove {
        /// Its name or digest
        image: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Minos {
    /// Build kernel and initramfs from a Debian kernel package and the node binary
    Build {
        /// The directory to write vmlinuz and initramfs.img to
        #[arg(short = 'O', long, value_name = "DIR")]
        out: PathBuf,
        /// The static layercake-node binary; default: beside this program
        #[arg(long, value_name = "FILE")]
        node: Option<PathBuf>,
        /// A Debian kernel package; without, the current one is downloaded
        #[arg(long, value_name = "FILE.deb")]
        kernel: Option<PathBuf>,
        /// The package to download; default: linux-image-amd64 or linux-image-arm64, as the node binary is, which have
        /// the drivers of hardware. linux-image-cloud-amd64 is smaller, for virtual machines with virtio only
        #[arg(long, value_name = "NAME")]
        kernel_package: Option<String>,
        /// Which drivers go in
        #[arg(long, value_enum, default_value = "full")]
        profile: Profile,
        /// One more kernel module; may be given several times
        #[arg(long = "module", value_name = "NAME")]
        modules: Vec<String>,
        /// Put in a static busybox, for a shell on the console (kernel command line: layercake.shell)
        #[arg(long, value_name = "FILE")]
        shell: Option<PathBuf>,
        /// Where downloaded packages are kept
        #[arg(long, value_name = "DIR", default_value = "/var/cache/layercake")]
        cache: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Virtual machines: small
    Virtual,
    /// Servers: the usual network and storage drivers too
    Full,
}
