//! From a recipe to the three files.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use layercake_cpio::{Tree, WriteError};

use crate::compress::{Compression, plain_module};
use crate::elf::{ElfError, check_static};
use crate::metadata::{FileFacts, Metadata, ModuleFacts};
use crate::modules::{DepError, ModuleTable, cut_alias, cut_softdep};
use crate::package::{PackageError, Unpacked};
use crate::profile::{ALWAYS_LOADED, Profile};
use crate::tool::ToolError;

/// Version of the description in `minos.json`.
const METADATA_FORMAT: u32 = 1;

/// Directories that Layer 0 mounts something on, or writes into, with their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc/layercake", 0o755),
    ("proc", 0o555),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
];

/// What a person at a debug shell types; links to busybox.
const SHELL_LINKS: &[&str] = &[
    "ash",
    "cat",
    "chmod",
    "chroot",
    "cp",
    "df",
    "dmesg",
    "echo",
    "env",
    "find",
    "free",
    "grep",
    "head",
    "hexdump",
    "hostname",
    "ip",
    "kill",
    "less",
    "ln",
    "ls",
    "lsmod",
    "mkdir",
    "modprobe",
    "mount",
    "mv",
    "nc",
    "netstat",
    "nslookup",
    "ping",
    "ps",
    "rm",
    "sed",
    "sh",
    "sleep",
    "strings",
    "sync",
    "tail",
    "top",
    "traceroute",
    "umount",
    "uname",
    "uptime",
    "vi",
    "wget",
    "which",
];

/// What to build.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The kernel: a `.deb`.
    pub kernel_package: PathBuf,
    /// The static program that becomes `/init`.
    pub node_binary: PathBuf,
    /// Where the files go; made if it is not there.
    pub out_dir: PathBuf,
    /// Which modules.
    pub profile: Profile,
    /// More modules, by name; each has to exist.
    pub extra_modules: Vec<String>,
    /// Modules to load at every boot, after [`ALWAYS_LOADED`]; each has to exist.
    pub always_load: Vec<String>,
    /// A static busybox, if a debug shell is wanted.
    pub debug_shell: Option<PathBuf>,
    /// How to compress; the best that the kernel unpacks if not given.
    pub compression: Option<Compression>,
}

impl Recipe {
    /// The usual recipe: the full profile, no shell.
    #[must_use]
    pub fn new(
        kernel_package: impl Into<PathBuf>,
        node_binary: impl Into<PathBuf>,
        out_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            kernel_package: kernel_package.into(),
            node_binary: node_binary.into(),
            out_dir: out_dir.into(),
            profile: Profile::default(),
            extra_modules: Vec::new(),
            always_load: Vec::new(),
            debug_shell: None,
            compression: None,
        }
    }
}

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The kernel.
    pub vmlinuz: PathBuf,
    /// The compressed initramfs.
    pub initramfs: PathBuf,
    /// Where the description is.
    pub metadata_path: PathBuf,
    /// The description.
    pub metadata: Metadata,
}

