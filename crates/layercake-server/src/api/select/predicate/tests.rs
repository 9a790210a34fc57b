#![allow(clippy::unwrap_used)]
use super::*;
use kraken_model::NodeId;
use serde_json::{Value, json};

fn digest(number: u8) -> String {
    format!("sha256:{number:064x}")
}

fn member(name: &str, cfg: &Value, dsc: &Value) -> Member {
    let document = |json| Document::from_json(json).unwrap();
    (NodeId::new(name).unwrap(), document(cfg), document(dsc))
}

/// n1 runs what is wanted; n2 still runs the image of before; n3 is off.
fn cluster() -> Vec<Member> {
    let cfg = |rack: &str| {
        json!({
            "arch": "x86_64", "phys_state": "POWER_ON", "run_state": "SYNC", "image_state": "ACTIVE",
            "location": {"rack": rack}, "labels": {"role": "gpu"},
            "net": {"boot": {"mac": "52:54:00:00:00:01"}},
            "images": {"web": {"reference": "web:2", "digest": digest(2), "kind": "plain"}},
        })
    };
    let runs = |number| {
        json!({
            "phys_state": "POWER_ON", "run_state": "SYNC", "image_state": "ACTIVE",
            "arch": "x86_64", "layer0": {"kernel": "6.12.48+deb13-amd64"},
            "images": {"web": {"digest": digest(number), "state": "running"}},
        })
    };
    vec![
        member("n1", &cfg("r1"), &runs(2)),
        member("n2", &cfg("r1"), &runs(1)),
        member("n3", &cfg("r2"), &json!({"phys_state": "POWER_OFF"})),
    ]
}

fn ask(text: &str) -> Result<String, String> {
    let registry = Registry::new(layercake_schema::schemas()).unwrap();
    let (key, value) = text.split_once('=').unwrap();
    let (side, path) = match key.split_once(':') {
        Some(("cfg", path)) => (Some(Side::Cfg), path),
        Some((_, path)) => (Some(Side::Dsc), path),
        None => (None, key),
    };
    let digests = |reference: &str| match reference {
        "web:1" => Some(digest(1)),
        "web:2" => Some(digest(2)),
        _ => None,
    };
    let predicate = Predicate { registry: &registry, side, path, value };
    predicate.nodes(&cluster(), &digests).map(|set| set.to_string())
}

#[test]
fn a_value_is_what_is_and_with_cfg_what_is_wanted() {
    let (one, two) = (digest(1), digest(2));
    for (asked, found) in [
        ("images.web.reference=web:2", "n1"),
        ("images.web.reference=web:1", "n2"),
        ("cfg:images.web.reference=web:2", "n[1-3]"),
        (&format!("images.web.digest={two}"), "n1"),
        (&format!("images.web.digest={one}"), "n2"),
        (&format!("cfg:images.web.digest={two}"), "n[1-3]"),
        // It is said of the image that is wanted, and n1 alone runs that.
        ("images.web.kind=plain", "n1"),
        ("cfg:images.web.kind=plain", "n[1-3]"),
        ("run_state=SYNC", "n[1-2]"),
        ("cfg:run_state=SYNC", "n[1-3]"),
        ("dsc:run_state=SYNC", "n[1-2]"),
        ("run_state=ERROR", ""),
        ("location.rack=r1", "n[1-2]"),
        ("cfg:location.rack=r2", "n3"),
        // What a machine is made of is known from the file as long as it has not told.
        ("arch=x86_64", "n[1-3]"),
        ("dsc:arch=x86_64", "n[1-2]"),
        ("arch=aarch64", ""),
        ("net.boot.mac=52:54:00:00:00:01", "n[1-3]"),
        ("images.web.restarts=3", ""),
        ("layer0.kernel=6.12.48+deb13-amd64", "n[1-2]"),
    ] {
        assert_eq!(ask(asked).as_deref(), Ok(found), "{asked}");
    }
}

#[test]
fn an_address_or_a_value_that_does_not_exist_is_refused_with_the_nearest_one() {
    for (asked, said) in [
        ("rack=r1", "unknown field \"rack\", did you mean location.rack?"),
        ("phystate=POWER_OFF", "unknown field \"phystate\", did you mean phys_state?"),
        ("gremlin=1", "unknown field \"gremlin\"; there is boot_state, busy, claim, image_state, "),
        ("labels.roel=gpu", "no node has labels.roel, did you mean labels.role?"),
        ("images.wbe.state=running", "no node has images.wbe, did you mean images.web.state?"),
        (
            "phys_state=POWR_OFF",
            "phys_state is never \"POWR_OFF\" (did you mean POWER_OFF?): it is",
        ),
        ("images.web.state=runing", "is never \"runing\" (did you mean running?)"),
        ("images.web.restarts=many", "is never \"many\": it is a number between 0"),
        ("location.rack=r9", "no node has location.rack = r9 (did you mean r1?)"),
        ("labels.role=cpu", "no node has labels.role = cpu (did you mean gpu?)"),
        (
            "images.web.reference=web:3",
            "no node has images.web.reference = web:3 (did you mean web:2?)",
        ),
        ("cfg:boot_state=INIT", "boot_state is never configured"),
        ("dsc:labels.role=gpu", "labels.role is never discovered"),
        ("labels.role=", "no node has labels.role = "),
    ] {
        let error = ask(asked).unwrap_err();
        assert!(error.contains(said), "{asked}: {error}");
    }
}
