//! What the demo promises, one promise a function. Each acts as a person or a misfortune would, and then
//! looks at what everybody can see.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::client::{Event, Node};
use super::cluster::Cluster;
use super::images::{CRASH_PAGE, GREETING};
use crate::error::Error;
use crate::process::Identity;
use crate::run::human;

/// After this long what the server found out is durable, which it sees to five times a second.
const DURABLE: Duration = Duration::from_millis(500);

/// The promise for two cores without hardware virtualisation, counted from the first process of the lab.
const FROM_NOTHING: Duration = Duration::from_secs(5 * 60);
/// A machine that was lost has to be noticed, cold for some seconds, and boot.
const REBOOT: Duration = Duration::from_secs(5 * 60);
/// A node notices that its parent is silent after some hellos, and joins again.
const ADOPTION: Duration = Duration::from_secs(2 * 60);
/// A container that was lost is only started again.
const RESTART: Duration = Duration::from_secs(2 * 60);

/// One of the demo's promises.
pub(super) struct Check {
    pub(super) promise: &'static str,
    /// The node whose console tells most when it is not kept.
    pub(super) node: &'static str,
    /// Gives a line about what was found right.
    pub(super) run: fn(&mut Cluster) -> Result<String, Error>,
}

/// All but the last promise, which is about what is left when everything is gone.
pub(super) const CHECKS: &[Check] = &[
    Check {
        promise: "three nodes reach POWER_ON, SYNC and image ACTIVE from nothing",
        node: "n1",
        run: from_nothing,
    },
    Check {
        promise: "a machine killed with SIGKILL comes back to ACTIVE by itself",
        node: "n2",
        run: killed_machine,
    },
    Check {
        promise: "a node whose image process is killed comes back without a reboot",
        node: "n1",
        run: killed_image,
    },
    Check {
        promise: "an image changed in the cluster file is swapped without a power cycle",
        node: "n1",
        run: changed_image,
    },
    Check {
        promise: "an image runs on while the service that looks after it is stopped",
        node: "n1",
        run: stopped_service,
    },
    Check {
        promise: "a server killed in the middle of a boot finishes it, and adopts what runs",
        node: "n3",
        run: killed_server,
    },
];
/// The last promise.
pub(super) const NOTHING_LEFT: &str = "nothing is left over: processes, namespaces, mounts, files";

type Nodes = BTreeMap<String, Node>;

const NODES: [(&str, Ipv4Addr, &str); 3] = [
    ("n1", Ipv4Addr::new(10, 77, 0, 11), "web:1"),
    ("n2", Ipv4Addr::new(10, 77, 0, 12), "web:1"),
    ("n3", Ipv4Addr::new(10, 77, 0, 13), "login:1"),
];

/// Where to look at a node's image from inside of the lab.
pub(super) const A_PAGE: &str = "http://10.77.0.11/";

fn refuse<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Refused(text.into()))
}

fn all_active(nodes: &Nodes) -> bool {
    nodes.len() == NODES.len() && nodes.values().all(Node::is_active)
}

/// Waits until every node is where the cluster file wants it.
pub(super) fn wait_for_all(cluster: &mut Cluster, limit: Duration) -> Result<(), Error> {
    cluster.wait("three nodes with power, in sync, their images active", limit, |_, nodes| {
        all_active(nodes).then_some(())
    })
}

/// Waits until the page of a node says that this image serves it.
pub(super) fn wait_for_page(
    cluster: &mut Cluster,
    address: Ipv4Addr,
    image: &str,
) -> Result<(), Error> {
    let wanted = format!("{GREETING}{image}");
    cluster.wait(&format!("{image} to answer on {address}"), RESTART, |cluster, _| {
        let body = cluster.page(address, "/").ok()?;
        body.starts_with(&wanted).then_some(())
    })
}

fn node(cluster: &mut Cluster, name: &str) -> Result<Node, Error> {
    let nodes = cluster.client.nodes()?;
    let found = nodes.into_iter().find(|node| node.name == name);
    found.map_or_else(|| refuse(format!("there is no node {name}")), Ok)
}

fn from_nothing(cluster: &mut Cluster) -> Result<String, Error> {
    let started = Instant::now();
    wait_for_all(cluster, FROM_NOTHING.saturating_sub(cluster.age()))?;
    let took = cluster.age();
    for (_, address, image) in NODES {
        wait_for_page(cluster, address, image)?;
    }
    Ok(format!(
        "{} after the lab's first process, {} of boot",
        human(took),
        human(started.elapsed())
    ))
}

fn killed_machine(cluster: &mut Cluster) -> Result<String, Error> {
    let before = node(cluster, "n2")?;
    let machine = cluster.machine("n2")?;
    if !machine.kill() {
        return refuse("the machine of n2 had ended before it was killed");
    }
    let started = Instant::now();
    let after = cluster.wait("n2 to come back from SIGKILL", REBOOT, |_, nodes| {
        let now = nodes.get("n2")?;
        (now.is_active() && now.boot_id() != before.boot_id()).then(|| now.clone())
    })?;
    let took = started.elapsed();
    wait_for_page(cluster, NODES[1].1, NODES[1].2)?;
    let later = after.number("layer0.started") > before.number("layer0.started");
    if !later || cluster.machine("n2")? == machine {
        return refuse("n2 is active, but not from a new start of its machine");
    }
    Ok(format!("killed process {}, active again after {}", machine.pid, human(took)))
}

