//! Whether hardware virtualisation works here.
//!
//! A `/dev/kvm` that can be opened proves nothing: inside some virtual machines it exists, takes every call,
//! and hangs every guest. So a guest is run: the few bytes at the reset vector that tell QEMU to exit with a
//! certain status. Emulated they take 50 ms.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::OnceCell;

/// How long a guest of five bytes may take. A working KVM needs a few hundred milliseconds at most.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// The size of the smallest ROM that QEMU maps below 4 GiB and below 1 MiB.
const ROM_BYTES: usize = 64 * 1024;
/// Where the processor starts: 16 bytes below the end (Intel SDM volume 3, "First Instruction Executed").
const RESET_VECTOR: usize = ROM_BYTES - 16;
/// `mov al, 0x10; out 0xf4, al; hlt`.
const PROBE_CODE: [u8; 5] = [0xb0, 0x10, 0xe6, 0xf4, 0xf4];
/// QEMU's isa-debug-exit device ends with `(value << 1) | 1`.
const PROBE_STATUS: i32 = (0x10 << 1) | 1;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's translator, one thread for each virtual processor.
    Tcg,
}

impl Accel {
    pub(super) fn qemu_argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// The processor model: all that the accelerator can do. Emulated, a fifth level of page tables is a
    /// fifth more to walk for memory that no machine here has.
    pub(super) fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max,la57=off",
        }
    }
}

/// The best accelerator that works with `program`, found once per process.
pub async fn detect(program: &Path) -> Accel {
    static FOUND: OnceCell<Accel> = OnceCell::const_new();
    *FOUND
        .get_or_init(|| async {
            let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            if !has_virtualisation(&cpu) {
                tracing::info!("the processor shows neither vmx nor svm: machines are emulated");
                return Accel::Tcg;
            }
            if probe(program, Accel::Kvm).await {
                return Accel::Kvm;
            }
            tracing::warn!(
                "the processor has virtualisation, but a guest under KVM did not run: machines are emulated"
            );
            Accel::Tcg
        })
        .await
}

/// Whether `/proc/cpuinfo` shows Intel's or AMD's virtualisation.
fn has_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_ascii_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm")
}

/// Runs the smallest guest and tells whether it did what it should, within [`PROBE_LIMIT`].
async fn probe(program: &Path, accel: Accel) -> bool {
    let Ok(rom) = ProbeRom::write() else { return false };
    let started = Command::new(program)
        .args(["-no-user-config", "-nodefaults", "-machine", "pc", "-display", "none"])
        .args(["-accel", accel.qemu_argument(), "-m", "16M", "-bios"])
        .arg(&rom.0)
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut guest) = started else { return false };
    match tokio::time::timeout(PROBE_LIMIT, guest.wait()).await {
        Ok(Ok(status)) => status.code() == Some(PROBE_STATUS),
        Ok(Err(_)) => false,
        Err(_) => {
            // It hangs, which is the answer; dropping it kills it.
            let _ = guest.start_kill();
            false
        }
    }
}

/// The ROM as a file, removed when dropped.
struct ProbeRom(PathBuf);

impl ProbeRom {
    fn write() -> std::io::Result<Self> {
        use std::io::Write;
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut rom = vec![0xf4_u8; ROM_BYTES];
        rom[RESET_VECTOR..RESET_VECTOR + PROBE_CODE.len()].copy_from_slice(&PROBE_CODE);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("layercake-probe-{}-{number}.rom", std::process::id());
        let path = std::env::temp_dir().join(name);
        // `create_new` follows no link that somebody may have put there.
        let mut file = std::fs::File::create_new(&path)?;
        let this = Self(path);
        file.write_all(&rom)?;
        Ok(this)
    }
}

impl Drop for ProbeRom {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QEMU: &str = "/usr/bin/qemu-system-x86_64";

    #[test]
    fn only_whole_flags_of_the_flags_line_count() {
        assert!(has_virtualisation("processor: 0\nflags\t\t: fpu vmx sse\n"));
        assert!(has_virtualisation("flags : svm\n"));
        assert!(!has_virtualisation("flags : fpu vmx_like\nmodel name : svm vmx\n"));
        assert!(!has_virtualisation(""));
    }

    #[tokio::test]
    async fn the_probe_guest_runs_where_guests_run_and_fails_where_nothing_does() {
        assert!(probe(Path::new(QEMU), Accel::Tcg).await);
        assert!(!probe(Path::new("/bin/true"), Accel::Tcg).await);
        assert!(!probe(Path::new("/nonexistent"), Accel::Tcg).await);
    }
}
