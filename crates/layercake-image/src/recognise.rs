//! Recognises what is given as an image and is none, so that people are told what they have.

use crate::tar::TarError;
use crate::tree::Tree;

/// How many bytes from its start it takes to know a file.
pub(crate) const WANTED_BYTES: u64 = 36 << 10;

const UNPACK: &str = "unpack it, and import the directory or a tar of it";
const MOUNT: &str = "mount its root file system, and import that directory";

/// Bytes at a place that tell of a kind, its name, and what to do with it.
const MAGIC: &[(usize, &[u8], &str, &str)] = &[
    (0, b"!<arch>\n", "a Debian package or other `ar` archive", "unpack it with `dpkg-deb -x`"),
    (0, b"PK\x03\x04", "a zip archive", UNPACK),
    (0, b"Rar!", "a rar archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (0, b"\xed\xab\xee\xdb", "an rpm package", "unpack it with `rpm2cpio FILE | cpio -idm`"),
    (0, b"07070", "a cpio archive, such as an initramfs", "unpack it with `cpio -idm < FILE`"),
    (0, b"\xc7\x71", "a cpio archive", "unpack it with `cpio -idm < FILE`"),
    (0, b"\x1f\x8b", "packed twice: there is gzip data in it again", "unpack it once"),
    (0, b"BZh", "bzip2 data", "unpack it with `bunzip2`"),
    (0, b"\xfd7zXZ\0", "packed twice: there is xz data in it again", "unpack it once"),
    (0, b"\x28\xb5\x2f\xfd", "packed twice: there is zstd data in it again", "unpack it once"),
    (0, b"\x04\x22\x4d\x18", "lz4 data", "unpack it with `lz4 -d`"),
    (0, b"LZIP", "lzip data", "unpack it with `lzip -d`"),
    (0, b"\x5d\0\0", "lzma data", "unpack it with `xz -d --format=lzma`"),
    (0, b"\x1f\x9d", "`compress` data", "unpack it with `uncompress`"),
    (0, b"hsqs", "a packed squashfs", "unpack it: a squashfs itself is taken as it is"),
    (0, b"sqsh", "a squashfs of an old or foreign kind", "unpack it with `unsquashfs`"),
    (0, b"QFI\xfb", "a qcow2 disk image", MOUNT),
    (0, b"KDMV", "a VMDK disk image", MOUNT),
    (0, b"# Disk DescriptorFile", "a VMDK disk image", MOUNT),
    (0, b"vhdxfile", "a VHDX disk image", MOUNT),
    (0, b"conectix", "a VHD disk image", MOUNT),
    (0, b"XFSB", "an XFS file system", MOUNT),
    (0, b"\x7fELF", "an ELF program", "import a directory that has it at its place"),
    (0, b"MZ", "a program for Windows or UEFI, or a kernel", "import a root file system"),
    (0, b"#!", "a script", "import a directory that has it at its place"),
    (0, b"<!DOCTYPE", "a web page: its download failed, perhaps", "look into it"),
    (0, b"<html", "a web page: its download failed, perhaps", "look into it"),
    (0, b"version https://git-lfs", "a pointer of Git LFS", "fetch it with `git lfs pull`"),
    (0x200, b"EFI PART", "a disk image with partitions", MOUNT),
    (0x400, b"\xe2\xe1\xf5\xe0", "an EROFS file system", MOUNT),
    (0x438, b"\x53\xef", "an ext4 file system", MOUNT),
    (0x8001, b"CD001", "an ISO 9660 file system", MOUNT),
    (0x1fe, b"\x55\xaa", "a disk image with partitions, or a boot sector", MOUNT),
    (0, b"{", "JSON, perhaps a manifest", "import a root file system"),
];

/// Names what begins with these bytes and is neither a tar nor a squashfs, and says what to do with it.
pub(crate) fn magic(start: &[u8]) -> Option<(&'static str, &'static str)> {
    let found = MAGIC
        .iter()
        .find(|(at, bytes, ..)| start.get(*at..).is_some_and(|start| start.starts_with(bytes)));
    found.map(|&(_, _, what, hint)| (what, hint))
}

/// Tells how `skopeo` and `umoci` make a root of `source`, as `skopeo` calls it.
fn convert(source: &str) -> String {
    format!(
        "container images cannot be imported directly yet: convert it with `skopeo copy {source} \
         oci:oci:latest` and `umoci unpack --image oci:latest bundle`, then import the directory \
         bundle/rootfs"
    )
}

/// The directories that tell of a root file system.
const OF_A_ROOT: &[&[u8]] = &[b"bin", b"sbin", b"usr", b"etc", b"lib", b"var", b"dev", b"proc"];

/// Refuses archives that hold no root but something to make one of: layers, bundles, other archives.
/// `command` is what the image is to start, if that was said.
pub(crate) fn refuse_foreign(tree: &Tree, command: Option<&str>) -> Result<(), TarError> {
    let top = tree.list("");
    let has = |wanted: &str| top.iter().any(|(name, _)| *name == wanted.as_bytes());
    let is_root = top.iter().any(|(name, _)| OF_A_ROOT.contains(name));
    if is_root || top.is_empty() {
        return Ok(());
    }
    let foreign = |what: &str, hint: String| Err(TarError::Foreign { what: what.to_owned(), hint });
    if has("manifest.json") && (has("repositories") || has_layers(tree, &top)) {
        let what = "an image saved by `docker save` or `podman save`: layers and a manifest";
        return foreign(what, convert("docker-archive:FILE"));
    }
    if has("oci-layout") || (has("index.json") && has("blobs")) {
        return foreign("an OCI image layout: blobs and an index", convert("oci-archive:FILE"));
    }
    if has("manifest.json") && has("version") {
        return foreign("an image in the form of `skopeo copy dir:`", convert("dir:DIRECTORY"));
    }
    let rootfs = "the root is in its directory rootfs: import that, or `tar -C rootfs -c .`";
    if has("rootfs") && has("config.json") {
        return foreign("an OCI bundle", rootfs.to_owned());
    }
    if has("rootfs") && (has("metadata.yaml") || has("metadata.tar")) {
        return foreign("an image of LXD or Incus", rootfs.to_owned());
    }
    match &top[..] {
        [(name, true)] => refuse_wrapped(tree, name, command),
        [(name, false)] if is_archive(name) => {
            let what = format!("an archive that holds another one, {}", crate::tar::show(name));
            foreign(&what, "import that one".to_owned())
        }
        _ => Ok(()),
    }
}

/// Refuses a root that lies in the only directory of the archive, as `tar -c ROOT` makes it.
fn refuse_wrapped(tree: &Tree, name: &[u8], command: Option<&str>) -> Result<(), TarError> {
    let Ok(path) = std::str::from_utf8(name) else { return Ok(()) };
    let inside = tree.list(path);
    let has = |wanted: &[u8]| inside.iter().any(|(name, _)| *name == wanted);
    // A prefix such as /app has bin, lib and etc as well, but hardly all of this.
    let of_a_root = inside.iter().filter(|(name, _)| OF_A_ROOT.contains(name)).count();
    let looks_so = of_a_root >= 4 && ["usr", "etc", "var"].iter().all(|name| has(name.as_bytes()));
    let first = command.and_then(|command| command.strip_prefix('/')?.split('/').next());
    let misses = first.is_some_and(|first| first.as_bytes() != name && has(first.as_bytes()));
    if !looks_so && !misses {
        return Ok(());
    }
    let shown = crate::tar::show(name);
    let what = format!("a directory, {shown}, with a root in it");
    let hint =
        format!("import the directory {shown}, or make the archive with `tar -C {shown} -c .`");
    Err(TarError::Foreign { what, hint })
}

fn is_archive(name: &[u8]) -> bool {
    [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".squashfs", ".sqfs"]
        .iter()
        .any(|end| name.ends_with(end.as_bytes()))
}

/// Layers beside the manifest, under the names that Docker and Podman give them: by their digest.
fn has_layers(tree: &Tree, top: &[(&[u8], bool)]) -> bool {
    top.iter().any(|&(name, is_directory)| {
        let name = String::from_utf8_lossy(name);
        let stem = name.split('.').next().unwrap_or_default();
        let is_digest = stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
        let layer = |(name, _): &(&[u8], bool)| *name == b"layer.tar";
        match is_directory {
            true => name == "blobs" || tree.list(&name).iter().any(layer),
            false => is_digest && (name.ends_with(".json") || is_archive(name.as_bytes())),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Kind, Member};

    fn tree(names: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for (entry, name) in (0..).zip(names) {
            let kind = if name.ends_with('/') { Kind::Directory } else { Kind::File(0) };
            let path = name.trim_end_matches('/').as_bytes().to_vec();
            tree.apply(&Member { path, kind, meta: tree.root() }, entry).unwrap();
        }
        tree
    }

    #[test]
    fn archives_that_are_no_roots_are_named() {
        let digest = "c".repeat(64);
        let (config, layer) = (format!("{digest}.json"), format!("{digest}.tar"));
        let old_layer = format!("{digest}/layer.tar");
        for (names, what) in [
            (&["manifest.json", "repositories", &old_layer, &config][..], "docker save"),
            (&["manifest.json", &config, &layer], "docker save"),
            (&["manifest.json", "index.json", "oci-layout", "blobs/sha256/ab"], "docker save"),
            (&["oci-layout", "index.json", "blobs/sha256/ab"], "OCI image layout"),
            (&["version", "manifest.json", &digest], "skopeo copy dir"),
            (&["config.json", "rootfs/bin/sh"], "OCI bundle"),
            (&["metadata.yaml", "rootfs/bin/sh", "templates/"], "LXD"),
            (&["layer.tar"], "holds another one, layer.tar"),
            (&["my-root/usr/bin/x", "my-root/etc/", "my-root/var/", "my-root/dev/"], "with a root"),
            (&["my-root/", "my-root/bin/x"], "with a root"),
        ] {
            let refused = refuse_foreign(&tree(names), Some("/bin/x")).unwrap_err().to_string();
            assert!(refused.contains(what), "{names:?}: {refused}");
        }
    }

    #[test]
    fn roots_are_taken_also_small_and_odd_ones() {
        for names in [
            &["bin/sh", "manifest.json", "repositories"][..],
            &["usr/bin/env", "usr/etc/", "usr/var/", "usr/lib/"],
            &["app/bin/x", "app/lib/", "app/etc/"],
            &["server"],
            &["config.json", "server"],
            &["manifest.json", "server"],
            &["data.tar", "server"],
        ] {
            refuse_foreign(&tree(names), Some("/app/bin/x")).unwrap();
            refuse_foreign(&tree(names), None).unwrap();
        }
    }

    #[test]
    fn files_of_other_kinds_are_named_by_their_bytes() {
        let mut ext4 = vec![0; 2048];
        ext4[0x438..0x43a].copy_from_slice(b"\x53\xef");
        assert!(magic(&ext4).unwrap().0.contains("ext4"));
        assert!(magic(b"PK\x03\x04rest").unwrap().0.contains("zip"));
        assert_eq!((magic(b""), magic(b"no idea")), (None, None));
    }
}
