//! Process 1 of Layer 0: small, single-threaded, and never ends.
//!
//! It runs twice. As the first program of the initramfs it mounts what it needs, puts the seed away
//! and moves to a root that containers can be made from (`root`); then it executes itself there
//! and stays: kernel modules, the agent, orphans, and in the end an orderly halt.
//!
//! No step of the start is allowed to stop it: what fails is said on the console and in the log,
//! and the next step is tried. A panic is a defect, is reported like one, and makes init execute
//! itself anew; the containers and the agent do not notice.

mod console;
mod mounts;
mod panic;
mod root;
mod run;
mod supervise;

use std::ffi::CString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::modules::Loader;
use crate::network::Hardware;
use crate::seed;

pub use panic::{install as install_panic_hook, report_path as panic_report_path};
pub use run::{AGENT_END_PATH, Halt, ask_to_halt, last_agent_end};
pub use supervise::{Action, Event, Supervisor};

use console::Console;

/// What the second run is called with.
const SETTLED: &str = "settled";
/// Modules that are always needed, whatever devices there are.
const MODULE_LIST: &str = "/etc/layercake/modules";

/// The role's entry.
#[must_use]
pub fn run() -> ExitCode {
    install_panic_hook("init");
    if rustix::process::getpid() != rustix::process::Pid::INIT {
        return ExitCode::from(2);
    }
    // A process without these would have the first files it opens as its standard streams; the
    // kernel opens them only if the initramfs has /dev/console.
    console::open_standard_streams();
    if std::env::args().nth(1).as_deref() == Some(SETTLED) { settled() } else { first_run() }
}

fn first_run() -> ! {
    let mut console = Console::early();
    for error in mounts::mount_all(&mounts::EARLY) {
        console.say(&error);
    }
    console::open_standard_streams();
    if let Err(error) = fs::create_dir_all("/run/layercake/log") {
        console.say(&format!("cannot make /run/layercake/log: {error}"));
    }
    match seed::put_away(Path::new(layercake_seed::SEED_PATH), Path::new(seed::KEPT_PATH)) {
        Ok(true) => {}
        Ok(false) => console.say("no seed: this machine was not booted by its parent"),
        Err(error) => console.say(&error_chain(&error)),
    }
    if !root::has_overlay() {
        let mut loader = Loader::open(module_dir());
        if let Err(error) = loader.load("overlay") {
            console.say(&error_chain(&error));
        }
    }
    for problem in root::move_to_a_real_root() {
        console.say(&problem);
    }
    // Executing the copy in the new root lets go of the last page of the initramfs.
    let failed = Command::new("/init").arg(SETTLED).exec();
    console.say(&format!("cannot execute /init in the new root: {failed}"));
    settled()
}

fn settled() -> ! {
    let mut console = Console::open();
    for error in mounts::mount_all(&mounts::LATE) {
        console.say(&error);
    }
    let mut loader = Loader::open(module_dir());
    let list = fs::read_to_string(MODULE_LIST).unwrap_or_default();
    let mut errors = loader.load_list(&list);
    errors.extend(loader.coldplug(Path::new("/sys/devices")));
    for error in errors {
        console.say(&error_chain(&error));
    }
    let loaded = loader.loaded().count();
    console.say(&format!("Layer 0 is up, {loaded} kernel modules"));
    let drivers_of =
        |modalias: &str| loader.drivers_of(modalias).into_iter().map(str::to_owned).collect();
    for problem in Hardware::look(Path::new("/sys")).problems(drivers_of) {
        console.say(&problem);
    }
    run::run_for_ever(console)
}

/// Says in words what stands between this machine's hardware and a network, if something does.
#[must_use]
pub fn hardware_problems() -> Vec<String> {
    let loader = Loader::open(module_dir());
    let drivers_of =
        |modalias: &str| loader.drivers_of(modalias).into_iter().map(str::to_owned).collect();
    Hardware::look(Path::new("/sys")).problems(drivers_of)
}

/// `/lib/modules/<release>`.
fn module_dir() -> PathBuf {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Path::new("/lib/modules").join(release)
}

/// An error with everything behind it, in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A word on the kernel's command line.
fn kernel_was_told(word: &str) -> bool {
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    cmdline.split_ascii_whitespace().any(|told| told == word)
}

/// Runs the debug shell on the console: `layercake-node shell`, a role of its own because a shell
/// needs a session and a terminal to itself.
#[must_use]
pub fn shell() -> ExitCode {
    let _ = rustix::process::setsid();
    let _ = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
    let _failed = Command::new("/bin/sh").arg0("-sh").exec();
    ExitCode::FAILURE
}

/// Lets every signal through. Init holds back the ones it waits for, and a process begins with its
/// parent's mask: without this, no program in any container could be asked to stop.
pub fn unblock_signals() {
    // It fails only for an unknown way to change the mask.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}
