//! `layercake sim`: a server with simulated machines, its faults, and simulated days.

use super::Failure;
use super::serve::Signals;
use crate::args::{Fault, Output, Sim, SimAction};
use crate::client::{Client, ClientError};
use crate::show::{self, Column};
use kraken_model::{Millis, counted};
use layercake_server::{Config, Pace, Server};
use layercake_sim::{Size, told_day};
use layercake_sim_world::{
    Added, FaultRequest, Kind, MOST_PER_HOUR, SimStatus, Simulation, Target, cluster,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many machines there are unless said otherwise.
const NODES: u32 = 130;

/// The name of the made-up cluster file in the state directory.
const CLUSTER: &str = "cluster.yaml";

pub(crate) async fn run(client: &Client, output: Output, sim: Sim) -> Result<(), Failure> {
    match sim.action {
        Some(SimAction::Status) => status(client, output).await,
        Some(SimAction::Fault(fault)) => match fault {
            Fault::Add { kind, target, lasts } => add(client, output, kind, target, lasts).await,
            Fault::List => list(client, output).await,
            Fault::Clear { ids, all } => clear(client, output, &ids, all).await,
        },
        None if sim.serve => serve(sim).await,
        None => day(output, sim.seed, sim.nodes.unwrap_or(NODES) as usize),
    }
}

/// A day of a fleet, as `cargo xtask sim` has it. What is told on the way is no part of an answer for
/// programs.
fn day(output: Output, seed: u64, nodes: usize) -> Result<(), Failure> {
    let mut written = Ok(());
    let outcome = told_day(seed, Size(nodes), false, &mut |line| match output {
        Output::Table if written.is_ok() => written = show::people(line),
        Output::Table => {}
        _ => show::note(line),
    });
    written?;
    let (minutes, events) = (outcome.at.0 / 60_000, outcome.events);
    let violation = outcome.violation.map(|violation| violation.to_string());
    let answer = json!({
        "seed": seed, "nodes": nodes, "minutes": minutes, "events": events, "violation": violation,
    });
    let table = || {
        let told = format!(
            "seed {seed}: {}, {minutes} minutes of their time, {events} events",
            counted(nodes, "node")
        );
        match violation {
            Some(_) => told,
            None => told + "\nno invariant was violated, and everything became as it should be",
        }
    };
    show::answer(output, &answer, table, || vec![seed.to_string()])?;
    violation.map_or(Ok(()), |violation| Err(violation.into()))
}

/// A directory that is there for as long as the simulation, or one that somebody named.
enum State {
    Temporary(tempfile::TempDir),
    Named(PathBuf),
}

impl State {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Named(path) => path,
        }
    }
}

async fn serve(sim: Sim) -> Result<(), Failure> {
    let pace = Pace::times(sim.speed).ok_or_else(|| {
        format!("--speed {}: it has to be between 0.1 and {}", sim.speed, Pace::FASTEST)
    })?;
    if !(0.0..=MOST_PER_HOUR).contains(&sim.chaos) {
        let most = MOST_PER_HOUR;
        return Err(format!("--chaos {}: it has to be between 0 and {most}", sim.chaos).into());
    }
    // Taken before anything is made, so that no signal leaves something behind.
    let mut signals = Signals::take()?;
    let state = state(sim.state.clone())?;
    let dir = state.path();
    let config = Config {
        cluster: first_cluster(&sim, dir)?,
        state: dir.to_owned(),
        run: dir.join("run"),
        minos: dir.join("minos"),
        boot_programs: dir.join("boot-programs"),
        modules: sim.modules.unwrap_or_else(|| dir.join("modules.d")),
        api_socket: sim.socket.unwrap_or_else(|| dir.join("api.sock")),
        api_listen: sim.api_listen,
    };
    let socket = config.api_socket.clone();
    let world = Simulation::new(sim.seed, pace, sim.chaos);
    let server = Server::start_in(config, Arc::new(world)).await?;
    let greeted = greet(&server, pace, sim.seed, &socket, &state);
    if greeted.is_ok() {
        signals.end().await;
    }
    server.shutdown().await;
    if let State::Temporary(dir) = state {
        let path = dir.path().to_owned();
        dir.close().map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
    }
    greeted
}

fn state(named: Option<PathBuf>) -> Result<State, Failure> {
    let made = match named {
        None => tempfile::Builder::new().prefix("layercake-sim-").tempdir().map(State::Temporary),
        Some(path) => std::fs::create_dir_all(&path)
            .and_then(|()| std::path::absolute(&path))
            .map(State::Named)
            .map_err(|error| std::io::Error::other(format!("{}: {error}", path.display()))),
    };
    made.map_err(|error| format!("cannot make the state directory: {error}").into())
}

/// The cluster file to begin with; none, when an earlier simulation has left one that counts.
fn first_cluster(sim: &Sim, dir: &Path) -> Result<Option<PathBuf>, Failure> {
    let path = dir.join(CLUSTER);
    if sim.cluster.is_some() || (sim.nodes.is_none() && path.exists()) {
        return Ok(sim.cluster.clone());
    }
    let text = cluster(sim.nodes.unwrap_or(NODES) as usize);
    std::fs::write(&path, text)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(Some(path))
}

