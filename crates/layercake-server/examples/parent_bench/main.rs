//! Measures a whole parent with 100,000 children (or as many as the first argument says, for as many seconds
//! as the second) on real
//! sockets: what a join, a hello and the hellos of all children every ten seconds cost, what a node
//! takes of memory, and whether anybody who speaks is declared dead.
//!
//! The children are simulated by another process, with the state machine that nodes have: every
//! node joins through TLS, and every datagram is sealed and opened. Only this process, the parent,
//! is measured, by the processor's time that it had: what others do on the machine does not count.
//! Prints one JSON object a line. Meaningful in a release build only.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod batch;
mod children;
mod documents;
mod echo;
mod nodes;
#[path = "../common/obedient.rs"]
mod obedient;
mod parent;

use parent::Site;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// What the server is shipped with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NODES: usize = 100_000;

/// How often every child says hello.
const HELLO: Duration = Duration::from_secs(10);

/// How often all children say hello in a row, as fast as the parent answers.
const ROUNDS: usize = 5;

/// How long all children say hello as they do every day: some times as long as any silence of
/// theirs is borne.
const STEADY: Duration = Duration::from_secs(120);

/// One child of so many falls silent, to see that silence is judged.
const SILENT_ONE_OF: usize = 1_000;

/// The process that plays the children. Told and asked a line at a time.
struct Children {
    process: Child,
    told: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Children {
    fn start() -> Self {
        let mut this = Command::new(std::env::current_exe().unwrap());
        let this = this.arg("children").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = this.spawn().unwrap();
        let told = process.stdin.take().unwrap();
        let says = BufReader::new(process.stdout.take().unwrap());
        Self { process, told, says }
    }

    /// Gives a command, and waits for the line that answers it: numbers.
    fn ask(&mut self, command: &str) -> Vec<u64> {
        self.tell(command);
        self.answer()
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.told, "{command}").unwrap();
        self.told.flush().unwrap();
    }

    fn answer(&mut self) -> Vec<u64> {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the children have ended");
        line.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The processor's time that this process had so far.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn say(name: &str, children: usize, value: f64, unit: &str) {
    println!(
        "{{\"name\":\"parent.{name}\",\"children\":{children},\"value\":{value:.4},\"unit\":\"{unit}\"}}"
    );
}

/// Waits for the answer of the children, while the runtime goes on.
fn wait<T: Send + 'static>(
    children: Children,
    work: impl FnOnce(&mut Children) -> T + Send + 'static,
) -> impl Future<Output = (Children, T)> {
    let done = tokio::task::spawn_blocking(move || {
        let mut children = children;
        let answer = work(&mut children);
        (children, answer)
    });
    async move { done.await.unwrap() }
}

async fn measure(count: usize, steady: Duration) {
    let mut children = Children::start();
    let site = Site::start(count, HELLO).await;
    let per_node = |bytes: u64| bytes as f64 / count as f64 / 1024.0;
    say("memory_of_engine_and_views", count, per_node(site.grown()), "KiB");

    for line in site.invitations().await {
        children.tell(&line);
    }
    let began = processor();
    let (children, joined) = wait(children, |children| children.ask("join")).await;
    site.until_in_touch(count).await;
    let took = processor() - began;
    assert_eq!(joined, [count as u64, 0], "all have joined, and none lost its parent");
    say("join", count, took.as_secs_f64() * 1e6 / count as f64, "us");
    say("memory", count, per_node(site.grown()), "KiB");
    eprintln!("all have joined: {}", site.counters());

    // All children at their own pace, but a few who fall silent.
    let deaths = site.watch_deaths();
    let silent = count / SILENT_ONE_OF;
    let (began, watch) = (processor(), Instant::now());
    let before = site.hellos().await;
    let command = format!("steady {} {silent}", steady.as_secs());
    let (children, steady) = wait(children, move |children| children.ask(&command)).await;
    let took = (processor() - began).as_secs_f64();
    let lasted = watch.elapsed().as_secs_f64();
    let heard = site.hellos().await - before;
    let [sent, answered, refused, rejoin] = steady[..] else { panic!("{steady:?}") };
    eprintln!("steady: {sent} sent, {heard} heard, {answered} answered, {refused} refused");
    assert_eq!(rejoin, 0, "children gave the parent up");
    say("load", count, took / lasted, "cores");
    say("load_per_hello", count, took * 1e6 / heard as f64, "us");
    say("hellos_lost", count, sent as f64 - heard as f64, "");
    let deaths = deaths.await;
    let rightly = (count - silent..count).filter(|n| deaths.contains(&nodes::name(*n))).count();
    assert_eq!(rightly, silent, "whoever was silent is declared dead");
    say("wrongly_dead", count, (deaths.len() - rightly) as f64, "");

    // All children, as fast as they are answered.
    let (began, watch) = (processor(), Instant::now());
    let command = format!("flood {ROUNDS}");
    let (children, flood) = wait(children, move |children| children.ask(&command)).await;
    let took = (processor() - began).as_secs_f64();
    let [sent, answered, refused] = flood[..] else { panic!("{flood:?}") };
    eprintln!("flood: {sent} sent, {answered} answered in {:?}", watch.elapsed());
    // Late answers to what was said before may be among them.
    assert!(answered >= sent && refused == 0, "{}", site.counters());
    say("hellos", count, sent as f64 / took, "1/s");
    drop(children);
    site.end().await;
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "children") {
        return children::main();
    }
    if let [first, count, ..] = &arguments[..]
        && first == "documents"
    {
        return documents::main(count.parse().unwrap());
    }
    let count = arguments.first().map_or(NODES, |text| text.parse().unwrap());
    let steady = arguments.get(1).map_or(STEADY, |text| Duration::from_secs(text.parse().unwrap()));
    // What the kernel needs for it, in the same run, before anything else is in memory.
    for pairs in (0..3).map(|_| echo::measure()) {
        say("echo", 0, pairs, "1/s");
    }
    say("memory_of_cfg_and_dsc", count, documents::measure(count) / 1024.0, "KiB");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(count, steady));
}
