//! Debian kernel packages: fetching one, and looking into one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::elf::Architecture;
use crate::tool::{Tool, ToolError};

/// Why there is no kernel package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// One of dpkg's or apt's programs did not work.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// apt does not know the package, or cannot say where it comes from.
    #[error(
        "apt knows no package `{name}` that it could download; check the name, and run `apt-get update`"
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// apt offers it without a digest from a signed index.
    #[error(
        "apt offers `{name}` without a SHA-256 digest from a signed index; refusing an unauthenticated kernel"
    )]
    Unsigned {
        /// The package.
        name: String,
    },
    /// What came is not what the index promised.
    #[error(
        "`{file}` does not have the digest that the package index promises; downloaded anew it may"
    )]
    Digest {
        /// The file that was downloaded.
        file: String,
    },
    /// The name could not be a package name.
    #[error("`{name}` is not the name of a kernel package: those start with `linux-image-`")]
    Name {
        /// As given.
        name: String,
    },
    /// There is no kernel in it.
    #[error(
        "{path} holds no kernel ({what}); wanted is a package like linux-image-6.1.0-50-cloud-amd64"
    )]
    NoKernel {
        /// The package.
        path: PathBuf,
        /// What was not found in it.
        what: String,
    },
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PackageError {
    let path = path.to_owned();
    move |source| PackageError::Io { path, source }
}

/// Fetches a kernel package with apt into `cache_dir`, unless it is there already, and returns its path.
///
/// `name` is a real kernel package or a meta package such as `linux-image-cloud-amd64`, of which the
/// kernel it depends on is taken. apt itself checks the signature of the index; the file is compared
/// with the digest in that index, each time.
pub fn kernel_package(name: &str, cache_dir: &Path) -> Result<PathBuf, PackageError> {
    let good = |c: char| c.is_ascii_alphanumeric() || "+-.:".contains(c);
    if !name.starts_with("linux-image-") || !name.chars().all(good) {
        return Err(PackageError::Name { name: name.to_owned() });
    }
    let real = resolve(name)?;
    let offer = offer(&real)?;
    fs::create_dir_all(cache_dir).map_err(io_error(cache_dir))?;
    let cached = cache_dir.join(&offer.file);
    if sha256_of(&cached).is_ok_and(|digest| digest == offer.digest) {
        return Ok(cached);
    }
    let partial = tempfile::tempdir_in(cache_dir).map_err(io_error(cache_dir))?;
    apt_get(["download", &real]).current_dir(partial.path()).run()?;
    let fresh = partial.path().join(&offer.file);
    if sha256_of(&fresh).map_err(io_error(&fresh))? != offer.digest {
        return Err(PackageError::Digest { file: offer.file });
    }
    fs::rename(&fresh, &cached).map_err(io_error(&cached))?;
    Ok(cached)
}

/// The kernel that a meta package depends on; a real kernel package is its own.
fn resolve(name: &str) -> Result<String, PackageError> {
    let show = Tool::new("apt-cache", "apt").args(["show", "--no-all-versions", name]).run();
    let show = show.map_err(|error| match error {
        ToolError::Failed { .. } => PackageError::Unknown { name: name.to_owned() },
        other => other.into(),
    })?;
    let show = String::from_utf8_lossy(&show);
    let depends = show.lines().find_map(|line| line.strip_prefix("Depends:")).unwrap_or_default();
    let kernel = depends.split(',').filter_map(|one| one.split_ascii_whitespace().next());
    let kernel = kernel.into_iter().find(|package| is_kernel(package));
    let foreign = name.rsplit_once(':').map(|(_, arch)| arch);
    Ok(match (kernel, foreign) {
        (Some(kernel), Some(arch)) if !kernel.contains(':') => format!("{kernel}:{arch}"),
        (Some(kernel), _) => kernel.to_owned(),
        (None, _) => name.to_owned(),
    })
}

/// Whether it is the package of one kernel: `linux-image-6.1.0-50-amd64`.
fn is_kernel(package: &str) -> bool {
    let version = package.strip_prefix("linux-image-");
    version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
}

#[derive(Debug, PartialEq, Eq)]
struct Offer {
    file: String,
    digest: String,
}

fn offer(name: &str) -> Result<Offer, PackageError> {
    let uris = apt_get(["download", "--print-uris", name]).run().map_err(|error| match error {
        ToolError::Failed { .. } => PackageError::Unknown { name: name.to_owned() },
        other => other.into(),
    })?;
    parse_offer(&String::from_utf8_lossy(&uris))
        .ok_or_else(|| PackageError::Unsigned { name: name.to_owned() })
}

/// `'uri' file size SHA256:digest`.
fn parse_offer(line: &str) -> Option<Offer> {
    let mut words = line.lines().find(|line| line.starts_with('\''))?.split_ascii_whitespace();
    let file = words.nth(1)?.to_owned();
    let digest = words.find_map(|word| word.strip_prefix("SHA256:"))?.to_owned();
    let good = file.ends_with(".deb") && !file.contains('/') && digest.len() == 64;
    good.then_some(Offer { file, digest })
}

