//! Reasons why an archive is not imported.

use std::io;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It ends too early.
    #[error("the archive is cut off after {at} bytes (unpacked)")]
    CutOff {
        /// How much there was.
        at: u64,
    },
    /// It is something else.
    #[error("this is not a tar archive, or it is damaged: no valid header at byte {at} (unpacked)")]
    NotTar {
        /// Where a header should be.
        at: u64,
    },
    /// A header is there, and does not make sense.
    #[error("the archive is damaged at byte {at} (unpacked): {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// It is something else, and known.
    #[error("this is not the root of a system but {what}; {hint}")]
    Foreign {
        /// What it is.
        what: String,
        /// What to do with it.
        hint: String,
    },
    /// A name leads out of the image.
    #[error("`{path}` in the archive contains `..`; make the archive with `tar -C <root> -c .`")]
    Escapes {
        /// The name.
        path: String,
    },
    /// A hard link without its file.
    #[error("`{path}` in the archive is a hard link to `{target}`, which is not a file before it")]
    DeadLink {
        /// The link.
        path: String,
        /// What it wants to be.
        target: String,
    },
    /// A name below something that cannot have names below it.
    #[error("`{path}` in the archive is below the non-directory `{below}`{why}")]
    Below {
        /// The name.
        path: String,
        /// What is not a directory.
        below: String,
        /// More about it, beginning with `: `, or nothing.
        why: &'static str,
    },
    /// An entry that no image can hold.
    #[error("`{path}` in the archive cannot be in an image: {why}")]
    CannotHold {
        /// Its name.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is nothing in it.
    #[error("the archive is empty")]
    Empty,
    /// It is larger than allowed.
    #[error("the archive has more than {what}")]
    TooLarge {
        /// The limit.
        what: String,
    },
    /// Who takes the archive does not take any more.
    #[error("cannot pass the archive on")]
    Sink(#[source] io::Error),
}

impl TarError {
    pub(crate) fn cannot_hold(path: &[u8], why: impl Into<String>) -> Self {
        Self::CannotHold { path: show(path), why: why.into() }
    }
}

/// A name for people, in one line and not too long.
pub(crate) fn show(name: &[u8]) -> String {
    /// How many characters are shown.
    const MAX_SHOWN: usize = 200;
    let text = match std::str::from_utf8(name) {
        Ok(text) => text.chars().flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        }),
        Err(_) => return name.escape_ascii().to_string().chars().take(MAX_SHOWN).collect(),
    };
    text.take(MAX_SHOWN).collect()
}
