//! `layercake get modules`, and `layercake modules reload`.

use super::Failure;
use crate::args::Output;
use crate::client::Client;
use crate::show;
use layercake_server::api::{ModuleState, ModuleStatus, Reloaded};

pub(crate) async fn get(client: &Client, output: Output) -> Result<(), Failure> {
    let modules: Vec<ModuleStatus> = client.get("/v1/modules").await?;
    let names = || modules.iter().map(|module| module.name.clone()).collect();
    show::answer(output, &serde_json::to_value(&modules)?, || table(&modules), names);
    Ok(())
}

pub(crate) async fn reload(client: &Client, output: Output) -> Result<(), Failure> {
    let reloaded: Reloaded = client.post("/v1/modules/reload", "").await?;
    let Reloaded { modules, findings } = &reloaded;
    let names = || modules.iter().map(|module| module.name.clone()).collect();
    let text = || {
        let findings = findings.iter().map(|found| format!("\nlook at: {}", found.text));
        table(modules) + &findings.collect::<String>()
    };
    show::answer(output, &serde_json::to_value(&reloaded)?, text, names);
    Ok(())
}

fn table(modules: &[ModuleStatus]) -> String {
    let header =
        ["NAME", "KIND", "STATE", "RESTARTS", "DISCOVERIES", "HELD BACK", "REFUSED", "LAST ERROR"];
    let row = |module: &ModuleStatus| {
        vec![
            module.name.clone(),
            module.kind.clone(),
            state(module).to_owned(),
            module.since.rfc3339(),
            module.restarts.to_string(),
            module.discoveries.to_string(),
            module.held_back.to_string(),
            module.refused.to_string(),
            last_error(module),
        ]
    };
    show::table(&header, modules.iter().map(row))
}

/// What went wrong last, and when.
fn last_error(module: &ModuleStatus) -> String {
    match (&module.last_error, module.last_error_at) {
        (Some(error), Some(at)) => format!("{}: {error}", at.rfc3339()),
        (Some(error), None) => error.clone(),
        (None, _) => "-".to_owned(),
    }
}

fn state(module: &ModuleStatus) -> &'static str {
    match module.state {
        ModuleState::Running if module.floods => "floods",
        ModuleState::Starting => "starting",
        ModuleState::Running => "running",
        ModuleState::Blind => "blind",
        ModuleState::BackOff => "back-off",
        ModuleState::Idle => "idle",
        ModuleState::Stopped => "stopped",
    }
}
