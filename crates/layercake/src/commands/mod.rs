//! What the verbs do.

mod cluster;
mod console;
mod events;
mod image;
mod minos;
mod modules;
mod nodes;
mod serve;
mod story;

use crate::args::{Cli, Get, Image, Minos, Verb};
use crate::client::Client;
use std::error::Error;

/// Whatever went wrong, for a person.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Does what was typed.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let client = Client { address: cli.server };
    let output = cli.output;
    match cli.verb {
        Verb::Serve(options) => serve::run(*options).await,
        Verb::Apply(file) => cluster::apply(&client, output, &file.file, false).await,
        Verb::Diff(file) => cluster::apply(&client, output, &file.file, true).await,
        Verb::Get(Get::Nodes { nodes, watch }) => {
            nodes::get(&client, output, nodes.as_deref(), watch).await
        }
        Verb::Get(Get::Images) | Verb::Image(Image::List) => image::list(&client, output).await,
        Verb::Get(Get::Modules) => modules::get(&client, output).await,
        Verb::Describe { nodes } => nodes::describe(&client, output, &nodes).await,
        Verb::Explain { nodes } => nodes::explain(&client, output, &nodes).await,
        Verb::Events(asked) => events::run(&client, output, &asked).await,
        Verb::Power { action, nodes, yes } => {
            nodes::power(&client, output, action, &nodes, yes).await
        }
        Verb::Hold { nodes } => nodes::command(&client, output, "hold", Some(&nodes)).await,
        Verb::Release { nodes } => nodes::command(&client, output, "release", Some(&nodes)).await,
        Verb::Retry { nodes } => nodes::command(&client, output, "retry", Some(&nodes)).await,
        Verb::Busy { nodes } => nodes::command(&client, output, "busy", Some(&nodes)).await,
        Verb::Free { nodes } => nodes::command(&client, output, "free", Some(&nodes)).await,
        Verb::Freeze => nodes::command(&client, output, "freeze", None).await,
        Verb::Thaw => nodes::command(&client, output, "thaw", None).await,
        Verb::Image(Image::Import { source, name, command }) => {
            image::import(&client, output, &source, &name, &command).await
        }
        Verb::Image(Image::Remove { image }) => image::remove(&client, output, &image).await,
        Verb::Minos(Minos::Build { .. }) if output == crate::args::Output::Name => {
            Err("minos build prints no names: use another --output".into())
        }
        Verb::Minos(build) => minos::build(output, build).await,
        Verb::Console { node, log } => console::run(&client, &node, log).await,
        Verb::Logs { node, follow } => console::logs(&client, &node, follow).await,
        Verb::Status => nodes::status(&client, output).await,
    }
}
