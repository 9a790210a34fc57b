//! What may stand in a node's documents.

use crate::{
    ARCHITECTURES, FOUND_RUNNING, FoundRunning, RECOVERIES, SILENCE, SILENCE_WORDS, Timing,
    boot_state, busy, claim, image_service, image_state, phys_state, run_state,
};
use kraken_model::{Field, Format, Kind, Pattern, Schema, Side};

/// The ways of switching a machine.
pub const POWER_DRIVERS: &[&str] = &["qemu", "exec"];

/// How an image runs.
pub const IMAGE_KINDS: &[&str] = &["plain", "systemd"];

/// The largest image, in bytes: 16 TiB, beyond any disk it would be fetched to.
pub const MAX_IMAGE_BYTES: i64 = 1 << 44;

/// The least memory that a kernel, Layer 0 and a small image fit into, in MiB.
pub const MIN_MEMORY_MIB: i64 = 256;

/// The most memory a virtual machine is given, in MiB.
pub const MAX_MEMORY_MIB: i64 = 1024 * 1024;

/// The most processors a virtual machine is given.
pub const MAX_CPUS: i64 = 255;

const CFG: &[Side] = &[Side::Cfg];
const DSC: &[Side] = &[Side::Dsc];
const BOTH: &[Side] = &[Side::Cfg, Side::Dsc];

const ANY: Kind = Kind::Text(Format::Any);
const COUNT: Kind = Kind::Int { min: 0, max: i64::MAX };

/// Every schema of Layercake.
#[must_use]
pub fn schemas() -> Vec<Schema> {
    vec![base(), net(), boot(), power(), images(), services(), layer0()]
}

fn schema(name: &str, fields: Vec<Field>) -> Schema {
    Schema { name: name.to_owned(), fields }
}

/// A field whose pattern this program spells; a wrong one fails the first test that runs.
#[allow(clippy::expect_used)]
fn field(pattern: &str, kind: Kind, sides: &'static [Side], about: &str) -> Field {
    let pattern = Pattern::new(pattern).expect("a pattern spelt in the program");
    Field { pattern, kind, sides, about: about.to_owned(), unavailable: Vec::new() }
}

fn variable(path: &str, values: &[&str], sides: &'static [Side], about: &str) -> Field {
    let values: Vec<_> = values.iter().map(|v| (*v).into()).collect();
    field(path, Kind::Variable(values.into()), sides, about)
}

fn list(kind: Kind) -> Kind {
    Kind::List(Box::new(kind))
}

fn words(words: &'static [&'static str]) -> Kind {
    Kind::Text(Format::Choice(words))
}

fn base() -> Schema {
    let (phys, run) = (phys_state::VALUES, run_state::VALUES);
    schema(
        "node",
        vec![
            variable(phys_state::PATH, phys, BOTH, "Whether the machine has power"),
            variable(run_state::PATH, run, BOTH, "Whether Layer 0 runs on it and is heard"),
            variable(
                busy::PATH,
                busy::VALUES,
                DSC,
                "Whether it is in use, so that nothing may disturb it",
            ),
            variable(
                claim::PATH,
                claim::VALUES,
                DSC,
                "Whether its machine, which was found running, may be taken over",
            ),
            field(
                FOUND_RUNNING,
                words(FoundRunning::WORDS),
                CFG,
                "What is done about its machine when that is found running and the node is not heard",
            ),
            field(SILENCE, words(SILENCE_WORDS), CFG, "What is done about it when it falls silent"),
            field(
                RECOVERIES,
                COUNT,
                DSC,
                "How many times it was power-cycled because it was not heard, since it was last seen",
            ),
            field("arch", words(ARCHITECTURES), BOTH, "The architecture of its processors"),
            field("platform", ANY, BOTH, "The kind of machine, such as a vendor's model"),
            field("location.*", ANY, CFG, "Where it stands: its rack, chassis, slot, power unit"),
            field(
                "permitted.*.*",
                Kind::Bool,
                CFG,
                "Whether the node may take a step that disrupts; the parent says so, and no \
                 cluster file",
            ),
            field(
                "withheld.*.*",
                Kind::Bool,
                CFG,
                "Whether the parent withholds a step of the node, which waits for something that \
                 only the parent knows; the parent says so, and no cluster file",
            ),
            field("labels.*", ANY, CFG, "What people say of it; Layercake attaches no meaning"),
        ],
    )
}

