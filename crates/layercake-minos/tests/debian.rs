//! The kernel that the lab boots, from Debian.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use layercake_minos::{Profile, Recipe, build, kernel_package};

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
