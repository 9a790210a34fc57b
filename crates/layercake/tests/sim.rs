//! `layercake sim`: the whole program, with machines that do not exist.
#![allow(clippy::unwrap_used)]

mod simulated;

use simulated::Sim;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How much faster than real machines these are: a minute a second.
const SPEED: &str = "60";

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_rack_loses_its_power_and_recovers_and_nothing_is_left_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(dir.path(), &["--nodes", "40", "--speed", SPEED]);
    assert!(sim.greeting.starts_with("40 simulated machines, at 60 times"), "{}", sim.greeting);
    sim.until("image_state=ACTIVE", 40);
    let went_wrong =
        ["events", "--from", "1", "--kind", "failed,timed_out,interrupted,quarantined"];
    assert_eq!(sim.says(&went_wrong), "", "nobody asked for anything to go wrong");
    assert!(!sim.says(&["events", "--from", "1"]).contains("panicked"));

    let begun = sim.says(&["sim", "fault", "add", "rack-power", "r2"]);
    assert_eq!(
        begun,
        "r2 (n[021-040]): there is no power in this rack, until `layercake sim fault clear 1`\n"
    );
    sim.until("phys_state=POWER_OFF", 20);
    assert_eq!(sim.says(&["get", "nodes", "image_state=ACTIVE", "-o", "name"]).lines().count(), 20);
    let listed = sim.says(&["sim", "fault", "list"]);
    assert!(listed.contains("rack-power  r2    n[021-040]"), "{listed}");
    let events = sim.says(&["events", "n021"]);
    assert!(events.contains("phys_state = POWER_OFF (power)"), "{events}");
    assert_eq!(sim.says(&["sim", "fault", "clear", "1"]), "1 fault cleared\n");
    sim.until("image_state=ACTIVE", 40);
    assert_eq!(sim.says(&["sim", "fault", "list", "-o", "json"]), "[]\n");

    sim.end();
    assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
}