fn net() -> Schema {
    let mtu = Kind::Int { min: 576, max: 9216 };
    schema(
        "net",
        vec![
            field(
                "net.*.mac",
                Kind::Text(Format::Mac),
                BOTH,
                "The hardware address of an interface",
            ),
            field(
                "net.*.address",
                Kind::Text(Format::Ipv4Cidr),
                BOTH,
                "Its address and prefix length",
            ),
            field("net.*.gateway", Kind::Text(Format::Ipv4), BOTH, "The router to other networks"),
            field("net.*.dns", list(Kind::Text(Format::Ipv4)), BOTH, "Name servers, best first"),
            field("net.*.domain", ANY, CFG, "The domain that names without a dot are looked up in"),
            field("net.*.mtu", mtu, BOTH, "The largest packet, in bytes"),
        ],
    )
}

fn boot() -> Schema {
    let about = "How far its network boot is";
    schema(
        "boot",
        vec![
            variable(boot_state::PATH, boot_state::VALUES, DSC, about),
            field(
                "boot.interface",
                ANY,
                CFG,
                "The interface it boots from, as named under net; boot if absent",
            ),
            field("boot.cmdline", ANY, CFG, "What is added to the kernel's command line"),
            field("boot.firmware", ANY, DSC, "The firmware that asked last, such as x86-64 UEFI"),
            field("boot.card", ANY, DSC, "The network card it booted from, by its numbers"),
            field("boot.reason", ANY, DSC, "Why it does not boot, or did not join after a boot"),
        ],
    )
}

fn power() -> Schema {
    let memory = Kind::Int { min: MIN_MEMORY_MIB, max: MAX_MEMORY_MIB };
    let seconds = Kind::Int { min: 1, max: 3600 };
    schema(
        "power",
        vec![
            field(
                crate::POWER_CUT,
                Kind::Bool,
                CFG,
                "Whether its power may be cut while something runs; the parent says so while it is restarted hard, and \
                 no cluster file",
            ),
            field("power.driver", words(POWER_DRIVERS), CFG, "The way of switching it"),
            field("power.qemu.memory", memory, CFG, "Memory of the virtual machine, in MiB"),
            field(
                "power.qemu.cpus",
                Kind::Int { min: 1, max: MAX_CPUS },
                CFG,
                "Processors of the virtual machine",
            ),
            field(
                "power.qemu.bridge",
                ANY,
                CFG,
                "The bridge that its network card is plugged into",
            ),
            field(
                "power.qemu.tap",
                ANY,
                CFG,
                "The host's end of its network card; derived from its name if absent",
            ),
            field(
                "power.qemu.accel",
                words(&["auto", "kvm", "tcg"]),
                CFG,
                "Hardware virtualisation or emulation",
            ),
            field(
                "power.exec.command",
                ANY,
                CFG,
                "The program that switches it, with its full path",
            ),
            field(
                "power.exec.timeout_seconds",
                seconds,
                CFG,
                "How long one run of the program may take, in seconds",
            ),
            field("power.reason", ANY, DSC, "Why its power is not known or cannot be switched"),
            field(
                "power.query_ms",
                COUNT,
                DSC,
                "How long its controller took to answer, in milliseconds",
            ),
        ],
    )
}