fn killed_image(cluster: &mut Cluster) -> Result<String, Error> {
    let before = node(cluster, "n1")?;
    let seq = cluster.client.latest_event()?;
    // The answer may be cut off by what it causes.
    let _ = cluster.page(NODES[0].1, CRASH_PAGE);
    let started = Instant::now();
    let was = before.number("images.web.started");
    let after = cluster.wait("n1 to run its image again", RESTART, |_, nodes| {
        let now = nodes.get("n1")?;
        (now.is_active() && now.number("images.web.started") > was).then(|| now.clone())
    })?;
    let took = started.elapsed();
    same_boot(&before, &after)?;
    wait_for_page(cluster, NODES[0].1, NODES[0].2)?;
    let events = cluster.client.events_after(seq)?;
    if !events.iter().any(|e| e.node.as_deref() == Some("n1") && e.found("image_state", "ERROR")) {
        return refuse(format!("no event tells that the image of n1 failed:\n{}", lines(&events)));
    }
    no_orders(&events, &["power", "boot"], &["n1", "n2", "n3"])?;
    Ok(format!("its failure was told; the same boot runs it again after {}", human(took)))
}

fn changed_image(cluster: &mut Cluster) -> Result<String, Error> {
    let before = cluster.look("the nodes as they are before the change")?;
    let seq = cluster.client.latest_event()?;
    let path = cluster.file();
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    fs::write(&path, with_newer_web(&text)?).map_err(Error::file("write", &path))?;
    let started = Instant::now();
    cluster.apply()?;
    let after = cluster.wait("n1 and n2 to run web:2", RESTART, |_, nodes| {
        let swapped = ["n1", "n2"].iter().all(|name| {
            let (Some(old), Some(new)) = (before.get(*name), nodes.get(*name)) else {
                return false;
            };
            old.text("images.web.digest") != new.text("images.web.digest")
        });
        (swapped && all_active(nodes)).then(|| nodes.clone())
    })?;
    let took = started.elapsed();
    for (name, old) in &before {
        let new = after.get(name).map_or_else(|| refuse(format!("{name} has gone")), Ok)?;
        same_boot(old, new)?;
    }
    for (_, address, _) in &NODES[..2] {
        wait_for_page(cluster, *address, "web:2")?;
    }
    no_orders(&cluster.client.events_after(seq)?, &["power", "boot"], &["n1", "n2", "n3"])?;
    Ok(format!("web:2 answers, swapped within {}; Layer 0 never stopped", human(took)))
}

fn stopped_service(cluster: &mut Cluster) -> Result<String, Error> {
    const SERVICE: &str = "services.image.state";
    let before = node(cluster, "n1")?;
    let seq = cluster.client.latest_event()?;
    let path = cluster.file();
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let write = |text: &str| fs::write(&path, text).map_err(Error::file("write", &path));
    write(&format!("{text}\ngroups:\n  quiet: {{ nodes: n1, services: {{ image: off }} }}\n"))?;
    cluster.apply()?;
    cluster.wait("n1 to stop its image service", RESTART, |_, nodes| {
        let n1 = nodes.get("n1")?;
        let forgotten = n1.text("image_state") == "-" && n1.text("images.web.state") == "-";
        (n1.converged && n1.text(SERVICE) == "STOPPED" && forgotten).then_some(())
    })?;
    wait_for_page(cluster, NODES[0].1, "web:2")?;
    write(&text)?;
    cluster.apply()?;
    let started = Instant::now();
    let after = cluster.wait("n1 to look after its image again", RESTART, |_, nodes| {
        nodes.get("n1").filter(|n1| n1.is_active()).cloned()
    })?;
    let took = started.elapsed();
    same_boot(&before, &after)?;
    let same = ["images.web.started", "images.web.pid", "images.web.restarts"]
        .iter()
        .all(|fact| before.number(fact).is_some() && before.number(fact) == after.number(fact));
    if !same || after.text(SERVICE) != "RUNNING" {
        return refuse("n1 is active, but does not run what it ran before");
    }
    no_orders(
        &cluster.client.events_after(seq)?,
        &["power", "boot", "image"],
        &["n1", "n2", "n3"],
    )?;
    Ok(format!("the same process of it is looked after again, found within {}", human(took)))
}

fn with_newer_web(text: &str) -> Result<String, Error> {
    if text.matches("web:1").count() == 1 {
        return Ok(text.replace("web:1", "web:2"));
    }
    refuse("the cluster file does not name the image web:1 exactly once")
}

