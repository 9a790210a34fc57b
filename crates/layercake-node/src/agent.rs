//! The agent: brings the node onto the network, joins, and does what its cfg says.

mod images;

use crate::container::own_architecture;
use crate::image::{ImageService, Progress, ServiceConfig};
use crate::init;
use crate::{network, seed};
use images::{ImageModule, Open};
use kraken::{Agent, AgentOptions, KeyPin, LogLine, chain};
use kraken_model::{Change, NodeId, Path, Registry};
use kraken_plan::ModuleSet;
use kraken_sync::Secret;
use layercake_schema::{ARCHITECTURES, Timing, phys_state, run_state};
use layercake_seed::Seed;
use std::collections::HashMap;
use std::error::Error;
use std::path::Path as FilePath;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The secret with which this boot joins again; in memory, gone with the boot.
const RESUME_PATH: &str = "/run/layercake/resume";

/// Where the resolver of this node is.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How unwilling the kernel is to kill the agent and the monitors of containers when memory runs out, of -1000
/// to 1000 (proc(5)): images go first, and there is somebody left to tell.
const OOM_SCORE: &str = "-900";

/// How many lines wait to be sent to the parent.
const LINES: usize = 1024;

/// How often, in percent, it is said how far a fetch is.
const SAY_EVERY_PERCENT: u64 = 10;

/// What the lines of Layer 0 itself are called.
const STREAM: &str = "layer0";

/// The agent as a process: ends when init asks it to, or when it cannot go on; then init starts it
/// again.
#[must_use]
pub fn run() -> ExitCode {
    init::install_panic_hook("agent");
    // Monitors inherit it. Without it the agent still works; it is only worse off when memory runs out.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(serve()),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the agent cannot go on: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let seed = seed::load(FilePath::new(seed::KEPT_PATH))?;
    seed::set_clock_forward(&seed)?;
    let on_network = seed.clone();
    let network = tokio::task::spawn_blocking(move || {
        // On the console: as long as there is no network there is nobody else to tell.
        let mut say = |text: &str| tracing::warn!("{text}");
        let resolv_conf = FilePath::new(RESOLV_CONF);
        network::bring_up(&on_network, resolv_conf, network::DEVICE_LIMIT, &mut say)
    });
    let mut problems = match network.await? {
        Ok(up) => up.problems,
        Err(error) => {
            // Said by init too, but perhaps before anybody looked at the console.
            for problem in init::hardware_problems() {
                tracing::error!("{problem}");
            }
            return Err(error.into());
        }
    };
    if !problems.is_empty() {
        problems.extend(init::hardware_problems());
    }

    let (lines, logs) = mpsc::channel(LINES);
    let node = NodeId::new(&seed.node)?;
    let images = Arc::new(ImageModule::new(node.clone(), image_service(&seed, &lines), lines));
    let agent = Agent::start(options(&seed, node.clone(), Arc::clone(&images), logs)?).await?;
    let kraken = agent.kraken().clone();
    let facts = layer0(&seed, &problems)?;
    // Known from the first moment on; said to the parent as soon as there is one.
    kraken.configure(vec![(node.clone(), Some(kraken_model::Document::new()))], "agent").await?;
    kraken.discover(&node, facts, "agent").await?;
    drop(kraken);

    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let asked = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        asked.cancel();
    });
    agent.run(stop).await;
    // Asked to end: the machine is going down, and images end in order rather than with it.
    images.end_images().await?;
    Ok(())
}

/// How the image service of this node is opened.
fn image_service(seed: &Seed, lines: &mpsc::Sender<LogLine>) -> Open {
    let (seed, lines) = (seed.clone(), lines.clone());
    Arc::new(move || {
        let mut config = ServiceConfig::of_node(&seed);
        config.on_progress = tell_progress(lines.clone());
        ImageService::open(config)
    })
}

fn options(
    seed: &Seed,
    node: NodeId,
    images: Arc<ImageModule>,
    logs: mpsc::Receiver<LogLine>,
) -> Result<AgentOptions, Box<dyn Error>> {
    let registry = Registry::new(layercake_schema::schemas())?;
    // The parent's times may differ; what is planned does not depend on them.
    let modules = ModuleSet::new(&registry, layercake_schema::node_mutations(&Timing::default()))
        .map_err(|problems| format!("the mutations cannot be used: {problems:?}"))?;
    let token: [u8; 32] =
        seed.join_token.expose().try_into().map_err(|_| "the join token has not 32 bytes")?;
    let pin: KeyPin = hex::encode(seed.parent_key_sha256.0).parse()?;
    let set = |path, value: &str| Change::set(Path::known(path), value);
    let has_power = set(phys_state::PATH, phys_state::POWER_ON);
    Ok(AgentOptions {
        node,
        boot_id: seed.boot_id.clone(),
        parents: seed.parents.iter().map(|parent| parent.addr).collect(),
        pin,
        token: Secret::new(token),
        resume: RESUME_PATH.into(),
        registry: Arc::new(registry),
        modules: Arc::new(modules),
        hosted: vec![images],
        joined: vec![has_power.clone(), set(run_state::PATH, run_state::SYNC)],
        left: vec![has_power, set(run_state::PATH, run_state::INIT)],
        node_owns: Arc::new(layercake_schema::node_owns),
        permitted_under: Some(Path::known(layercake_schema::PERMITTED)),
        logs,
    })
}

/// What Layer 0 knows of itself.
fn layer0(seed: &Seed, network: &[String]) -> Result<Vec<Change>, Box<dyn Error>> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime.split(' ').next().unwrap_or("0").parse()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    let started = i64::try_from(now)? - (uptime * 1000.0) as i64;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let set = |path, value: String| Change::set(Path::known(path), value);
    let mut facts = vec![
        set("layer0.boot_id", seed.boot_id.clone()),
        Change::set(Path::known("layer0.started"), started),
        set("layer0.kernel", kernel),
        set("layer0.version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    if !network.is_empty() {
        facts.push(set("layer0.network", network.join("; ")));
    }
    let machine = own_architecture();
    if ARCHITECTURES.contains(&machine.as_str()) {
        facts.push(set("arch", machine));
    }
    if let Some(end) = init::last_agent_end()? {
        let words = end.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect();
        facts.push(set("layer0.last_panic", words));
    }
    Ok(facts)
}

/// Says now and then how far the fetch of an image is.
fn tell_progress(lines: mpsc::Sender<LogLine>) -> Arc<dyn Fn(Progress) + Send + Sync> {
    let said: Mutex<HashMap<String, u64>> = Mutex::default();
    Arc::new(move |progress| {
        let percent = progress.done.saturating_mul(100) / progress.total.max(1);
        let step = percent - percent % SAY_EVERY_PERCENT;
        let image = progress.digest.short();
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(image.clone(), step) != Some(step) {
            let line = format!("fetching image {image}: {step} %");
            // A line that finds no room is not worth waiting for.
            let _ = lines.try_send(LogLine { stream: STREAM.into(), line });
        }
    })
}