fn images() -> Schema {
    let state = words(&["fetching", "starting", "running", "stopping", "exited", "failed"]);
    let bytes = Kind::Int { min: 1, max: MAX_IMAGE_BYTES };
    let digest = Kind::Text(Format::Sha256);
    schema(
        "images",
        vec![
            variable(image_state::PATH, image_state::VALUES, BOTH, "How its system images are"),
            field("image_reason", ANY, DSC, "Why its images are not as configured"),
            field(
                "images.*.reference",
                ANY,
                CFG,
                "The name that the image had in the cluster file",
            ),
            field("images.*.digest", digest, BOTH, "The image, named by the SHA-256 of its bytes"),
            field("images.*.size", bytes, CFG, "The size of the image, in bytes"),
            field(
                "images.*.kind",
                words(IMAGE_KINDS),
                CFG,
                "What runs: one command, or systemd as its init",
            ),
            field(
                "images.*.command",
                list(ANY),
                CFG,
                "The command and its arguments, for a plain image",
            ),
            field("images.*.arch", ANY, CFG, "The architecture that its programs are built for"),
            field("images.*.env.*", ANY, CFG, "A variable of its environment"),
            field("images.*.state", state, DSC, "What it is doing"),
            field(
                "images.*.specification",
                ANY,
                DSC,
                "A name of everything that decides what runs: digest, kind, command, environment; \
                 another one as soon as any of them is",
            ),
            field("images.*.pid", COUNT, DSC, "Its main process, as numbered by Layer 0"),
            field(
                "images.*.started",
                COUNT,
                DSC,
                "When it was started, in milliseconds since the Unix epoch",
            ),
            field("images.*.reason", ANY, DSC, "Why it is not running"),
            field(
                "images.*.last_exit",
                ANY,
                DSC,
                "How it ended before it was started again the last time",
            ),
            field(
                "images.*.gap_us",
                COUNT,
                DSC,
                "How long nothing ran at its last change, in microseconds: from the end of the old \
                 main process to the start of the new",
            ),
            field(
                "images.*.restarts",
                COUNT,
                DSC,
                "How many times it was started again since the boot",
            ),
        ],
    )
}

fn services() -> Schema {
    schema("services", image_service(&Timing::default()).fields())
}

fn layer0() -> Schema {
    schema(
        "layer0",
        vec![
            field("layer0.boot_id", ANY, DSC, "A name of this boot alone, made by its kernel"),
            field(
                "layer0.started",
                COUNT,
                DSC,
                "When its kernel started, in milliseconds since the Unix epoch",
            ),
            field("layer0.kernel", ANY, DSC, "The release of its kernel"),
            field("layer0.version", ANY, DSC, "The version of Layer 0"),
            field("layer0.network", ANY, DSC, "What is wrong with its network interfaces"),
            field(
                "layer0.agent_starts",
                COUNT,
                DSC,
                "How many times the agent was started since the boot",
            ),
            field(
                "layer0.last_panic",
                ANY,
                DSC,
                "The last words of an agent that ended by mistake",
            ),
        ],
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::{Document, Registry};

    #[test]
    fn the_schemas_fit_together_and_every_field_has_a_meaning() {
        let registry = Registry::new(schemas()).unwrap();
        for (schema, field) in registry.fields() {
            assert!(!field.about.is_empty(), "{schema}: {}", field.pattern);
        }
        assert_eq!(registry.variables().count(), 7);
    }

    #[test]
    fn a_whole_node_can_be_described() {
        let cfg = serde_json::json!({
            "arch": "x86_64", "phys_state": "POWER_ON", "run_state": "SYNC", "image_state": "ACTIVE",
            "net": {"boot": {"mac": "52:54:00:4c:43:01", "address": "10.77.0.11/24",
                             "gateway": "10.77.0.1", "dns": ["10.77.0.1"]}},
            "boot": {"interface": "boot", "cmdline": "console=ttyS0"},
            "power": {"driver": "qemu", "qemu": {"memory": 512, "cpus": 1, "bridge": "br0"}},
            "images": {"web": {"digest": format!("sha256:{}", "0".repeat(64)), "size": 4096,
                               "kind": "plain", "command": ["/bin/httpd", "-f"],
                               "env": {"PORT": "80"}, "reference": "web:1"}},
            "location": {"rack": "r1"},
        });
        let registry = Registry::new(schemas()).unwrap();
        let cfg = Document::from_json(&cfg).unwrap();
        assert_eq!(registry.validate(Side::Cfg, &cfg), []);
    }

    #[test]
    fn whether_a_node_is_in_use_is_never_configured() {
        let registry = Registry::new(schemas()).unwrap();
        let path = kraken_model::Path::known(busy::PATH);
        assert!(registry.check(Side::Cfg, &path, &busy::BUSY.into()).is_err());
    }
}
