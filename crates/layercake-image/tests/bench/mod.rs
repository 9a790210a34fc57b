//! A store, and things to import into it.
#![allow(dead_code, reason = "each of several tests uses a part of it")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use layercake_image::{ImageStore, ImportError, ImportOptions, Imported, Source};

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {stdout}{stderr}");
    stdout
}

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: ImageStore,
}

pub(crate) fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path().join("store")).unwrap();
    Bench { dir, store }
}

impl Bench {
    /// A small root with everything that a file system has.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        let root = self.dir.path().join(name);
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o751)).unwrap();
        fs::write(root.join("usr/bin/tool"), "tool").unwrap();
        // In this order: a change of owner takes the set-user-id bit away.
        std::os::unix::fs::chown(root.join("usr/bin/tool"), Some(33), Some(44)).unwrap();
        fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/other")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        run(Command::new("mknod").arg(root.join("dev/null")).args(["c", "1", "3"]));
        root
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn import(&self, path: &Path) -> Result<Imported, ImportError> {
        self.store.import(&Source::Path(path.to_owned()), &plain(), &mut |_| {})
    }

    /// Makes an archive with Python, which writes whatever it is told to.
    pub(crate) fn tar(&self, name: &str, entries: &str) -> PathBuf {
        let path = self.path(name);
        let script = format!(
            "import io, sys, tarfile\n\
             t = tarfile.open(sys.argv[1], 'w')\n\
             def add(name, kind=tarfile.REGTYPE, link='', data=b''):\n\
             \x20   i = tarfile.TarInfo(name); i.type = kind; i.linkname = link; i.size = len(data)\n\
             \x20   t.addfile(i, io.BytesIO(data))\n\
             {entries}\nt.close()\n"
        );
        run(Command::new("python3").args(["-c", &script]).arg(&path));
        path
    }

    pub(crate) fn assert_nothing_left(&self) {
        for dir in ["tmp", "blobs/sha256", "meta", "tags"] {
            let left: Vec<_> = fs::read_dir(self.path("store").join(dir)).unwrap().collect();
            assert!(left.is_empty(), "{dir}: {left:?}");
        }
    }
}

pub(crate) fn plain() -> ImportOptions {
    ImportOptions { command: vec!["/usr/bin/tool".to_owned()], ..ImportOptions::default() }
}
