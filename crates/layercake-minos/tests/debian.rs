//! The kernel that the lab boots, from Debian.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use layercake_minos::{Architecture, Profile, Recipe, build, kernel_package, module_name};

#[test]
fn the_cloud_kernel_of_debian_becomes_an_initramfs() {
    // Kept between runs; a package that is there already is not downloaded again.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel");
    let deb = kernel_package("linux-image-cloud-amd64", &cache).unwrap();
    assert_eq!(kernel_package("linux-image-cloud-amd64", &cache).unwrap(), deb);

    let dir = tempfile::tempdir().unwrap();
    let mut recipe = Recipe::new(&deb, "/bin/busybox", dir.path().join("out"));
    recipe.profile = Profile::Virtual;
    let metadata = build(&recipe, &mut |_| {}).unwrap().metadata;
    for name in ["virtio_net", "virtio_pci", "failover", "loop", "squashfs", "overlay"] {
        assert!(metadata.modules.iter().any(|module| module.name == name), "{name}");
    }
    assert_eq!(metadata.always_loaded, ["loop", "squashfs", "overlay"]);
    assert_eq!(metadata.built_in, ["af_packet"]);
    assert!(metadata.without_modules_bytes < 6 << 20);
}

#[test]
fn the_default_kernel_of_debian_has_a_driver_for_every_card_and_disk_of_the_full_profile() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel");
    let deb = kernel_package(Architecture::Amd64.kernel_package(), &cache).unwrap();
    // A list of its files is much sooner had than an initramfs.
    let list = Command::new("dpkg-deb").arg("--contents").arg(&deb).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let files: BTreeSet<String> = list.lines().map(module_name).collect();
    let is_built_in = |name: &&str| ["virtio_pci", "af_packet"].contains(name);
    let mut absent: Vec<&str> = Profile::Full.modules().collect();
    absent.retain(|name| !files.contains(*name) && !is_built_in(name));
    assert_eq!(absent, [""; 0]);
    assert!(files.contains("realtek"), "without it r8169 takes no card");
}