/// What a build is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Unpacking the kernel package.
    Unpack,
    /// Choosing modules.
    Choose,
    /// Compressing this many bytes.
    Compress {
        /// Before compression.
        bytes: u64,
    },
    /// Writing the files.
    Write,
}

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The kernel package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A program that helps did not.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A program for the initramfs cannot run there.
    #[error("{path} cannot be used in the initramfs")]
    Program {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: ElfError,
    },
    /// Modules asked for by name are not there.
    #[error("the kernel {release} has no module {names}; `modinfo` and modules.dep know the names")]
    NoModule {
        /// The kernel.
        release: String,
        /// The missing names, with commas.
        names: String,
    },
    /// The kernel cannot unpack what was asked for.
    #[error("the kernel {release} cannot unpack an initramfs compressed with {compression:?}")]
    Compression {
        /// The kernel.
        release: String,
        /// As asked.
        compression: Compression,
    },
    /// The tables that depmod made are not as expected.
    #[error("cannot read the module tables of the kernel")]
    Dep(#[from] DepError),
    /// Something cannot be part of the archive.
    #[error("cannot put the archive together")]
    Archive(#[from] WriteError),
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// To what size the initramfs is filled up with zeros, in bytes: a sector.
const ALIGN: usize = 512;

/// Builds the kernel and initramfs of `recipe`, telling `progress` what it is at.
pub fn build(recipe: &Recipe, progress: &mut dyn FnMut(Progress)) -> Result<Built, BuildError> {
    progress(Progress::Unpack);
    let kernel = Unpacked::open(&recipe.kernel_package)?;
    let node = read_program(&recipe.node_binary, &kernel)?;
    let shell = recipe.debug_shell.as_ref().map(|path| read_program(path, &kernel)).transpose()?;
    let compression = choose_compression(recipe, &kernel)?;

    progress(Progress::Choose);
    let choice = Choice::make(recipe, &kernel)?;
    let mut tree = base_tree(&node, shell.as_deref(), &choice.always_loaded)?;
    let bare = tree.to_bytes();
    let modules = choice.add_to(&mut tree, &kernel)?;
    let archive = tree.to_bytes();

    progress(Progress::Compress { bytes: (archive.len() + bare.len()) as u64 });
    let mut initramfs = compression.compress(&archive)?;
    // The kernel wants whatever follows, such as a node's seed, on a boundary of four bytes; a boot
    // loader that only puts one file behind the other gets it from here.
    initramfs.resize(initramfs.len().next_multiple_of(ALIGN), 0);
    let without_modules_bytes = compression.compress(&bare)?.len() as u64;
    let vmlinuz = read_file(&kernel.boot_file("vmlinuz"))?;
    let metadata = Metadata {
        format: METADATA_FORMAT,
        kernel_release: kernel.release.clone(),
        kernel_package: kernel.label.clone(),
        architecture: kernel.architecture,
        profile: recipe.profile,
        compression,
        vmlinuz: FileFacts::of(&vmlinuz),
        initramfs: FileFacts::of(&initramfs),
        without_modules_bytes,
        node: FileFacts::of(&node),
        debug_shell: shell.is_some(),
        always_loaded: choice.always_loaded,
        modules,
        built_in: choice.built_in,
        absent: choice.absent,
    };

    progress(Progress::Write);
    write_all(&recipe.out_dir, &vmlinuz, &initramfs, metadata)
}

fn choose_compression(recipe: &Recipe, kernel: &Unpacked) -> Result<Compression, BuildError> {
    let config = read_text(&kernel.boot_file("config"))?;
    let compression = recipe.compression.unwrap_or_else(|| Compression::for_kernel(&config));
    if compression.is_supported(&config) {
        return Ok(compression);
    }
    Err(BuildError::Compression { release: kernel.release.clone(), compression })
}

fn read_program(path: &Path, kernel: &Unpacked) -> Result<Vec<u8>, BuildError> {
    let program = read_file(path)?;
    check_static(&program, kernel.architecture)
        .map_err(|source| BuildError::Program { path: path.to_owned(), source })?;
    Ok(program)
}

/// Everything but the kernel modules.
fn base_tree<'a>(
    node: &'a [u8],
    shell: Option<&'a [u8]>,
    always_loaded: &[String],
) -> Result<Tree<'a>, WriteError> {
    let mut tree = Tree::new();
    for (path, mode) in DIRECTORIES {
        tree.directory(path, *mode)?;
    }
    tree.file("init", 0o755, node)?;
    // The kernel opens it for pid 1 before anything mounts /dev.
    tree.char_device("dev/console", 0o600, (5, 1))?;
    let always: String = always_loaded.iter().flat_map(|name| [name.as_str(), "\n"]).collect();
    tree.file("etc/layercake/modules", 0o644, always.into_bytes())?;
    if let Some(shell) = shell {
        tree.file("bin/busybox", 0o755, shell)?;
        for link in SHELL_LINKS {
            tree.symlink(&format!("bin/{link}"), "busybox")?;
        }
    }
    Ok(tree)
}

/// The modules of a build.
struct Choice {
    table: ModuleTable,
    softdep: String,
    chosen: BTreeSet<String>,
    always_loaded: Vec<String>,
    built_in: Vec<String>,
    absent: Vec<String>,
}

