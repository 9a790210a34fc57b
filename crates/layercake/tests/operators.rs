//! The command line against a whole server: what an operator says, and what is told afterwards.
#![allow(clippy::unwrap_used)]

#[path = "../../layercake-server/tests/rig/mod.rs"]
mod rig;

use layercake_server::Server;
use rig::*;
use std::path::Path;
use std::time::Duration;

/// Runs the command line: exit code, standard output, standard error.
async fn layercake(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_layercake"));
    command.arg("--server").arg(format!("unix:{}", dir.join("run/api.sock").display()));
    let output = command.args(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What it says, when it does what it was asked.
async fn says(dir: &Path, arguments: &[&str]) -> String {
    let (code, out, error) = layercake(dir, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {error}");
    out
}

/// Asks again until the answer holds all of this.
async fn says_in_time(dir: &Path, arguments: &[&str], wanted: &[&str]) -> String {
    let asked = tokio::time::timeout(PATIENCE, async {
        loop {
            let said = says(dir, arguments).await;
            if wanted.iter().all(|text| said.contains(text)) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    asked.await.unwrap_or_else(|_| panic!("{arguments:?} never says {wanted:?}"))
}

#[test]
fn what_an_operator_says_is_shown_and_told_with_who_why_and_until_when() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        assert_eq!(apply(&dir, "", &cluster(&dir, TWO)).await.0, 200);
        let off = &["n1", "POWER_OFF"];
        says_in_time(&dir, &["get", "nodes"], off).await;
        let said = says(&dir, &["hold", "n1", "--why", "new DIMM", "--until", "2h"]).await;
        assert!(said.starts_with("n1: held: no step is taken, until 20"), "{said}");
        says(&dir, &["freeze", "n[1-2]", "--why", "a fair"]).await;
        let said = says(&dir, &["get", "nodes"]).await;
        let rows: Vec<&str> = said.lines().collect();
        assert!(rows[0].ends_with("MARKS"), "{said}");
        assert!(rows[1].contains("root (new DIMM) until 20"), "{said}");
        assert!(rows[2].contains("frozen by") && !rows[2].contains("held"), "{said}");
        let described = says(&dir, &["describe", "n1"]).await;
        assert!(
            described.contains("\n  held by ") && described.contains("(a fair)"),
            "{described}"
        );
        let explained = says(&dir, &["explain", "n1"]).await;
        assert!(explained.contains("(new DIMM) until 20"), "{explained}");

        let told = says_in_time(&dir, &["events", "--kind", "held,frozen"], &["n2"]).await;
        assert!(told.lines().count() == 3 && told.contains("held by"), "{told}");
        let since = ["events", "n1", "--since", "1h", "--kind", "frozen", "-o", "name"];
        assert_eq!(says(&dir, &since).await.lines().count(), 1);
        let history = says(&dir, &["history", "n1"]).await;
        assert!(history.starts_with("n1\n20"), "{history}");
        for line in ["is to be ", "power.discover done; found phys_state = POWER_OFF", "(new DIMM)"]
        {
            assert!(history.contains(line), "{line}: {history}");
        }
        let json = says(&dir, &["history", "n1", "-o", "json"]).await;
        assert!(json.contains("\"outcome\": \"done\""), "{json}");

        says(&dir, &["release", "n1"]).await;
        let (code, _, error) = layercake(&dir, &["get", "nodes", "--at", "1d"]).await;
        assert_eq!(code, 1);
        assert!(error.starts_with("layercake: not kept: what was at 20"), "{error}");
        let now = says(&dir, &["get", "nodes", "n2", "--at", "0s"]).await;
        assert!(now.lines().count() == 2 && now.contains("POWER_OFF"), "{now}");
        let (code, out, error) = layercake(&dir, &["hold", "n1", "--until", "soon"]).await;
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(error.contains("\"soon\" is not a time: write how far away it is"), "{error}");
        server.shutdown().await;
    });
}
