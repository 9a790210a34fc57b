//! What writer and reader agree on: the header, its fields, and alignment.

/// `070701`: "newc" without checksums, the only format that is written.
pub(crate) const MAGIC: &[u8; 6] = b"070701";
/// `070702`: the same with a checksum field; the kernel reads it, so the reader does too.
pub(crate) const MAGIC_CRC: &[u8; 6] = b"070702";
/// Magic and thirteen fields of eight hexadecimal digits.
pub(crate) const HEADER_BYTES: usize = 110;
/// The name that ends an archive.
pub(crate) const TRAILER: &[u8] = b"TRAILER!!!";

/// The longest name in bytes, without its closing zero: the kernel skips entries of `PATH_MAX` (4096,
/// the zero included) and more.
pub const MAX_NAME_BYTES: usize = 4095;

/// The numbers of a header, in the order in which they are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) inode: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) mtime: u32,
    pub(crate) file_bytes: u32,
    pub(crate) dev_major: u32,
    pub(crate) dev_minor: u32,
    pub(crate) rdev_major: u32,
    pub(crate) rdev_minor: u32,
    pub(crate) name_bytes: u32,
    pub(crate) check: u32,
}

impl Header {
    pub(crate) fn to_fields(self) -> [u32; 13] {
        [
            self.inode,
            self.mode,
            self.uid,
            self.gid,
            self.links,
            self.mtime,
            self.file_bytes,
            self.dev_major,
            self.dev_minor,
            self.rdev_major,
            self.rdev_minor,
            self.name_bytes,
            self.check,
        ]
    }

    pub(crate) fn from_fields(fields: [u32; 13]) -> Self {
        let [
            inode,
            mode,
            uid,
            gid,
            links,
            mtime,
            file_bytes,
            dev_major,
            dev_minor,
            rdev_major,
            rdev_minor,
            name_bytes,
            check,
        ] = fields;
        Self {
            inode,
            mode,
            uid,
            gid,
            links,
            mtime,
            file_bytes,
            dev_major,
            dev_minor,
            rdev_major,
            rdev_minor,
            name_bytes,
            check,
        }
    }
}

/// What an entry is: the `S_IFMT` bits of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; the data is its target.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl EntryKind {
    pub(crate) const fn type_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::File => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }

    pub(crate) const fn from_mode(mode: u32) -> Option<Self> {
        match mode & 0o170_000 {
            0o010_000 => Some(Self::Fifo),
            0o020_000 => Some(Self::CharDevice),
            0o040_000 => Some(Self::Directory),
            0o060_000 => Some(Self::BlockDevice),
            0o100_000 => Some(Self::File),
            0o120_000 => Some(Self::Symlink),
            0o140_000 => Some(Self::Socket),
            _ => None,
        }
    }
}

/// How many zero bytes bring `len` to a multiple of four: names and data are aligned so.
pub(crate) const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}
