//! A kernel package made for a test: small modules with real symbols, and a kernel that is none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const RELEASE: &str = "6.1.0-99-test-amd64";

pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output.stdout
}

/// A module that exports `exports`, needs the symbol `needs`, and answers to `alias`.
fn module(dir: &Path, path: &str, exports: &str, needs: &str, alias: &str) {
    let target = dir.join(path);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    let needs = match needs {
        "" => String::new(),
        name => format!("extern void {name}(void); void init_module(void) {{ {name}(); }}\n"),
    };
    let code = format!(
        "static const char info[] __attribute__((used, section(\".modinfo\"))) = \"alias={alias}\\0license=GPL\";\n\
         static const char sym[] __attribute__((used, section(\"__ksymtab_strings\"))) = \"{exports}\";\n{needs}"
    );
    let source = target.with_extension("c");
    fs::write(&source, code).unwrap();
    run(Command::new("cc").args(["-c", "-fno-pic", "-o"]).arg(&target).arg(&source));
    fs::remove_file(source).unwrap();
}

/// Builds the package and returns its path.
pub(crate) fn kernel_package(dir: &Path) -> PathBuf {
    let root = dir.join("package");
    let modules = root.join("lib/modules").join(RELEASE);
    for (path, exports, needs, alias) in [
        ("kernel/drivers/net/virtio_net.ko", "vnet", "register_failover", "virtio:d00000001v*"),
        ("kernel/net/core/failover.ko", "register_failover", "", "failover"),
        ("kernel/fs/squashfs/squashfs.ko", "sq", "", "fs-squashfs"),
        ("kernel/drivers/block/loop.ko", "loop", "", "block-major-7-*"),
        ("kernel/fs/xfs/unrelated-fs.ko", "xfs", "", "fs-xfs"),
    ] {
        module(&modules, path, exports, needs, alias);
    }
    // As from Debian 13 on: compressed modules.
    run(Command::new("xz").arg(modules.join("kernel/drivers/block/loop.ko")));
    fs::write(modules.join("modules.builtin"), "kernel/net/packet/af_packet.ko\n").unwrap();
    fs::write(modules.join("modules.order"), "").unwrap();
    fs::create_dir_all(root.join("boot")).unwrap();
    fs::write(root.join(format!("boot/vmlinuz-{RELEASE}")), "kernel").unwrap();
    let config = "CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n# CONFIG_RD_XZ is not set\n";
    fs::write(root.join(format!("boot/config-{RELEASE}")), config).unwrap();
    package(dir, &root, "linux-image-test", "amd64")
}

/// Makes a package of what is in `root`.
pub(crate) fn package(dir: &Path, root: &Path, name: &str, architecture: &str) -> PathBuf {
    let control = format!(
        "Package: {name}\nVersion: 6.1-1\nArchitecture: {architecture}\nMaintainer: Test <test@example.org>\nDescription: test\n"
    );
    fs::create_dir_all(root.join("DEBIAN")).unwrap();
    fs::write(root.join("DEBIAN/control"), control).unwrap();
    let deb = dir.join(format!("{name}.deb"));
    run(Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "-b"]).arg(root).arg(&deb));
    deb
}

/// A static program, standing in for the node.
pub(crate) fn static_program(dir: &Path) -> PathBuf {
    compile(dir, "node", &["-static"])
}

pub(crate) fn compile(dir: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let (source, program) = (dir.join(format!("{name}.c")), dir.join(name));
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    run(Command::new("cc").args(flags).arg("-o").arg(&program).arg(&source));
    program
}
