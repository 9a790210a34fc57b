//! What the command line says when it cannot do what was typed.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn layercake(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
    command.env_remove("LAYERCAKE_SERVER").args(arguments).output().unwrap()
}

/// Exit code and standard error; a refusal says nothing on standard output.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = layercake(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_server_that_is_not_there_is_named_with_the_reason_once() {
    let (code, said) = refused(&["--server", "unix:/nowhere/api.sock", "get", "nodes"]);
    assert_eq!(code, 1);
    assert_eq!(
        said,
        "layercake: cannot reach the server at unix:/nowhere/api.sock; is `layercake serve` running? \
         name another place with --server or LAYERCAKE_SERVER: No such file or directory (os error 2)\n"
    );
}

#[test]
fn an_address_that_is_none_is_wrong_usage() {
    for bad in ["bla", "https://a", "unix:relative", "http://"] {
        let (code, said) = refused(&["--server", bad, "status"]);
        assert_eq!(code, 2);
        assert!(said.contains("use unix:/path/of/the/socket or http://127.0.0.1:PORT"), "{said}");
    }
}

#[test]
fn a_cluster_file_that_is_not_there_is_named() {
    let (code, said) = refused(&["apply", "-f", "/nowhere/cluster.yaml"]);
    assert_eq!(code, 1);
    assert!(
        said.starts_with("layercake: cannot read /nowhere/cluster.yaml: No such file"),
        "{said}"
    );
}

#[test]
fn a_verb_without_what_it_needs_is_wrong_usage() {
    for missing in [&["apply"][..], &["describe"], &["power", "off"], &["image", "import", "x"]] {
        let (code, said) = refused(missing);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("required"), "{said}");
    }
}

#[test]
fn a_kept_plan_is_applied_alone_and_not_for_show() {
    for both in [["-f", "c.yaml"], ["--dry-run", "--output=json"]] {
        let (code, said) = refused(&[&["apply", "--plan", "p.json"], &both[..]].concat());
        assert!(code == 2 && said.contains("cannot be used with"), "{said}");
    }
}

#[test]
fn every_verb_explains_itself_and_what_it_takes() {
    let help = String::from_utf8(layercake(&["--help"]).stdout).unwrap();
    let verbs = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let verbs: Vec<&str> = verbs.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert!(verbs.len() > 15, "{help}");
    for verb in verbs.into_iter().filter(|verb| *verb != "help") {
        let output = layercake(&[verb, "--help"]);
        assert!(output.status.success(), "{verb}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&format!("Usage: layercake {verb}")), "{said}");
    }
}
