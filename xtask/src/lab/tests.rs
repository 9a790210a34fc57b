#![allow(clippy::unwrap_used)]

use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use super::*;

fn netns_names() -> String {
    check(&mut command("ip", ["netns", "list"])).unwrap()
}

#[test]
fn a_lab_is_a_network_apart_and_leaves_nothing_behind() {
    let labs = tempfile::tempdir().unwrap();
    let mut lab = Lab::create(labs.path()).unwrap();
    let netns = lab.netns().to_owned();
    lab.enter(|| {
        let listener = TcpListener::bind("10.77.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    })
    .unwrap();
    assert!(TcpListener::bind("10.77.0.1:0").is_err(), "the address exists outside of the lab");

    // A daemon that has left its parent, its session and its process group, and a mount.
    let script =
        "setsid sh -c 'echo $$ > daemon.pid; exec sleep 600' & mkdir m; mount -t tmpfs lab m; wait";
    let mut sh = command("sh", ["-c", script]);
    sh.current_dir(lab.dir()).stdin(Stdio::null());
    let mut child = lab.spawn(&mut sh).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let daemon = loop {
        assert!(std::time::Instant::now() < deadline, "the daemon did not start");
        let text = std::fs::read_to_string(lab.dir().join("daemon.pid")).unwrap_or_default();
        let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        if let Ok(pid) = text.trim().parse::<i32>()
            && mounted.contains(&*lab.dir().join("m").to_string_lossy())
        {
            break pid;
        }
        std::thread::yield_now();
    };
    let left = lab.take_down().unwrap();
    assert!(left.is_empty(), "left behind:\n{left}");
    assert!(Identity::of(daemon).is_none());
    assert!(!netns_names().contains(&netns));
    assert_eq!(std::fs::read_dir(labs.path()).unwrap().count(), 0);
    child.wait().unwrap();
}

#[test]
fn a_lab_whose_owner_was_killed_is_taken_down_by_the_next_and_a_living_one_is_not() {
    let labs = tempfile::tempdir().unwrap();
    let living = Lab::create(labs.path()).unwrap();
    let mut dead = Lab::create(labs.path()).unwrap();
    let mut sleeper = dead.spawn(command("sleep", ["600"]).stdin(Stdio::null())).unwrap();
    // As after a kill -9: nobody takes it down, and its owner is a process that is not there.
    dead.record.owner.start_ticks += 1;
    dead.record.save(&dead.dir).unwrap();
    dead.is_up = false;
    let dead_name = dead.netns().to_owned();

    assert_eq!(clean(labs.path()).unwrap(), 1);
    let names = netns_names();
    assert!(names.contains(living.netns()) && !names.contains(&dead_name), "{names}");
    sleeper.wait().unwrap();
    assert!(living.take_down().unwrap().is_empty());
}
