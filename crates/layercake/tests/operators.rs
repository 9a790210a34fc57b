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

        let (code, _, error) = layercake(&dir, &["events", "--since", "1d", "-o", "json"]).await;
        assert!(code == 0 && error.starts_with("the journal begins at 20"), "{error}");
        let (_, _, error) = layercake(&dir, &["events", "--since", "0s"]).await;
        assert_eq!(error, "");
        let (code, _, error) = layercake(&dir, &["hold", "n[01-02]"]).await;
        assert_eq!(code, 1);
        assert_eq!(error, "layercake: no such node: n[01-02] (did you mean n[1-2]?)\n");

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

/// Commands that are about nodes, without them.
const COMMANDS: [&[&str]; 12] = [
    &["hold"],
    &["release"],
    &["retry"],
    &["busy"],
    &["free"],
    &["freeze"],
    &["thaw"],
    &["power", "on"],
    &["power", "off"],
    &["power", "cycle"],
    &["reboot"],
    &["reboot", "--cancel"],
];

#[test]
fn what_is_done_to_no_node_is_refused_and_nodes_are_found_by_what_they_are_and_should_be() {
    in_namespace(|dir| async move {
        let server = Server::start(config(&dir)).await.unwrap();
        let file = cluster(&dir, TWO)
            .replace("defaults:\n", "defaults:\n  labels: { role: gpu }\n")
            .replace("nodes:\n", "nodes:\n  n3: { location: { rack: r2 } }\n");
        let (status, said) = apply(&dir, "", &file).await;
        assert_eq!(status, 200, "{said}");
        let off = ["get", "nodes", "phys_state=POWER_OFF", "-o", "name"];
        says_in_time(&dir, &off, &["n1", "n2"]).await;
        let refused = async |verb: &[&str], nodes: &str| {
            let (code, out, error) = layercake(&dir, &[verb, &[nodes]].concat()).await;
            assert_eq!((code, out.as_str()), (1, ""), "{verb:?} {nodes:?}: {error}");
            error
        };
        for verb in COMMANDS {
            let error = refused(verb, "").await;
            assert!(error.contains("no node matches: the node set is empty"), "{error}");
            let error = refused(verb, "run_state=ERROR").await;
            assert!(error.contains("\"run_state=ERROR\" is true of none"), "{error}");
            assert!(error.contains("`layercake get nodes` lists them"), "{error}");
            let error = refused(verb, "*!labels.role=cpu").await;
            assert!(error.contains("no node has labels.role = cpu (did you mean gpu?)"), "{error}");
            let error = refused(verb, "n1!n01").await;
            assert!(error.contains("no such node: n01 (did you mean n1?)"), "{error}");
        }
        // Who asks of no node at all has an empty variable in a script, and would take silence for an answer.
        for verb in [&["describe"][..], &["explain"], &["events"], &["get", "nodes", "--at=0s"]] {
            let error = refused(verb, "").await;
            assert!(error.contains("no node matches: the node set is empty"), "{error}");
        }
        for verb in [&["hold"][..], &["get", "nodes"], &["explain"], &["events"]] {
            let error = refused(verb, "phystate=POWER_OFF").await;
            let said = "invalid node set: unknown field \"phystate\", did you mean phys_state?";
            assert!(error.contains(said), "{error}");
            let error = refused(verb, "phys_state=POWR_OFF").await;
            assert!(error.contains("phys_state is never \"POWR_OFF\""), "{error}");
            assert!(error.contains("(did you mean POWER_OFF?): it is one of "), "{error}");
            let error = refused(verb, "n1&@frnt").await;
            assert!(error.contains("no such group: @frnt"), "{error}");
        }
        let (code, _, error) =
            layercake(&dir, &["get", "nodes", "phys_state=POWR_OFF", "--at", "0s"]).await;
        assert!(code == 1 && error.contains("POWR_OFF"), "{error}");
        let found = async |set| says(&dir, &["get", "nodes", set, "-o", "name"]).await;
        assert_eq!(found("labels.role=gpu").await, "n1\nn2\nn3\n");
        assert_eq!(found("location.rack=r2").await, "n3\n");
        assert_eq!(found("run_state=SYNC").await, "", "they should be, and are not");
        assert_eq!(found("cfg:run_state=SYNC&n1").await, "n1\n");
        let (code, _, error) = layercake(&dir, &["get", "nodes", "location.rack=r3"]).await;
        assert_eq!(code, 1);
        assert!(error.contains("no node has location.rack = r3 (did you mean r2?)"), "{error}");
        let said = says(&dir, &["hold", "location.rack=r2"]).await;
        assert!(said.starts_with("n3: held"), "{said}");
        let ended = async |verb| says(&dir, &[verb, "n[2-3]"]).await;
        assert_eq!(ended("release").await, "n3: released, 1 of 2; n2 was not held\n");
        assert_eq!(ended("release").await, "n[2-3] were not held\n");
        assert_eq!(ended("thaw").await, "n[2-3] were not frozen by name\n");
        assert_eq!(ended("free").await, "n[2-3] were not in use\n");
        says(&dir, &["busy", "n2"]).await;
        assert_eq!(ended("free").await, "n2: no longer in use, 1 of 2; n3 was not in use\n");
        server.shutdown().await;
    });
}
