//! Loading: what a list names, then what the devices ask for, until nothing new turns up.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Resolver;

/// Loading a bus driver brings up devices that ask for more. Real machines need three rounds.
const MAX_ROUNDS: u32 = 8;
/// Directories of `/sys/devices` deeper than this do not exist.
const MAX_DEPTH: u32 = 32;

/// A module that did not go in.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// It, or what it needs, is not in the initramfs.
    #[error("kernel module {name} is not there; add it to the initramfs")]
    Missing {
        /// Which.
        name: String,
    },
    /// The kernel refused it.
    #[error("cannot load kernel module {path}")]
    Load {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Loads modules of the running kernel.
pub struct Loader {
    dir: PathBuf,
    resolver: Resolver,
    loaded: BTreeSet<String>,
}

impl Loader {
    /// Reads the tables in `dir`, which is `/lib/modules/<release>`. A kernel without modules has
    /// none, and needs none.
    #[must_use]
    pub fn open(dir: PathBuf) -> Self {
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        let [dep, alias, softdep, builtin] =
            ["modules.dep", "modules.alias", "modules.softdep", "modules.builtin"].map(read);
        let resolver = Resolver::new(&dep, &alias, &softdep, &builtin);
        Self { dir, resolver, loaded: BTreeSet::new() }
    }

    /// Loads the modules of a list: one name a line, `#` begins a comment.
    pub fn load_list(&mut self, list: &str) -> Vec<ModuleError> {
        let names = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        names.filter(|name| !name.is_empty()).filter_map(|name| self.load(name).err()).collect()
    }

    /// Loads what the devices below `devices` (`/sys/devices`) ask for, until nothing new turns up.
    pub fn coldplug(&mut self, devices: &Path) -> Vec<ModuleError> {
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        for _ in 0..MAX_ROUNDS {
            let mut found = BTreeSet::new();
            modaliases(devices, MAX_DEPTH, &mut found);
            let new: Vec<String> = found.difference(&seen).cloned().collect();
            if new.is_empty() {
                break;
            }
            for modalias in &new {
                let modules: Vec<String> =
                    self.resolver.modules_for(modalias).into_iter().map(str::to_owned).collect();
                // One device may have several drivers, of which only the right one stays.
                errors.extend(modules.iter().filter_map(|name| self.load(name).err()));
            }
            seen.extend(new);
        }
        errors
    }

    /// Names of the modules that went in, or were in already.
    pub fn loaded(&self) -> impl Iterator<Item = &str> {
        self.loaded.iter().map(String::as_str)
    }

    /// The modules of this initramfs that serve a device with this modalias.
    #[must_use]
    pub fn drivers_of(&self, modalias: &str) -> Vec<&str> {
        self.resolver.modules_for(modalias)
    }

    /// Loads one module and what it needs.
    pub fn load(&mut self, name: &str) -> Result<(), ModuleError> {
        let missing = || ModuleError::Missing { name: name.to_owned() };
        let order = self.resolver.load_order(name).ok_or_else(missing)?;
        let mut result = Ok(());
        for (one, path) in order {
            if self.loaded.contains(one) {
                continue;
            }
            let path = self.dir.join(path);
            match insert(&path) {
                Ok(()) => drop(self.loaded.insert(one.to_owned())),
                // Of what a module only hints at, it is the module itself that tells whether it can do without.
                Err(source) => result = result.and(Err(ModuleError::Load { path, source })),
            }
        }
        if self.loaded.contains(&name.replace('-', "_")) { Ok(()) } else { result }
    }
}

fn insert(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    match rustix::system::finit_module(&file, c"", 0) {
        // It is in already; or its hardware is not there after all, which is no fault.
        Ok(()) | Err(Errno::EXIST | Errno::NODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The modaliases of all devices below a directory. Links are not followed: they lead back.
fn modaliases(dir: &Path, depth: u32, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            modaliases(&entry.path(), depth - 1, found);
        } else if kind.is_file() && entry.file_name() == "modalias" {
            let modalias = fs::read_to_string(entry.path()).unwrap_or_default();
            found.extend(Some(modalias.trim().to_owned()).filter(|text| !text.is_empty()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn modaliases_are_found_at_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("pci0/0000:00:03.0/virtio0");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("modalias"), "virtio:d1\n").unwrap();
        fs::write(dir.path().join("pci0/modalias"), "\n").unwrap();
        std::os::unix::fs::symlink(dir.path(), device.join("up")).unwrap();
        let mut found = BTreeSet::new();
        modaliases(dir.path(), MAX_DEPTH, &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["virtio:d1"]);
    }

    #[test]
    fn what_is_missing_is_named_and_the_rest_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("modules.dep"), "a.ko:\n").unwrap();
        fs::write(dir.path().join("modules.builtin"), "kernel/b.ko\n").unwrap();
        let mut loader = Loader::open(dir.path().to_owned());
        let errors = loader.load_list("# always\na\nb\nnone # comment\n\n");
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].starts_with("cannot load kernel module /"), "{texts:?}");
        assert!(texts[1].starts_with("kernel module none is not there"), "{texts:?}");
    }
}
