//! `layercake get modules`, and `layercake modules reload`.

use super::Failure;
use crate::args::Output;
use crate::client::Client;
use crate::show::{self, Column};
use layercake_server::api::{ModuleState, ModuleStatus, Reloaded};

pub(crate) async fn get(client: &Client, output: Output) -> Result<(), Failure> {
    let modules: Vec<ModuleStatus> = client.get("/v1/modules").await?;
    let names = || modules.iter().map(|module| module.name.clone()).collect();
    show::answer(output, &serde_json::to_value(&modules)?, || table(&modules), names)
}

pub(crate) async fn reload(client: &Client, output: Output) -> Result<(), Failure> {
    let reloaded: Reloaded = client.post("/v1/modules/reload", "").await?;
    let Reloaded { modules, findings } = &reloaded;
    let names = || modules.iter().map(|module| module.name.clone()).collect();
    let text = || {
        let findings = findings.iter().map(|found| format!("\nlook at: {}", found.text));
        table(modules) + &findings.collect::<String>()
    };
    show::answer(output, &serde_json::to_value(&reloaded)?, text, names)
}

fn table(modules: &[ModuleStatus]) -> String {
    let columns = [
        Column::key("NAME"),
        Column::word("KIND", 3),
        Column::word("STATE", 9),
        Column::word("SINCE", 4),
        Column::word("RESTARTS", 7),
        Column::word("DISCOVERIES", 1),
        Column::word("HELD BACK", 2),
        Column::word("REFUSED", 5),
        Column::text("LAST ERROR", 8),
    ];
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
    show::table(&columns, modules.iter().map(row))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn modules_are_a_table_whose_every_column_stands_under_its_name() {
        let (start, later) = (1_795_615_500_000_u64, 1_795_615_650_000_u64);
        let modules: Vec<ModuleStatus> = serde_json::from_value(json!([
            {"name": "power", "kind": "in process", "state": "running", "since": start,
             "restarts": 1, "discoveries": 6, "floods": true, "held_back": 3, "refused": 2,
             "last_error": null},
            {"name": "drain", "kind": "exec", "state": "blind", "since": start,
             "restarts": 0, "discoveries": 0, "refused": 0,
             "last_error": "cannot look: n1: it hangs", "last_error_at": later},
        ]))
        .unwrap();
        let lines = [
            "NAME   KIND        STATE   SINCE                 RESTARTS  DISCOVERIES  HELD BACK  REFUSED  LAST ERROR",
            "power  in process  floods  2026-11-25T14:05:00Z  1         6            3          2        -",
            "drain  exec        blind   2026-11-25T14:05:00Z  0         0            0          0        2026-11-25T14:07:30Z: cannot look: n1: it hangs",
        ];
        assert_eq!(table(&modules), lines.join("\n"));
    }
}