/// apt-get, which must not be talked out of checking signatures by the machine's configuration.
fn apt_get<const N: usize>(args: [&str; N]) -> Tool {
    let strict = [
        "-q",
        "-o",
        "APT::Get::AllowUnauthenticated=false",
        "-o",
        "Acquire::AllowInsecureRepositories=false",
        "-o",
        "APT::Sandbox::User=root",
    ];
    Tool::new("apt-get", "apt").args(strict).args(args)
}

fn sha256_of(path: &Path) -> io::Result<String> {
    Ok(hex::encode(Sha256::digest(fs::read(path)?)))
}

/// A kernel package, unpacked into a directory that goes away with this value.
#[derive(Debug)]
pub(crate) struct Unpacked {
    dir: tempfile::TempDir,
    pub(crate) label: String,
    pub(crate) architecture: Architecture,
    pub(crate) release: String,
}

impl Unpacked {
    /// Unpacks `package` and makes the tables of depmod, which Debian's packages do not bring.
    pub(crate) fn open(package: &Path) -> Result<Self, PackageError> {
        let no_kernel =
            |what: &str| PackageError::NoKernel { path: package.to_owned(), what: what.to_owned() };
        // dpkg-deb takes a relative path with a leading dash for an option.
        let path = fs::canonicalize(package).map_err(io_error(package))?;
        let field = |name: &str| {
            let value = Tool::new("dpkg-deb", "dpkg")
                .args(["--field".as_ref(), path.as_os_str(), name.as_ref()])
                .run()?;
            Ok::<_, PackageError>(String::from_utf8_lossy(&value).trim().to_owned())
        };
        let architecture = field("Architecture")?;
        let architecture = Architecture::from_debian(&architecture)
            .ok_or_else(|| no_kernel(&format!("it is for `{architecture}`")))?;
        let label = format!("{} {}", field("Package")?, field("Version")?);
        let dir = tempfile::Builder::new().prefix("minos-").tempdir();
        let dir = dir.map_err(io_error(&std::env::temp_dir()))?;
        Tool::new("dpkg-deb", "dpkg")
            .args(["--extract".as_ref(), path.as_os_str(), dir.path().as_os_str()])
            .run()?;
        let lib = dir.path().join("lib");
        // From Debian 13 on the modules are in /usr/lib; depmod looks into /lib.
        if !lib.exists() {
            std::os::unix::fs::symlink("usr/lib", &lib).map_err(io_error(&lib))?;
        }
        let release = only_release(&lib.join("modules")).map_err(|what| no_kernel(&what))?;
        let unpacked = Self { dir, label, architecture, release };
        if !unpacked.boot_file("vmlinuz").is_file() {
            return Err(no_kernel("no vmlinuz in /boot"));
        }
        Tool::new("depmod", "kmod")
            .args(["-b".as_ref(), unpacked.dir.path().as_os_str(), unpacked.release.as_ref()])
            .run()?;
        Ok(unpacked)
    }

    /// `/boot/<what>-<release>`.
    pub(crate) fn boot_file(&self, what: &str) -> PathBuf {
        self.dir.path().join(format!("boot/{what}-{}", self.release))
    }

    /// A file below `/lib/modules/<release>`.
    pub(crate) fn module_file(&self, path: &str) -> PathBuf {
        self.dir.path().join("lib/modules").join(&self.release).join(path)
    }
}

/// The only directory in `lib/modules`.
fn only_release(modules: &Path) -> Result<String, String> {
    let entries = fs::read_dir(modules).map_err(|_| "no /lib/modules".to_owned())?;
    let mut names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    match (names.next().map(std::ffi::OsString::into_string), names.next()) {
        (Some(Ok(release)), None) => Ok(release),
        _ => Err("not exactly one release in /lib/modules".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_offer_without_a_digest_is_none() {
        let digest = "a".repeat(64);
        let line = format!("'http://x/linux.deb' linux_1%3a6_amd64.deb 2671 SHA256:{digest}\n");
        let offer = Offer { file: "linux_1%3a6_amd64.deb".to_owned(), digest };
        assert_eq!(parse_offer(&line), Some(offer));
        assert_eq!(parse_offer("'http://x/linux.deb' linux_amd64.deb 2671 MD5Sum:00\n"), None);
        assert_eq!(parse_offer("'http://x' ../linux.deb 1 SHA256:aa\n"), None);
        assert_eq!(parse_offer(""), None);
    }

    #[test]
    fn names_that_are_no_kernel_are_refused_before_apt_sees_them() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bash", "--help", "linux-image-$(id)", "linux-image-x; id"] {
            let refused = kernel_package(name, dir.path());
            assert!(matches!(refused, Err(PackageError::Name { .. })), "{name}: {refused:?}");
        }
    }

    #[test]
    fn an_unknown_kernel_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let refused = kernel_package("linux-image-0-nobody", dir.path()).unwrap_err();
        assert!(refused.to_string().contains("apt-get update"), "{refused}");
    }
}
