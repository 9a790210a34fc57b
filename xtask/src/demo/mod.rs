//! The main job: from nothing to a running cluster, in a lab.
//!
//! Everything goes through Layercake's own command line, as a person would do it: make Layer 0, start the
//! server, import images, apply the cluster file, and watch. With `--check` the promises that come with it
//! are put to the test, a line for each.

mod checks;
mod client;
mod cluster;
mod evidence;
pub(crate) mod firmware;
mod images;
mod measure;
mod progress;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::run::{human, root, target};
use crate::{deps, interrupt, node_build, process, run};
use cluster::Cluster;

pub(crate) use measure::measure;

/// A first boot without hardware virtualisation on a busy machine; who watches may end it sooner.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Until somebody ends it.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Assert every promise, a line for each, and end; for machines, and for people in doubt
    #[arg(long)]
    pub(crate) check: bool,
    /// Install missing Debian packages without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Whether the demo is part of this build; the test run includes it when it is.
pub(crate) const IS_PART_OF_THIS_BUILD: bool = true;

/// What is made before there is a lab.
struct Pieces {
    program: PathBuf,
    minos: PathBuf,
    images: Vec<images::Source>,
}

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    deps::ensure(args.yes)?;
    run::require_root("demo", "a network of virtual machines")?;
    let pieces = make_pieces()?;
    let mut cluster = Cluster::new(pieces.program.clone(), pieces.minos.clone())?;
    if args.check {
        return check(cluster, &pieces, checks::CHECKS, bring_up);
    }
    let done = bring_up(&mut cluster, &pieces)
        .and_then(|()| checks::wait_for_all(&mut cluster, PATIENCE))
        .and_then(|()| stay(&mut cluster));
    if !matches!(done, Ok(()) | Err(Error::Interrupted)) {
        cluster.screen.close();
        evidence::keep(&cluster, "n1");
    }
    let (left, _) = take_down(cluster)?;
    match done {
        Ok(()) | Err(Error::Interrupted) if left.is_empty() => {
            println!("The lab is gone: no process, namespace, mount or file of it is left.");
            Ok(())
        }
        Ok(()) | Err(Error::Interrupted) => {
            Err(Error::Refused(format!("the lab left things behind:\n{left}")))
        }
        Err(error) => Err(error),
    }
}

/// Builds and makes everything, saying what and how long it takes.
fn make_pieces() -> Result<Pieces, Error> {
    make_pieces_with(images::make)
}

/// The same, with these images.
fn make_pieces_with(
    images: impl FnOnce(&Path) -> Result<Vec<images::Source>, Error>,
) -> Result<Pieces, Error> {
    let target = target();
    let program = target.join("debug/layercake");
    step("layercake", || {
        run::check(run::cargo().args(["build", "--package", "layercake"])).map(drop)
    })?;
    let node = step("the static binary of Layer 0", node_build::build)?;
    let minos = target.join("demo/minos");
    if !is_made_of(&minos.join("minos.json"), &[&program, &node]) {
        step("kernel and initramfs of Layer 0", || {
            cluster::build_minos(&program, &node, &minos, &target.join("demo/packages"))
        })?;
    }
    let images = step("system images", || images(&target.join("demo/images")))?;
    Ok(Pieces { program, minos, images })
}

/// Whether a file is newer than everything that it is made of, which this program is a part of.
fn is_made_of(file: &Path, parts: &[&Path]) -> bool {
    let when = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let own = std::env::current_exe().ok();
    let made = when(file);
    let mut parts = parts.iter().copied().chain(own.as_deref());
    made.is_some() && own.is_some() && parts.all(|part| when(part).is_some_and(|t| Some(t) < made))
}

fn step<T>(what: &str, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    interrupt::check()?;
    println!("  ....  {what}");
    let started = Instant::now();
    let made = work();
    // A program that a Ctrl-C has ended did not fail.
    interrupt::check()?;
    let made = made?;
    println!("  made  {what} ({})", human(started.elapsed()));
    Ok(made)
}

/// Starts the server and tells it what there should be.
fn bring_up(cluster: &mut Cluster, pieces: &Pieces) -> Result<(), Error> {
    cluster.start_server()?;
    cluster.screen.say("The server runs; importing three images.");
    cluster.import(&pieces.images)?;
    cluster.apply()?;
    cluster.screen.say("The cluster file is applied; three machines that are off are to be on.");
    Ok(())
}

/// Says what runs and what to try, and shows the nodes until somebody ends it.
fn stay(cluster: &mut Cluster) -> Result<(), Error> {
    let took = human(cluster.age());
    let inside = cluster.inside().join(" ");
    let text = format!(
        "\nThree nodes run, {took} after their lab was made: n1 and n2 serve a page from web:1, n3 runs \
         systemd from login:1.\n  {sudo}{inside} curl {page}\n\n{next}\n\nCtrl-C takes it all down.\n",
        sudo = sudo(),
        page = checks::A_PAGE,
        next = next(&cluster.client),
    );
    cluster.screen.say(&text);
    cluster.wait("Ctrl-C, which takes it all down", FOR_EVER, |_, _| None)
}

