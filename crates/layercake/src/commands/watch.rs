//! `layercake get nodes --watch`: redrawn in place on a terminal, changes only in a pipe.

use super::Failure;
use super::events::Messages;
use super::nodes::{COLUMNS, row};
use crate::args::Output;
use crate::client::{Client, ClientError};
use crate::show::{self, Layout, Screen, Size, Table};
use kraken_model::{NodeId, counted};
use layercake_server::api::NodeView;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// How much time lies between two looks at least: changes come in bursts.
const PAUSE: Duration = Duration::from_millis(250);

/// Watches the nodes of a path of the API until somebody ends it.
pub(crate) async fn nodes(client: &Client, output: Output, path: &str) -> Result<(), Failure> {
    // From before the first look, so that nothing falls between the two.
    let changed = Arc::new(Notify::new());
    let mut following = tokio::spawn(follow(client.clone(), Arc::clone(&changed)));
    let mut signals = Signals::take()?;
    let mut view = View::new(output)?;
    loop {
        let nodes: Vec<NodeView> = client.get(path).await?;
        view.show(&nodes)?;
        let pause = tokio::time::sleep(PAUSE);
        tokio::pin!(pause);
        let mut is_due = false;
        // What happens meanwhile is seen together at the end of the pause. Every arm is cancel-safe.
        while !(is_due && pause.is_elapsed()) {
            tokio::select! {
                () = changed.notified(), if !is_due => is_due = true,
                () = &mut pause, if !pause.is_elapsed() => {}
                told = signals.next() => match told {
                    Told::End => return Ok(()),
                    Told::Resize => view.redraw()?,
                    Told::Stop => view.stop()?,
                },
                gone = show::reader_gone() => return Err(gone.into()),
                ended = &mut following => {
                    ended??;
                    return Err("the server ended".into());
                }
            }
        }
    }
}

/// Tells of every event. Any may concern the nodes: a set of values, such as `run_state=ERROR`, has
/// other nodes all the time.
async fn follow(client: Client, changed: Arc<Notify>) -> Result<(), ClientError> {
    let mut pieces = client.open("/v1/events?limit=0&follow=true").await?;
    let mut messages = Messages::default();
    while let Some(piece) = pieces.next().await? {
        if !messages.push(&piece).is_empty() {
            changed.notify_one();
        }
    }
    Ok(())
}

/// What the terminal and the system tell a program that watches.
enum Told {
    End,
    Resize,
    Stop,
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    resize: tokio::signal::unix::Signal,
    stop: tokio::signal::unix::Signal,
}

impl Signals {
    fn take() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            resize: signal(SignalKind::window_change())?,
            stop: signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
        })
    }

    /// Cancel-safe.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::End,
            _ = self.terminate.recv() => Told::End,
            _ = self.hangup.recv() => Told::End,
            _ = self.resize.recv() => Told::Resize,
            _ = self.stop.recv() => Told::Stop,
        }
    }
}

/// Where nodes are shown.
enum View {
    Screen { screen: Screen, last: Seen },
    Pipe(Pipe),
}

impl View {
    fn new(output: Output) -> Result<Self, Failure> {
        let screen = if output == Output::Table { Screen::enter()? } else { None };
        Ok(match screen {
            Some(screen) => Self::Screen { screen, last: Seen::default() },
            None => Self::Pipe(Pipe { output, layout: None, shown: BTreeMap::new() }),
        })
    }

    fn show(&mut self, nodes: &[NodeView]) -> Result<(), Failure> {
        match self {
            Self::Pipe(pipe) => pipe.show(nodes).iter().try_for_each(|line| show::text(line)),
            Self::Screen { last, .. } => {
                last.take(nodes);
                self.redraw()
            }
        }
    }

    /// Draws what was shown last, such as in a window that has another size now.
    fn redraw(&mut self) -> Result<(), Failure> {
        let Self::Screen { screen, last } = self else { return Ok(()) };
        screen.draw(|size| frame(last, size, SystemTime::now()))
    }

    /// Stops as other programs do (Ctrl-Z), and goes on when it is told to.
    fn stop(&mut self) -> Result<(), Failure> {
        let stop = || kill_process(getpid(), Signal::STOP).map_err(std::io::Error::from);
        match self {
            Self::Pipe(_) => stop()?,
            Self::Screen { screen, .. } => {
                screen.leave();
                stop()?;
                screen.enter_again()?;
            }
        }
        self.redraw()
    }
}

