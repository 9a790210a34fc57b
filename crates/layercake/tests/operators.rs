//! The command line against a whole server: what an operator says, and what is told afterwards.
#![allow(clippy::unwrap_used)]

mod cli;
#[path = "../../layercake-server/tests/rig/mod.rs"]
mod rig;

use cli::*;
use layercake_server::Server;
use rig::*;

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