#[test]
fn what_people_do_to_real_machines_they_do_to_these() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(dir.path(), &["--nodes", "12", "--speed", SPEED]);
    sim.until("image_state=ACTIVE", 12);

    let digest = |tag: &str| {
        let images = sim.says(&["image", "list", "-o", "json"]);
        let images: serde_json::Value = serde_json::from_str(&images).unwrap();
        let image = images.as_array().unwrap().iter().find(|image| image["tags"][0] == tag);
        image.unwrap()["digest"].as_str().unwrap().to_owned()
    };
    // Another image is a swap.
    let file = entries(dir.path())[0].join("cluster.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("compute:1", "compute:2")).unwrap();
    let file = file.to_str().unwrap();
    let planned = sim.says(&["plan", "-f", file]);
    assert!(planned.contains("image.swap") && !planned.contains("power."), "{planned}");
    // What is asked for by reference is what runs; what is wanted is asked for with cfg.
    sim.says(&["hold", "n012"]);
    sim.says(&["apply", "-f", file]);
    sim.until("images.compute.reference=compute:2", 10);
    let runs = |set| sim.says(&["get", "nodes", set, "-o", "name"]);
    assert_eq!(runs("images.compute.reference=compute:1"), "n012\n");
    assert_eq!(runs("cfg:images.compute.reference=compute:2").lines().count(), 11);
    sim.says(&["release", "n012"]);
    sim.until(&format!("images.compute.digest={}", digest("compute:2")), 11);
    sim.until("image_state=ACTIVE", 12);
    let history = sim.says(&["history", "n012"]);
    assert!(history.contains(&digest("compute:2")) && !history.contains("power.off"), "{history}");

    let printed = sim.first_line(&["logs", "n012", "--follow"]);
    assert_eq!(printed, format!("compute: runs as if it were {}\n", digest("compute:1")));
    sim.says(&["hold", "n012", "--why", "a new fan"]);
    let off = sim.says(&["power", "off", "n012", "--yes"]);
    let blocked =
        "held by operator at loopback (a new fan): nothing is done until `layercake release n012`";
    assert!(off.starts_with("n012: powering off (temporary") && off.contains(blocked), "{off}");
    let explained = sim.says(&["explain", "n012"]);
    assert!(explained.contains("is held by operator at loopback (a new fan)"), "{explained}");
    let held = sim.says(&["hold", "n[011-012]"]);
    let waits = "; n012 is to be powered off: that waits for `layercake release n012`\n";
    assert!(held.starts_with("n[011-012]: held") && held.ends_with(waits), "{held}");
    sim.says(&["release", "n[011-012]"]);
    sim.until("phys_state=POWER_OFF", 1);
    sim.says(&["power", "on", "n012", "--yes"]);
    sim.until("image_state=ACTIVE", 12);
    sim.says(&["hold", "n003"]);
    sim.says(&["sim", "fault", "add", "reset", "n003"]);
    sim.until("run_state=ERROR", 1);
    // What it said before it fell silent is shown as that, and counts nowhere.
    let described = sim.says(&["describe", "n003"]);
    assert!(described.contains("  it is not heard since 20"), "{described}");
    assert!(sim.says(&["get", "nodes", "n003"]).contains("compute (running?)"), "{described}");
    let running = sim.says(&["get", "nodes", "images.compute.state=running", "-o", "name"]);
    assert!(running.lines().count() == 10 && !running.contains("n003"), "{running}");
    sim.says(&["release", "n003"]);
    sim.until("image_state=ACTIVE", 12);
    assert_eq!(sim.says(&["graph", "check"]), "nothing found\n");
    assert!(sim.says(&["get", "modules"]).contains("simulated"));
    assert!(sim.says(&["sim", "status"]).starts_with("12 simulated machines, seed 0\nspeed: 60"));

    for (wrong, why) in [
        (
            &["sim", "fault", "add", "rack-power", "r9"][..],
            "no node has location.rack = r9 (did you mean r1?)",
        ),
        (&["sim", "fault", "add", "slow", "*!n02"], "no such node: n02 (did you mean n002?)"),
        (&["sim", "fault", "add", "hang"], "say which nodes"),
        (&["sim", "fault", "add", "lossy", "n003"], "leave nodes and rack out"),
        (&["sim", "fault", "add", "slow", "n999"], "no such node: n999"),
        (&["sim", "fault", "add", "slow", "n003", "--for", "200h"], "up to 168h"),
        (&["sim", "fault", "add", "reset", "n003", "--for", "1m"], "happens once"),
        (&["sim", "fault", "clear", "7"], "there is no fault 7"),
        (&["console", "n003", "--log"], "is simulated and has none"),
    ] {
        let said = sim.refuses(wrong);
        assert!(said.contains(why), "{wrong:?}: {said}");
    }
    sim.end();
}

#[test]
fn a_restart_is_asked_for_waits_can_be_withdrawn_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(dir.path(), &["--nodes", "3", "--speed", SPEED]);
    sim.until("image_state=ACTIVE", 3);
    let refused = sim.refuses(&["reboot", "n001"]);
    let asked = "restart 1 node (n001)? cannot ask for confirmation (no terminal): use --yes";
    assert!(refused.contains(asked), "{refused}");
    sim.says(&["busy", "n001", "--why", "job 7"]);
    let said = sim.says(&["reboot", "n001", "--why", "a new kernel", "--yes"]);
    assert!(said.starts_with("n001: restart requested: images are stopped"), "{said}");
    assert!(said.contains("nothing is done until `layercake free n001`"), "{said}");
    let text = sim.says(&["explain", "n001"]);
    assert!(text.contains("restart requested by operator at loopback (a new kernel)"), "{text}");
    sim.until("image_state=ACTIVE", 3);
    assert_eq!(sim.says(&["reboot", "--cancel", "n001"]), "n001: restart withdrawn\n");
    let said = sim.says(&["reboot", "--cancel", "n001"]);
    assert_eq!(said, "n001 was not waiting for a restart\n");
    sim.says(&["free", "n001"]);
    for (hard, steps) in [(false, ["image.stop", "power.off"]), (true, ["power.cut", "power.on"])] {
        let more: &[&str] = if hard { &["--hard"] } else { &[] };
        sim.says(&[&["power", "cycle", "n001", "--yes"], more].concat());
        let restarted = ["events", "n001", "--from", "1", "--kind", "restarted", "-o", "name"];
        let times = if hard { 2 } else { 1 };
        assert!(sim.eventually(|| sim.says(&restarted).lines().count() == times));
        sim.until("image_state=ACTIVE", 3);
        let events = sim.says(&["events", "n001", "--from", "1"]);
        assert!(steps.iter().all(|step| events.contains(step)), "{events}");
        assert!(!events.contains("PHYS_HANG"), "{events}");
    }
    assert!(sim.refuses(&["power", "off", "n001", "--hard"]).contains("--hard belongs to"));
    sim.end();
}