/// What was seen last, and when each node was seen to change.
#[derive(Default)]
struct Seen {
    nodes: Vec<NodeView>,
    looks: u64,
    /// What a node was, and at which look it became that; those of the first look are of long ago.
    changed: BTreeMap<NodeId, (Vec<String>, u64)>,
}

impl Seen {
    fn take(&mut self, nodes: &[NodeView]) {
        self.nodes = nodes.to_vec();
        let look = self.looks;
        for node in nodes {
            let now = row(node);
            if self.changed.get(&node.name).is_none_or(|(before, _)| *before != now) {
                self.changed.insert(node.name.clone(), (now, look));
            }
        }
        self.looks += 1;
    }

    /// The look at which a node became what it is.
    fn since(&self, node: &NodeView) -> u64 {
        self.changed.get(&node.name).map_or(0, |(_, look)| *look)
    }
}

/// Nodes as lines that fill a screen. Where not all fit, those that are not as configured come first,
/// then those that have changed last.
fn frame(seen: &Seen, size: Size, now: SystemTime) -> Vec<String> {
    let nodes = &seen.nodes;
    let converged = nodes.iter().filter(|node| node.converged).count();
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    let time = format!("{:02}:{:02}:{:02}", now / 3600, now / 60 % 60, now % 60);
    let title =
        format!("{}, {converged} converged; {time} UTC; Ctrl-C ends", counted(nodes.len(), "node"));
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    // The title, the header, and a line that says what is left out.
    let (room, all) = (size.height.saturating_sub(2), nodes.len());
    let shown = if all <= room { all } else { room.saturating_sub(1) };
    if shown < all {
        order.sort_by_key(|at| (nodes[*at].converged, Reverse(seen.since(&nodes[*at]))));
    }
    let table = Table::new(&COLUMNS, nodes.iter().map(row));
    let layout = table.layout(Some(size.width));
    let mut lines = vec![show::shortened(&title, size.width), table.header(&layout)];
    lines.extend(order.iter().take(shown).map(|at| layout.line(&table.rows()[*at])));
    if shown < all {
        let hidden = &order[shown..];
        let others = hidden.iter().filter(|at| !nodes[**at].converged).count();
        let more = format!("… {} more, {others} of them not converged", hidden.len());
        lines.push(show::shortened(&more, size.width));
    }
    lines.truncate(size.height);
    lines
}

/// Nodes in a pipe: all of them once, then those that have changed.
struct Pipe {
    output: Output,
    layout: Option<Layout>,
    shown: BTreeMap<NodeId, Shown>,
}

/// What was printed of a node.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Row(Vec<String>),
    Whole(Value),
}

impl Pipe {
    /// The lines to be printed now.
    fn show(&mut self, nodes: &[NodeView]) -> Vec<String> {
        let mut lines = Vec::new();
        if self.output == Output::Table && self.layout.is_none() {
            let table = Table::new(&COLUMNS, nodes.iter().map(row));
            let layout = table.layout(None);
            lines.push(table.header(&layout));
            self.layout = Some(layout);
        }
        let is_there = |name: &NodeId| nodes.iter().any(|node| node.name == *name);
        let gone: Vec<NodeId> = self.shown.keys().filter(|name| !is_there(name)).cloned().collect();
        for name in gone {
            self.shown.remove(&name);
            lines.push(match self.output {
                Output::Table => format!("{name} is gone"),
                Output::Name => name.to_string(),
                Output::Json => json!({"name": name, "gone": true}).to_string(),
                Output::Yaml => format!("---\nname: {name}\ngone: true"),
            });
        }
        for node in nodes {
            let now = match self.output {
                Output::Table => Shown::Row(row(node)),
                _ => Shown::Whole(serde_json::to_value(node).unwrap_or_default()),
            };
            if self.shown.get(&node.name) == Some(&now) {
                continue;
            }
            lines.push(self.line(&node.name, &now));
            self.shown.insert(node.name.clone(), now);
        }
        lines
    }

