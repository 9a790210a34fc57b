//! Modules that an administrator adds to a server that runs.
#![allow(clippy::unwrap_used)]

mod cli;
#[path = "../../layercake-server/tests/rig/mod.rs"]
mod rig;

use cli::*;
use layercake_server::Server;
use rig::*;

/// Finds out at once that a badge hangs on a node's door, and would put it there.
const BADGE: &str = "
module: badge
variables:
  badge:
    values: [UNKNOWN, NONE, HUNG]
    about: Whether a badge hangs at the node
discover:
  shell: echo badge=NONE
  every: 200ms
mutations:
  hang:
    moves: { badge: [NONE, HUNG] }
    command: [\"true\"]
";

#[test]
fn a_module_is_added_and_taken_away_without_a_restart() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let cluster = cluster(&dir, TWO);
        assert_eq!(apply(&dir, "", &cluster).await.0, 200);
        says_in_time(&dir, &["get", "nodes"], &["n1", "POWER_OFF"]).await;
        let file = dir.join("modules.d/badge.yaml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();

        // What is wrong is said with its place, and changes nothing.
        std::fs::write(&file, BADGE.replace("about:", "abuot:")).unwrap();
        let before = says(&dir, &["get", "modules", "-o", "name"]).await;
        let (code, _, error) = layercake(&dir, &["modules", "reload"]).await;
        assert!(code == 1 && error.contains("badge.yaml:6:5"), "{error}");
        assert!(error.contains("nothing was changed") && error.contains("abuot"), "{error}");
        assert_eq!(says(&dir, &["get", "modules", "-o", "name"]).await, before);

        // So is what would leave the others no way, with who is to blame.
        let walled =
            format!("{BADGE}guards:\n  power.on: {{ requires: [phys_state = POWER_ON] }}\n");
        std::fs::write(&file, walled).unwrap();
        let (code, _, error) = layercake(&dir, &["modules", "reload"]).await;
        assert!(code == 1 && error.contains("nothing was changed"), "{error}");
        assert!(error.contains("the guards of badge on power.on cut others off"), "{error}");
        assert!(error.contains("power.on can never be taken"), "{error}");
        assert_eq!(says(&dir, &["get", "modules", "-o", "name"]).await, before);

        std::fs::write(&file, BADGE).unwrap();
        let said = says(&dir, &["modules", "reload"]).await;
        assert!(said.contains("\nbadge") && said.contains("\npower"), "{said}");
        says_in_time(&dir, &["describe", "n1"], &["badge", "NONE"]).await;
        says_in_time(&dir, &["status"], &["  badge", "NONE 2"]).await;
        // From now on it may be wanted, and then it cannot go.
        let wanting = cluster.replace("\"n[1-2]\": {", "\"n[1-2]\": { badge: HUNG,");
        assert_eq!(apply(&dir, "", &wanting).await.0, 200);
        says_in_time(&dir, &["explain", "n1"], &["badge.hang"]).await;
        std::fs::remove_file(&file).unwrap();
        let (code, _, error) = layercake(&dir, &["modules", "reload"]).await;
        assert!(code == 1 && error.contains("does not fit these modules"), "{error}");
        assert!(says(&dir, &["get", "modules"]).await.contains("badge"));

        assert_eq!(apply(&dir, "", &cluster).await.0, 200);
        says(&dir, &["modules", "reload"]).await;
        assert_eq!(says(&dir, &["get", "modules", "-o", "name"]).await, before);
        let described = says(&dir, &["describe", "n1"]).await;
        assert!(described.contains("POWER_OFF") && !described.contains("badge"), "{described}");
        let events = says(&dir, &["events"]).await;
        let told = "modules read again (root";
        assert_eq!(events.matches(told).count(), 2, "{events}");
        assert!(
            events.contains(": with badge.hang") && events.contains(": without badge.hang"),
            "{events}"
        );
        server.shutdown().await;
    });
}
