//! What `minos.json` says: facts about a build, without times and paths of the machine that made it.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::profile::{Purpose, purpose};
use crate::{Architecture, Compression, Profile};

/// Size and digest of some bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// How many bytes.
    pub size_bytes: u64,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

impl FileFacts {
    /// The facts of `data`.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(data)));
        Self { size_bytes: data.len() as u64, digest }
    }
}

/// One kernel module in the initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleFacts {
    /// Its name, with underscores.
    pub name: String,
    /// Where it is, below `/lib/modules/<release>`.
    pub path: String,
    /// How large and which.
    #[serde(flatten)]
    pub file: FileFacts,
}

/// What was built, and out of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of this description.
    pub format: u32,
    /// What `uname -r` says on the node.
    pub kernel_release: String,
    /// The kernel package, name and version.
    pub kernel_package: String,
    /// The machine it is for.
    pub architecture: Architecture,
    /// Which modules were asked for.
    pub profile: Profile,
    /// How the initramfs is compressed.
    pub compression: Compression,
    /// The kernel.
    pub vmlinuz: FileFacts,
    /// The initramfs, compressed.
    pub initramfs: FileFacts,
    /// How large the initramfs would be, compressed, without kernel modules.
    pub without_modules_bytes: u64,
    /// The node binary.
    pub node: FileFacts,
    /// Whether a debug shell is inside.
    pub debug_shell: bool,
    /// Loaded at every boot, in this order.
    pub always_loaded: Vec<String>,
    /// The kernel modules inside, sorted by path.
    pub modules: Vec<ModuleFacts>,
    /// Modules of the profile that this kernel has built in.
    pub built_in: Vec<String>,
    /// Modules of the profile that this kernel does not have.
    pub absent: Vec<String>,
}

impl Metadata {
    /// What this Layer 0 cannot do although its profile asks for it, a line for each kind of hardware, the gravest first.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let kinds = [
            (Purpose::Images, "what images are mounted with, so none will run"),
            (
                Purpose::Network,
                "drivers of network cards; a machine with no other card does not boot",
            ),
            (Purpose::Storage, "drivers of disks, which images then cannot use"),
            (Purpose::Other, "drivers of other hardware"),
        ];
        let lines = kinds.into_iter().filter_map(|(kind, what)| {
            let of_kind = self.absent.iter().filter(|name| purpose(name) == kind);
            let names: Vec<&str> = of_kind.map(String::as_str).collect();
            let release = &self.kernel_release;
            (!names.is_empty())
                .then(|| format!("the kernel {release} lacks {what}: {}", names.join(", ")))
        });
        let mut lines: Vec<String> = lines.collect();
        if self.kernel_release.contains("cloud") && !lines.is_empty() {
            let package = self.architecture.kernel_package();
            lines.push(format!(
                "this is a kernel for virtual machines; for hardware take --kernel-package {package}"
            ));
        }
        lines
    }
}