impl Choice {
    fn make(recipe: &Recipe, kernel: &Unpacked) -> Result<Self, BuildError> {
        let text = |name: &str| read_text(&kernel.module_file(name));
        let softdep = text("modules.softdep")?;
        let table = ModuleTable::parse(&text("modules.dep")?, &softdep, &text("modules.builtin")?)?;

        let plain = |name: &String| name.replace('-', "_");
        let extra: Vec<_> = recipe.extra_modules.iter().map(plain).collect();
        let always: Vec<_> = recipe.always_load.iter().map(plain).collect();
        let named: Vec<&str> = extra.iter().chain(&always).map(String::as_str).collect();
        let unknown = |name: &&str| !table.contains(name) && !table.is_built_in(name);
        let missing: Vec<&str> = named.iter().copied().filter(unknown).collect();
        if !missing.is_empty() {
            let (release, names) = (kernel.release.clone(), missing.join(", "));
            return Err(BuildError::NoModule { release, names });
        }

        let has = |name: &&str| table.contains(name);
        let (built_in, absent): (Vec<&str>, Vec<&str>) = recipe
            .profile
            .modules()
            .filter(|name| !has(name))
            .partition(|name| table.is_built_in(name));
        let profile = recipe.profile.modules().map(str::to_owned);
        let chosen = table.closure(profile.chain(extra).chain(always.iter().cloned()));
        let mut always_loaded: Vec<String> = Vec::new();
        for name in ALWAYS_LOADED.iter().copied().chain(always.iter().map(String::as_str)) {
            if has(&name) && !always_loaded.iter().any(|there| there == name) {
                always_loaded.push(name.to_owned());
            }
        }
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        let (built_in, absent) = (owned(built_in), owned(absent));
        Ok(Self { table, softdep, chosen, always_loaded, built_in, absent })
    }

    /// Puts the modules and their tables below `/lib/modules/<release>`.
    fn add_to(
        &self,
        tree: &mut Tree<'_>,
        kernel: &Unpacked,
    ) -> Result<Vec<ModuleFacts>, BuildError> {
        let root = format!("lib/modules/{}", kernel.release);
        let mut facts = Vec::with_capacity(self.chosen.len());
        for name in &self.chosen {
            let Some(path) = self.table.path(name) else { continue };
            let data = read_file(&kernel.module_file(path))?;
            let (path, data) = plain_module(path, data)?;
            facts.push(ModuleFacts {
                name: name.clone(),
                path: path.to_owned(),
                file: FileFacts::of(&data),
            });
            tree.file(&format!("{root}/{path}"), 0o644, data)?;
        }
        facts.sort_by(|a, b| a.path.cmp(&b.path));
        let alias = read_text(&kernel.module_file("modules.alias"))?;
        for (name, text) in [
            ("modules.dep", self.table.cut_dep(&self.chosen)),
            ("modules.alias", cut_alias(&alias, &self.chosen)),
            ("modules.softdep", cut_softdep(&self.softdep, &self.chosen)),
            ("modules.builtin", read_text(&kernel.module_file("modules.builtin"))?),
        ] {
            tree.file(&format!("{root}/{name}"), 0o644, text.into_bytes())?;
        }
        Ok(facts)
    }
}

fn write_all(
    out_dir: &Path,
    vmlinuz: &[u8],
    initramfs: &[u8],
    metadata: Metadata,
) -> Result<Built, BuildError> {
    let error = |source| BuildError::Write { path: out_dir.to_owned(), source };
    fs::create_dir_all(out_dir).map_err(error)?;
    let mut json = serde_json::to_vec_pretty(&metadata).map_err(io::Error::from).map_err(error)?;
    json.push(b'\n');
    let put = |name: &str, data: &[u8]| {
        let path = out_dir.join(name);
        match write_whole(out_dir, &path, data) {
            Ok(()) => Ok(path),
            Err(source) => Err(BuildError::Write { path, source }),
        }
    };
    // The description last: while it names other digests, the files belong to two builds.
    Ok(Built {
        vmlinuz: put("vmlinuz", vmlinuz)?,
        initramfs: put("initramfs.img", initramfs)?,
        metadata_path: put("minos.json", &json)?,
        metadata,
    })
}

/// Writes a file so that it is there whole or not at all, for everybody to read: the boot service may
/// run as another user.
fn write_whole(dir: &Path, path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(data)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(dir)?.sync_all()
}

fn read_file(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::Read { path: path.to_owned(), source })
}

fn read_text(path: &Path) -> Result<String, BuildError> {
    fs::read_to_string(path).map_err(|source| BuildError::Read { path: path.to_owned(), source })
}