    /// A node in one line; in YAML a document.
    fn line(&self, name: &NodeId, now: &Shown) -> String {
        match (now, &self.layout) {
            (Shown::Row(cells), Some(layout)) => layout.line(cells),
            (Shown::Row(cells), None) => cells.join("  "),
            (Shown::Whole(_), _) if self.output == Output::Name => name.to_string(),
            (Shown::Whole(value), _) if self.output == Output::Yaml => {
                let yaml = serde_saphyr::to_string(value).unwrap_or_default();
                format!("---\n{}", yaml.trim_end())
            }
            (Shown::Whole(value), _) => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(name: &str, power: &str, converged: bool) -> NodeView {
        serde_json::from_value(json!({
            "name": name, "converged": converged, "held": false,
            "cfg": {"phys_state": "POWER_ON"}, "dsc": {"phys_state": power, "run_state": "SYNC"},
        }))
        .unwrap()
    }

    fn nodes(count: usize) -> Vec<NodeView> {
        let one = |n| node(&format!("n{n:03}"), "POWER_ON", n != 7);
        (1..=count).map(one).collect()
    }

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn a_screen_is_filled_and_never_more_than_that() {
        let mut seen = Seen::default();
        seen.take(&nodes(9));
        let at = |width, height| frame(&seen, Size { width, height }, AT);
        let whole = at(80, 24);
        assert_eq!(whole.len(), 11, "{whole:#?}");
        assert_eq!(whole[0], "9 nodes, 8 converged; 00:00:00 UTC; Ctrl-C ends");
        assert!(whole[2].starts_with("n001"), "{whole:#?}");
        let low = at(40, 6);
        assert_eq!(low.len(), 6, "{low:#?}");
        assert!(low[2].starts_with("n007"), "what is not converged comes first: {low:#?}");
        assert_eq!(low[5], "… 6 more, 0 of them not converged");
        for (width, height) in [(1, 1), (5, 2), (20, 3), (80, 4)] {
            let lines = at(width, height);
            assert!(lines.len() <= height, "{lines:#?}");
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:#?}");
        }
    }

    #[test]
    fn what_has_changed_comes_into_view() {
        let (mut seen, mut all) = (Seen::default(), nodes(20));
        seen.take(&all);
        for name in ["n018", "n012"] {
            let at = all.iter().position(|node| node.name.as_str() == name).unwrap();
            all[at] = node(name, "POWER_OFF", true);
            seen.take(&all);
        }
        let lines = frame(&seen, Size { width: 80, height: 7 }, AT);
        let names: Vec<&str> = lines[2..6].iter().map(|line| &line[..4]).collect();
        assert_eq!(names, ["n007", "n012", "n018", "n001"]);
    }

    #[test]
    fn a_pipe_gets_every_node_once_and_then_those_that_change() {
        let mut pipe = Pipe { output: Output::Table, layout: None, shown: BTreeMap::new() };
        let mut all = nodes(3);
        let first = pipe.show(&all);
        assert!(first.len() == 4 && first[0].starts_with("NODE  PHYS"), "{first:#?}");
        assert!(pipe.show(&all).is_empty());
        all[1] = node("n002", "PHYS_HANG_AND_MORE", false);
        let changed = pipe.show(&all);
        assert_eq!(changed.len(), 1);
        assert!(changed[0].starts_with("n002  PHYS_HANG_AND_MORE"), "nothing is cut: {changed:?}");
        all.remove(0);
        assert_eq!(pipe.show(&all), ["n001 is gone"]);
    }

    #[test]
    fn a_program_gets_an_object_a_line() {
        let mut pipe = Pipe { output: Output::Json, layout: None, shown: BTreeMap::new() };
        let mut all = nodes(2);
        let lines = pipe.show(&all);
        let read = |line: &String| serde_json::from_str::<Value>(line).unwrap();
        assert_eq!(
            lines.iter().map(|line| read(line)["name"].clone()).collect::<Vec<_>>(),
            ["n001", "n002"]
        );
        all[0] = node("n001", "POWER_OFF", false);
        assert_eq!(read(&pipe.show(&all)[0])["dsc"]["phys_state"], "POWER_OFF");
        all.clear();
        assert_eq!(read(&pipe.show(&all)[0])["gone"], true);
    }
}