/// The five commands to try next.
fn next(client: &client::Client) -> String {
    let program = client.program.strip_prefix(root()).unwrap_or(&client.program);
    let lake = format!("{}{} --server {}", sudo(), program.display(), client.server);
    [
        ("wanted beside discovered", "describe n1"),
        ("what is done about a node, and why", "explain n3"),
        ("everything as it happens", "events --follow"),
        ("pull the plug of a machine, and watch", "power cycle n2"),
        ("what its image printed", "logs n3"),
    ]
    .map(|(what, args)| format!("  # {what}\n  {lake} {args}"))
    .join("\n")
}

/// The lab is root's; who came here with sudo needs it in the next terminal too.
fn sudo() -> &'static str {
    if std::env::var_os("SUDO_USER").is_some() { "sudo " } else { "" }
}

/// Takes everything down and says what is left, also where a lab does not look, and how long it took.
fn take_down(cluster: Cluster) -> Result<(String, Duration), Error> {
    let started = Instant::now();
    let dir = cluster.dir().to_owned();
    let mut left = cluster.take_down()?.to_string();
    for found in traces(&dir) {
        left.push_str(&format!("  {found}\n"));
    }
    Ok((left, started.elapsed()))
}

/// What still has to do with a directory that is gone: processes that were started with it, block devices
/// that are files of it.
fn traces(dir: &Path) -> Vec<String> {
    let text = dir.to_string_lossy().into_owned();
    let mentions = |path: &Path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(&text)
    };
    let processes = process::all(|proc| mentions(&proc.join("cmdline")));
    let processes = processes.into_iter().map(|p| format!("process {} {}", p.pid, p.command()));
    let blocks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let loops = blocks.filter(|block| mentions(&block.path().join("loop/backing_file")));
    let loops = loops.map(|block| format!("block device {}", block.file_name().to_string_lossy()));
    let dir = dir.exists().then(|| format!("directory {text}"));
    processes.chain(loops).chain(dir).collect()
}

/// Puts every promise to the test, after what they begin with. The first that is not kept ends it, since the
/// others build on it.
fn check(
    mut cluster: Cluster,
    pieces: &Pieces,
    checks: &[checks::Check],
    bring_up: fn(&mut Cluster, &Pieces) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut passed, mut failed) = (0, 0);
    for (index, check) in checks.iter().enumerate() {
        let started = Instant::now();
        let begun = if index == 0 { bring_up(&mut cluster, pieces) } else { Ok(()) };
        let outcome = begun.and_then(|()| (check.run)(&mut cluster));
        interrupt::check()?;
        let verdict = verdict(index + 1, check.promise, started.elapsed(), &outcome);
        cluster.screen.say(&verdict);
        if outcome.is_ok() {
            passed += 1;
            continue;
        }
        failed += 1;
        cluster.screen.close();
        evidence::keep(&cluster, check.node);
        for (index, check) in checks.iter().enumerate().skip(index + 1) {
            println!("({}) not run  {}", index + 1, check.promise);
        }
        break;
    }
    let (left, took) = take_down(cluster)?;
    let outcome = if left.is_empty() { Ok(String::new()) } else { Err(Error::Refused(left)) };
    let number = checks.len() + 1;
    println!("{}", verdict(number, self::checks::NOTHING_LEFT, took, &outcome));
    *(if outcome.is_ok() { &mut passed } else { &mut failed }) += 1;
    println!("{passed} passed, {failed} failed");
    if failed == 0 { Ok(()) } else { Err(Error::Status(1)) }
}

fn verdict(
    number: usize,
    promise: &str,
    took: Duration,
    outcome: &Result<String, Error>,
) -> String {
    let took = human(took);
    match outcome {
        Ok(note) if note.is_empty() => format!("({number}) ok      {took:>12}  {promise}"),
        Ok(note) => format!("({number}) ok      {took:>12}  {promise}: {note}"),
        Err(error) => format!("({number}) FAILED  {took:>12}  {promise}: {}", error.with_causes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_what_was_promised_how_it_went_and_how_long_it_took() {
        let took = Duration::from_millis(1500);
        let good = verdict(2, "it works", took, &Ok("twice".to_owned()));
        assert_eq!(good, "(2) ok             1.5 s  it works: twice");
        let bad = verdict(3, "it works", took, &Err(Error::Refused("it does not".to_owned())));
        assert_eq!(bad, "(3) FAILED         1.5 s  it works: it does not");
    }

    #[test]
    fn what_is_older_than_one_of_its_parts_is_made_anew() {
        let own = std::env::current_exe().unwrap_or_default();
        assert!(!is_made_of(&own, &[]), "nothing is newer than itself");
        assert!(!is_made_of(Path::new("/nowhere"), &[]));
        assert!(!is_made_of(Path::new("/proc/self/stat"), &[Path::new("/nowhere")]));
        assert!(is_made_of(Path::new("/proc/self/stat"), &[&own]), "made just now");
    }

    #[test]
    fn five_commands_are_proposed_with_the_address_of_this_server() {
        let program = target().join("debug/layercake");
        let client = client::Client { program, server: "unix:/x/api.sock".to_owned() };
        let text = next(&client);
        let lines = text.lines().filter(|line| line.contains("--server unix:/x/api.sock "));
        assert_eq!(lines.count(), 5, "{text}");
    }
}
