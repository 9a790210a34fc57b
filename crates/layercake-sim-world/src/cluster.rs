//! A cluster file to begin with.

/// The most nodes that a simulated cluster is made with.
pub const MOST_NODES: usize = 100_000;

/// From how many nodes on a cluster is large: racks are full, and nodes say hello less often.
const LARGE: usize = 1_000;

/// The file of a cluster of so many nodes: racks, labels, groups and images, as people have them.
#[must_use]
pub fn cluster(nodes: usize) -> String {
    let width = nodes.max(100).to_string().len();
    let name = |number: usize| format!("n{number:0width$}");
    let range = |from: usize, to: usize| match (from, to) {
        (from, to) if from == to => name(from),
        (from, to) => format!("n[{from:0width$}-{to:0width$}]"),
    };
    let (rack, hello) = if nodes >= LARGE { (40, "10s") } else { (20, "2s") };
    // A login node or a few, some with accelerators, and the rest computes.
    let (logins, gpus) = (nodes.div_ceil(100), nodes / 8);
    let mut groups = format!(
        "  login: {{ nodes: \"{}\", images: [login], labels: {{ role: login }} }}\n",
        range(1, logins)
    );
    if logins + gpus < nodes && gpus > 0 {
        let set = range(logins + 1, logins + gpus);
        let rest = range(logins + gpus + 1, nodes);
        groups.push_str(&format!(
            "  gpu: {{ nodes: \"{set}\", images: [compute, gpu], labels: {{ role: gpu }} }}\n  \
             compute: {{ nodes: \"{rest}\", images: [compute], labels: {{ role: compute }} }}\n"
        ));
    } else if logins < nodes {
        let rest = range(logins + 1, nodes);
        groups.push_str(&format!(
            "  compute: {{ nodes: \"{rest}\", images: [compute], labels: {{ role: compute }} }}\n"
        ));
    }
    format!(
        "# Made up by `layercake sim`: change it, and `layercake apply -f` it again.
cluster: simulated

network:
  boot: {{ subnet: 10.0.0.0/8, interface: sim0, server: 10.0.0.1 }}

# An image that is not in the store is made up.
images:
  compute: {{ image: \"compute:1\" }}
  gpu: {{ image: \"gpu:1\" }}
  login: {{ image: \"login:1\" }}

limits:
  steps:
    - {{ of: [power.on], per: location.rack, at_once: 8, every: 200ms }}
    - {{ of: disruptive, per: location.rack, at_once: 4 }}
  unavailable: [{{ at_most: 25% }}]

# A switch or a power unit that fails must not get a whole rack power-cycled.
storm: {{ share: 20%, at_least: 5, window: 60s, per: [location.rack] }}

timing: {{ hello: {hello} }}

defaults:
  arch: x86_64
  power: {{ driver: exec, exec: {{ command: /bin/false }} }}
  location: {{ rack: \"r{{{{ index // {rack} + 1 }}}}\", slot: \"{{{{ index % {rack} + 1 }}}}\" }}

groups:
{groups}
nodes:
  \"{all}\":
    mac: \"52:54:00:{{{{ (index // 65536)|hex(2) }}}}:{{{{ (index // 256 % 256)|hex(2) }}}}:{{{{ (index % 256)|hex(2) }}}}\"
    address: \"10.{{{{ 1 + index // 65536 }}}}.{{{{ index // 256 % 256 }}}}.{{{{ index % 256 }}}}\"
",
        all = range(1, nodes),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::Registry;
    use layercake_config::{Context, ImageFacts, ImageLookup, parse};
    use layercake_schema::{Timing, mutations, schemas};
    use std::collections::BTreeMap;

    struct Any;

    impl ImageLookup for Any {
        fn find(&self, _: &str) -> Result<ImageFacts, String> {
            let digest = format!("sha256:{:064x}", 1);
            let command = vec!["/made-up".to_owned()];
            Ok(ImageFacts {
                digest,
                size: 1,
                kind: "plain".to_owned(),
                command,
                env: BTreeMap::new(),
                arch: None,
            })
        }
    }

    #[test]
    fn a_cluster_of_any_size_is_accepted_and_has_racks_groups_and_images() {
        let registry = Registry::new(schemas()).unwrap();
        let mutations = mutations(&Timing::default());
        let steps: Vec<&str> = mutations.iter().map(|mutation| mutation.name.as_ref()).collect();
        let context = Context { registry: &registry, images: &Any, steps: &steps };
        for nodes in [1, 2, 3, 7, 8, 9, 10, 99, 100, 101, 130, 999, 1_000, 10_000] {
            let parsed = parse("made up", &cluster(nodes), &context);
            let cluster = parsed.unwrap_or_else(|wrong| panic!("{nodes}: {wrong:?}"));
            assert_eq!(cluster.nodes.len(), nodes);
            assert!(cluster.groups.contains_key("login"), "{nodes}");
            for (node, cfg) in &cluster.nodes {
                assert!(cfg.text("location.rack").is_some_and(|rack| rack.starts_with('r')));
                assert!(cfg.text("labels.role").is_some(), "{node} of {nodes}");
                assert_eq!(cfg.text("image_state"), Some("ACTIVE"), "{node} of {nodes}");
            }
            let in_groups: usize = cluster.groups.values().map(kraken_model::NodeSet::len).sum();
            assert_eq!(in_groups, nodes);
        }
    }
}