fn killed_server(cluster: &mut Cluster) -> Result<String, Error> {
    let before = cluster.look("the nodes as they are before the crash")?;
    cluster.client.run(&["power", "cycle", "n3", "--yes"])?;
    let mut since = None;
    cluster.wait("n3 to be in the middle of its boot", REBOOT, |_, nodes| {
        let n3 = nodes.get("n3")?;
        let boots = matches!(n3.text("boot_state"), "WAIT" | "INIT");
        let is_heard = n3.text("run_state") == "SYNC";
        if !boots || is_heard || n3.text("phys_state") != "POWER_ON" {
            since = None;
            return None;
        }
        // What was found out just before a crash may be lost, and be done once more.
        (since.get_or_insert_with(Instant::now).elapsed() > DURABLE).then_some(())
    })?;
    let machines = machines(cluster)?;
    let seq = cluster.client.latest_event()?;
    cluster.kill_server()?;
    let started = Instant::now();
    cluster.start_server()?;
    let after = cluster.wait("the new server to finish the boot of n3", REBOOT, |_, nodes| {
        let n3 = nodes.get("n3")?;
        let is_new = n3.boot_id() != before.get("n3")?.boot_id();
        (is_new && all_active(nodes)).then(|| nodes.clone())
    })?;
    let took = started.elapsed();
    // What was kept says that they run; only that they were heard again makes them adopted.
    let adopted = |events: &[Event], name: &str| {
        events.iter().any(|e| e.is("adopted") && e.node.as_deref() == Some(name))
    };
    cluster.wait("n1 and n2 to be heard again and adopted", ADOPTION, |cluster, _| {
        let events = cluster.client.events_after(seq).ok()?;
        ["n1", "n2"].iter().all(|name| adopted(&events, name)).then_some(())
    })?;
    for name in ["n1", "n2"] {
        let (Some(old), Some(new)) = (before.get(name), after.get(name)) else {
            return refuse(format!("{name} has gone"));
        };
        same_boot(old, new)?;
    }
    if self::machines(cluster)? != machines {
        return refuse("a machine was replaced by another after the server came back");
    }
    let events = cluster.client.events_after(seq)?;
    no_orders(&events, &["power"], &["n1", "n2", "n3"])?;
    no_orders(&events, &["boot", "image"], &["n1", "n2"])?;
    wait_for_page(cluster, NODES[2].1, NODES[2].2)?;
    Ok(format!(
        "the same boot was finished {} after the crash; n1 and n2 were adopted",
        human(took)
    ))
}

fn machines(cluster: &Cluster) -> Result<Vec<Identity>, Error> {
    NODES.iter().map(|(name, ..)| cluster.machine(name)).collect()
}

/// An error unless a node's Layer 0 has run all the time between two looks.
fn same_boot(before: &Node, after: &Node) -> Result<(), Error> {
    let same = before.boot_id() == after.boot_id()
        && before.number("layer0.started") == after.number("layer0.started");
    if same && before.boot_id() != "-" {
        return Ok(());
    }
    refuse(format!(
        "{} was booted again: boot {} before, {} after",
        before.name,
        before.boot_id(),
        after.boot_id()
    ))
}

/// An error when one of these modules was told to act on one of these nodes.
fn no_orders(events: &[Event], modules: &[&str], nodes: &[&str]) -> Result<(), Error> {
    let is_wrong = |event: &&Event| {
        event.node.as_deref().is_some_and(|node| nodes.contains(&node))
            && modules.iter().any(|module| event.orders(module))
    };
    let wrong: Vec<_> = events.iter().filter(is_wrong).map(Event::line).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    refuse(format!("steps were taken that should not be:\n{}", wrong.join("\n")))
}

fn lines(events: &[Event]) -> String {
    events.iter().map(Event::line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::client::tests::{dispatched, node};
    use super::*;

    #[test]
    fn all_are_active_only_when_each_of_them_is() {
        let active = ["POWER_ON", "INIT", "SYNC", "ACTIVE"];
        let names = ["n1", "n2", "n3"];
        let mut nodes: Nodes =
            names.iter().map(|name| ((*name).to_owned(), node(name, active))).collect();
        assert!(all_active(&nodes));
        let booting = node("n3", ["POWER_ON", "INIT", "SYNC", "IDLE"]);
        nodes.insert("n3".to_owned(), booting);
        assert!(!all_active(&nodes));
        nodes.remove("n3");
        assert!(!all_active(&nodes), "a node is missing");
    }

    #[test]
    fn a_power_command_to_a_node_that_should_be_spared_is_found() {
        let events = [dispatched("n3", "power.on"), dispatched("n1", "power.discover")];
        no_orders(&events, &["power"], &["n1", "n2"]).unwrap();
        let error = no_orders(&events, &["power"], &["n1", "n3"]).unwrap_err().to_string();
        assert!(error.ends_with("n3 dispatched power.on"), "{error}");
    }

    #[test]
    fn the_cluster_file_of_the_checkout_can_be_changed_as_the_demo_does() {
        let text =
            fs::read_to_string(crate::run::root().join("examples/lab/cluster.yaml")).unwrap();
        assert!(with_newer_web(&text).unwrap().contains("web:2"));
        assert!(with_newer_web("web:1 web:1").is_err());
    }
}
