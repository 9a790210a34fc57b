//! Compressing the initramfs with what the kernel can decompress.

use serde::{Deserialize, Serialize};

use crate::tool::{Tool, ToolError};

/// How the initramfs is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// zstd, level 19: a quarter smaller than gzip, and no slower to unpack, measured from power-on to
    /// init under software emulation.
    Zstd,
    /// xz with the check that the kernel's small decoder knows: smallest, slowest to unpack.
    Xz,
    /// gzip, level 9: every kernel can.
    Gzip,
}

impl Compression {
    /// The best one that a kernel with this configuration (`/boot/config-*`) unpacks.
    #[must_use]
    pub fn for_kernel(config: &str) -> Self {
        if Self::Zstd.is_supported(config) { Self::Zstd } else { Self::Gzip }
    }

    /// Whether a kernel with this configuration unpacks it.
    #[must_use]
    pub fn is_supported(self, config: &str) -> bool {
        let option = match self {
            Self::Zstd => "CONFIG_RD_ZSTD=y",
            Self::Xz => "CONFIG_RD_XZ=y",
            Self::Gzip => "CONFIG_RD_GZIP=y",
        };
        config.lines().any(|line| line == option)
    }

    /// Compresses `data`. One thread, no name and no time in the header: the same input gives the same
    /// output for one version of the compressor.
    pub(crate) fn compress(self, data: &[u8]) -> Result<Vec<u8>, ToolError> {
        let tool = match self {
            Self::Zstd => Tool::new("zstd", "zstd").args(["-19", "--single-thread", "-q", "-c"]),
            Self::Xz => Tool::new("xz", "xz-utils").args(["-9", "-T1", "--check=crc32", "-c"]),
            Self::Gzip => Tool::new("gzip", "gzip").args(["-9", "-n", "-c"]),
        };
        tool.run_with(data)
    }
}

/// Unpacks a kernel module if its name says that it is compressed; returns the plain name with it.
pub(crate) fn plain_module(path: &str, data: Vec<u8>) -> Result<(&str, Vec<u8>), ToolError> {
    let (plain, tool) = match path.rsplit_once('.') {
        Some((plain, "xz")) => (plain, Tool::new("xz", "xz-utils")),
        Some((plain, "zst")) => (plain, Tool::new("zstd", "zstd")),
        Some((plain, "gz")) => (plain, Tool::new("gzip", "gzip")),
        _ => return Ok((path, data)),
    };
    Ok((plain, tool.args(["-dc"]).run_with(&data)?))
}
