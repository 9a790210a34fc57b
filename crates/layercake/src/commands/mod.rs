//! What the verbs do.

mod cluster;
mod console;
mod events;
mod graph;
mod history;
mod image;
mod minos;
mod modules;
mod nodes;
mod plan;
mod serve;
mod sim;
mod status;
mod story;
mod watch;

use crate::args::{Apply, Cli, Get, Graph, GraphAction, Image, Minos, Modules, Terms, Verb};
use crate::client::{Client, Pieces};
use crate::show;
use std::error::Error;

/// Whatever went wrong, for a person.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// A node set that was typed. An empty one is a shell variable that was empty: whoever asks of no node
/// would take silence for an answer.
fn typed(nodes: &str) -> Result<&str, Failure> {
    if nodes.trim().is_empty() {
        let hint = "name nodes, such as n1, n[1-3] or *; `layercake get nodes` lists them";
        return Err(format!("no node matches: the node set is empty: {hint}").into());
    }
    Ok(nodes)
}

/// The next piece of an answer that goes on, for as long as somebody reads what is printed of it.
async fn next(pieces: &mut Pieces) -> Result<Option<bytes::Bytes>, Failure> {
    tokio::select! {
        piece = pieces.next() => Ok(piece?),
        gone = show::reader_gone() => Err(gone.into()),
    }
}

/// Does what was typed.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let client = Client { address: cli.server };
    let output = cli.output;
    let says = |command, nodes, terms| nodes::command(&client, output, command, nodes, terms);
    match cli.verb {
        Verb::Serve(options) => serve::run(*options).await,
        Verb::Apply(Apply { plan: Some(plan), agreed, .. }) => {
            plan::apply(&client, output, &plan, agreed).await
        }
        Verb::Apply(Apply { file, dry_run, agreed, .. }) => {
            let file = file.unwrap_or_else(|| "-".into());
            if dry_run {
                return plan::plan(&client, output, &file, None).await;
            }
            cluster::apply(&client, output, &file, agreed).await
        }
        Verb::Plan { file, save, .. } => {
            plan::plan(&client, output, &file.file, save.as_deref()).await
        }
        Verb::Diff(file) => cluster::diff(&client, output, &file.file).await,
        Verb::Get(Get::Nodes { nodes, watch, at }) => {
            nodes::get(&client, output, nodes.as_deref(), at.as_deref(), watch).await
        }
        Verb::Get(Get::Images) | Verb::Image(Image::List) => image::list(&client, output).await,
        Verb::Get(Get::Modules) => modules::get(&client, output).await,
        Verb::Modules(Modules::Reload) => modules::reload(&client, output).await,
        Verb::Describe { nodes, at } => {
            nodes::describe(&client, output, &nodes, at.as_deref()).await
        }
        Verb::Explain { nodes } => nodes::explain(&client, output, &nodes).await,
        Verb::Graph(Graph { action: Some(GraphAction::Check), .. }) => {
            graph::check(&client, output).await
        }
        Verb::Graph(Graph { format, node, .. }) => {
            graph::draw(&client, output, format, node.as_deref()).await
        }
        Verb::Events(asked) => events::run(&client, output, &asked).await,
        Verb::History(asked) => history::run(&client, output, &asked).await,
        Verb::Power { action, nodes, hard, yes } => {
            nodes::power(&client, output, action, &nodes, (hard, yes)).await
        }
        Verb::Reboot { nodes, cancel: true, .. } => {
            says("cancel-restart", Some(nodes), Terms::default()).await
        }
        Verb::Reboot { nodes, hard, terms, yes, .. } => {
            nodes::reboot(&client, output, &nodes, terms, (hard, yes)).await
        }
        Verb::Hold { nodes, terms } => says("hold", Some(nodes), terms).await,
        Verb::Release { nodes } => says("release", Some(nodes), Terms::default()).await,
        Verb::Retry { nodes } => says("retry", Some(nodes), Terms::default()).await,
        Verb::TakeOver { nodes, yes } => nodes::take_over(&client, output, nodes, yes).await,
        Verb::Busy { nodes, terms } => says("busy", Some(nodes), terms).await,
        Verb::Free { nodes } => says("free", Some(nodes), Terms::default()).await,
        Verb::Freeze { nodes, terms } => says("freeze", nodes, terms).await,
        Verb::Thaw { nodes } => says("thaw", nodes, Terms::default()).await,
        Verb::Image(Image::Import { source, name, command }) => {
            image::import(&client, output, &source, &name, &command).await
        }
        Verb::Image(Image::Inspect { image }) => image::inspect(&client, output, &image).await,
        Verb::Image(Image::Remove { image }) => image::remove(&client, output, &image).await,
        Verb::Minos(Minos::Build { .. }) if output == crate::args::Output::Name => {
            Err("minos build prints no names: use another --output".into())
        }
        Verb::Minos(build) => minos::build(output, build).await,
        Verb::Console { node, log } => console::run(&client, &node, log).await,
        Verb::Logs { node, follow } => console::logs(&client, &node, follow).await,
        Verb::Status => status::status(&client, output).await,
        Verb::Sim(sim) => sim::run(&client, output, *sim).await,
    }
}