/// Says what runs, where, and what to try.
fn greet(
    server: &Server,
    pace: Pace,
    seed: u64,
    socket: &Path,
    state: &State,
) -> Result<(), Failure> {
    let time = match pace.speed() {
        1.0 => "in real time".to_owned(),
        speed => format!("at {speed} times the real speed"),
    };
    let kept = match state {
        State::Temporary(_) => "nothing is left at the end".to_owned(),
        State::Named(path) => format!("all of it is kept in {}", path.display()),
    };
    let (address, file) = (server.address(), state.path().join(CLUSTER));
    let apply = match file.exists() {
        true => format!("layercake plan -f {}", file.display()),
        false => "layercake plan -f cluster.yaml".to_owned(),
    };
    show::people(&format!(
        "{}, {time}, seed {seed}; {kept}. Ctrl-C ends it.
the API is at unix:{} and http://{address}

What to try, in another terminal:
  export LAYERCAKE_SERVER=http://{address}
  layercake get nodes --watch
  layercake events --follow
  layercake sim fault add rack-power r2 --for 10m
  layercake explain 'phys_state=POWER_OFF'
  {apply}",
        counted(server.nodes(), "simulated machine"),
        socket.display(),
    ))
}

/// A server with real machines does not know of faults.
fn simulated(error: ClientError) -> Failure {
    match &error {
        ClientError::Refused(problem) if problem.title == "nothing here" => {
            "this server has real machines: start one with `layercake sim --serve`".into()
        }
        _ => error.into(),
    }
}

async fn status(client: &Client, output: Output) -> Result<(), Failure> {
    let status: SimStatus = client.get("/v1/sim").await.map_err(simulated)?;
    let table = || {
        let SimStatus { nodes, seed, speed, chaos_per_hour, behind_ms, faults } = status;
        format!(
            "{}, seed {seed}\nspeed: {speed}, {} behind\n\
             faults: {faults}, and {chaos_per_hour} an hour by themselves",
            counted(nodes, "simulated machine"),
            show::duration(behind_ms)
        )
    };
    show::answer(output, &serde_json::to_value(&status)?, table, Vec::new)
}

async fn add(
    client: &Client,
    output: Output,
    kind: Kind,
    target: Option<String>,
    lasts: Option<String>,
) -> Result<(), Failure> {
    let is_rack = kind.target() == Target::Rack;
    let (rack, nodes) = if is_rack { (target, None) } else { (None, target) };
    let asked = FaultRequest { kind: kind.name().to_owned(), nodes, rack, lasts };
    let added: Added = client
        .post_json("/v1/sim/faults", &serde_json::to_value(&asked)?)
        .await
        .map_err(simulated)?;
    let names = || added.fault.iter().map(|fault| fault.id.to_string()).collect();
    show::answer(output, &serde_json::to_value(&added)?, || added.text.clone(), names)
}

async fn list(client: &Client, output: Output) -> Result<(), Failure> {
    let faults: Vec<layercake_sim_world::Fault> =
        client.get("/v1/sim/faults").await.map_err(simulated)?;
    show_faults(output, &faults, || table(&faults))
}

async fn clear(client: &Client, output: Output, ids: &[u64], all: bool) -> Result<(), Failure> {
    let mut cleared: Vec<layercake_sim_world::Fault> = Vec::new();
    if all {
        cleared = client.delete("/v1/sim/faults").await.map_err(simulated)?;
    }
    for id in ids {
        let one: Vec<_> =
            client.delete(&format!("/v1/sim/faults/{id}")).await.map_err(simulated)?;
        cleared.extend(one);
    }
    let text = || match cleared.len() {
        0 => "there was no fault".to_owned(),
        count => format!("{} cleared", counted(count, "fault")),
    };
    show_faults(output, &cleared, text)
}

fn show_faults(
    output: Output,
    faults: &[layercake_sim_world::Fault],
    table: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let names = || faults.iter().map(|fault| fault.id.to_string()).collect();
    show::answer(output, &serde_json::to_value(faults)?, table, names)
}

fn table(faults: &[layercake_sim_world::Fault]) -> String {
    let columns = [
        Column::key("ID"),
        Column::word("KIND", 6),
        Column::word("RACK", 3),
        Column::text("NODES", 5),
        Column::word("SINCE", 2),
        Column::word("UNTIL", 4),
        Column::text("BY", 1),
    ];
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let row = |fault: &layercake_sim_world::Fault| {
        vec![
            fault.id.to_string(),
            fault.kind.to_string(),
            or_dash(fault.rack.clone().unwrap_or_default()),
            or_dash(fault.nodes.to_string()),
            fault.since.rfc3339(),
            or_dash(fault.until.map(Millis::rfc3339).unwrap_or_default()),
            fault.by.to_string(),
        ]
    };
    show::table(&columns, faults.iter().map(row))
}
