//! Loop devices: a file seen as a block device. Interface: linux/loop.h and loop(4).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::{self, Errno};
use rustix::ioctl::{self, Setter};

/// `LOOP_CTL_GET_FREE`: the number of a free device, made if there is none.
const LOOP_CTL_GET_FREE: ioctl::Opcode = 0x4C82;
/// `LOOP_CONFIGURE` (Linux 5.8): backing file and all settings in one step, so that nobody ever
/// sees a device that is half set up.
const LOOP_CONFIGURE: ioctl::Opcode = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_NAME_SIZE: usize = 64;

/// Others look for free devices at the same time; each attempt that fails means that somebody
/// else got one, so this many failures in a row do not happen on a healthy machine.
const MAX_ATTEMPTS: u32 = 64;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; LO_NAME_SIZE],
    crypt_name: [u8; LO_NAME_SIZE],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

// The kernel copies exactly these sizes (linux/loop.h); a change of layout must not compile.
const _: () = assert!(size_of::<LoopInfo64>() == 232);
const _: () = assert!(size_of::<LoopConfig>() == 304);

/// An attached loop device. The kernel frees it when its last user (this value, a mount) is gone.
#[derive(Debug)]
pub struct LoopDevice {
    device: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Its node below `/dev`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open device.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.device
    }
}

/// Attaches `backing` to a free loop device, read-only, freed by the kernel after its last use.
pub fn attach_loop_device(backing: &File) -> io::Result<LoopDevice> {
    let control =
        rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for _ in 0..MAX_ATTEMPTS {
        let number = free_device(&control)?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device =
            File::from(rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
        match configure(&device, backing) {
            Ok(()) => return Ok(LoopDevice { device, path }),
            // Somebody else took it between the two calls.
            Err(Errno::BUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::BUSY)
}

/// `LOOP_CTL_GET_FREE` takes nothing and answers with the number as its return value.
struct GetFree;

// SAFETY: the opcode takes no argument (`as_ptr` is null and never read or written by the kernel)
// and its return value is the plain number of the device.
unsafe impl ioctl::Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> ioctl::Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        core::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        out: ioctl::IoctlOutput,
        _: *mut core::ffi::c_void,
    ) -> io::Result<u32> {
        u32::try_from(out).map_err(|_| Errno::NODEV)
    }
}

fn free_device(control: impl AsFd) -> io::Result<u32> {
    // SAFETY: `GetFree` describes the opcode truthfully, see its implementation of `Ioctl`.
    unsafe { ioctl::ioctl(control, GetFree) }
}

fn configure(device: &File, backing: &File) -> io::Result<()> {
    let fd = u32::try_from(backing.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let config = LoopConfig {
        fd,
        block_size: 0,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name: [0; LO_NAME_SIZE],
            crypt_name: [0; LO_NAME_SIZE],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, whose layout `LoopConfig` repeats
    // (sizes asserted above), writes nothing back, and takes its own reference to the backing
    // file, which is open for the length of this call.
    unsafe { ioctl::ioctl(device, Setter::<{ LOOP_CONFIGURE }, LoopConfig>::new(config)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_file_is_read_through_its_loop_device_and_the_device_is_freed() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..8192_u32).map(|n| (n % 251) as u8).collect();
        file.write_all(&content).unwrap();
        let device = attach_loop_device(&File::open(file.path()).unwrap()).unwrap();
        let name = device.path().file_name().unwrap().to_owned();
        let backing = || {
            std::fs::read_to_string(Path::new("/sys/block").join(&name).join("loop/backing_file"))
        };
        assert_eq!(Path::new(backing().unwrap().trim()), file.path());

        let mut seen = Vec::new();
        device.file().read_to_end(&mut seen).unwrap();
        assert_eq!(seen, content);
        let read_only = std::fs::read_to_string(Path::new("/sys/block").join(&name).join("ro"));
        assert_eq!(read_only.unwrap().trim(), "1");

        drop(device);
        // The kernel clears it when the last descriptor is closed; another test may hold it open
        // for a moment while it looks for a free one.
        let freed = (0..1000).any(|_| {
            std::thread::yield_now();
            backing().map_or(true, |path| Path::new(path.trim()) != file.path())
        });
        assert!(freed, "the loop device is still attached");
    }
}