#[test]
fn faults_end_when_their_time_is_over_and_come_by_themselves_when_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::start(dir.path(), &["--nodes", "10", "--speed", "600", "--chaos", "3600"]);
    // Whatever chaos does meanwhile, this one is over after a second.
    sim.says(&["sim", "fault", "add", "slow", "n001", "--for", "10m"]);
    let (mut came, mut ended) = (false, false);
    let happened = sim.eventually(|| {
        let listed = sim.says(&["sim", "fault", "list", "-o", "json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let faults = listed.as_array().unwrap();
        came |= faults.iter().any(|fault| fault["by"] == "chaos" && fault["until"].is_u64());
        ended = faults.iter().all(|fault| fault["by"] == "chaos");
        came && ended
    });
    assert!(happened, "{}", sim.says(&["sim", "fault", "list"]));
    sim.end();
}

#[test]
fn a_simulation_with_a_state_directory_goes_on_where_the_one_before_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (temporary, state) = (dir.path().join("tmp"), dir.path().join("state"));
    std::fs::create_dir(&temporary).unwrap();
    let options = ["--speed", SPEED, "--state", state.to_str().unwrap()];
    let sim = Sim::start(&temporary, &[&options[..], &["--nodes", "5"]].concat());
    sim.until("image_state=ACTIVE", 5);
    sim.says(&["hold", "n005", "--why", "a new DIMM"]);
    sim.end();
    assert_eq!(entries(&temporary), Vec::<PathBuf>::new());

    let sim = Sim::start(&temporary, &options);
    assert!(sim.greeting.starts_with("5 simulated machines"), "{}", sim.greeting);
    // The machines begin switched off; the one that is held stays so.
    sim.until("image_state=ACTIVE", 4);
    assert!(sim.says(&["get", "nodes", "n005"]).contains("a new DIMM"));
    sim.says(&["release", "n005"]);
    sim.until("image_state=ACTIVE", 5);
    sim.end();
}

fn layercake(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_layercake")).args(arguments).output().unwrap()
}

#[test]
fn a_day_is_told_with_how_it_ended() {
    let output = layercake(&["sim", "--nodes", "20", "--seed", "3"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("seed 3: 20 nodes, ") && said.contains("no invariant"), "{said}");
    let output = layercake(&["sim", "--nodes", "20", "--seed", "3", "-o", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["seed"], &told["nodes"]), (&3.into(), &20.into()), "{told}");
    assert!(told["violation"].is_null() && told["events"].as_u64() > Some(0), "{told}");
}

#[test]
fn what_cannot_be_simulated_is_refused_before_anything_is_made() {
    for (wrong, code, why) in [
        (&["--serve", "--speed", "0"][..], 1, "between 0.1 and 600"),
        (&["--serve", "--chaos", "3601"], 1, "between 0 and 3600"),
        (&["--serve", "--nodes", "0"], 2, "0 is not in 1..=100000"),
        (&["--speed", "2"], 2, "--serve"),
        (&["--serve", "--cluster", "/nowhere/c.yaml"], 1, "/nowhere/c.yaml"),
        (&["--serve", "--api-listen", "192.0.2.1:0"], 1, "loopback only"),
        (&["fault", "add", "gremlins"], 2, "there is no fault called \"gremlins\""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        let output = command.arg("sim").args(wrong).env("TMPDIR", dir.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{wrong:?}: {said}");
        assert!(said.contains(why), "{wrong:?}: {said}");
        assert_eq!(entries(dir.path()), Vec::<PathBuf>::new(), "{wrong:?}");
    }
}
