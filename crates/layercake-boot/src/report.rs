//! What iPXE reports of a boot that failed.
//!
//! Its script asks, by TFTP, for the file `report/<node>/<step>/<error>`; that it asked is the report. By
//! TFTP, because the script came that way: what failed since is HTTP as a rule.

use crate::{
    events::{BootEvent, Service},
    hosts::Host,
};

/// A step or an error longer than this is not one of ours.
const MAX_WORD_BYTES: usize = 40;

/// The steps of the script, with what each one does, for people. A site's own template may have others.
const STEPS: &[(&str, &str)] = &[
    ("kernel", "could not load the kernel"),
    ("initramfs", "could not load the initramfs"),
    ("seed", "could not load the seed"),
    ("boot", "could not start the kernel"),
    ("script", "could not load its script again"),
];

/// The step of the script that finds iPXE built for another processor; its "error" is that processor.
pub(crate) const FOREIGN: &str = "architecture";

/// Errors of POSIX as iPXE numbers them, in the first of the four bytes of its own (ipxe.org/err).
const ERRORS: &[(u8, &str)] = &[
    (0x02, "access denied"),
    (0x0b, "cancelled at the console"),
    (0x0f, "connection reset"),
    (0x1c, "invalid argument"),
    (0x1d, "input or output error"),
    (0x22, "file too large"),
    (0x28, "network unreachable"),
    (0x2c, "no such device"),
    (0x2d, "no such file"),
    (0x2e, "not a program that it can start"),
    (0x31, "not enough memory"),
    (0x34, "not enough space"),
    (0x3c, "not supported"),
    (0x3e, "no such device or address"),
    (0x4c, "timed out"),
];

/// The event that a report is; nothing for what cannot be one.
pub(crate) fn read(host: &Host, words: &str) -> Option<BootEvent> {
    let [node, step, error] = words.split('/').collect::<Vec<_>>().try_into().ok()?;
    let is_word = |word: &str| {
        (1..=MAX_WORD_BYTES).contains(&word.len())
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    if *node != *host.node || !is_word(step) || !is_word(error) {
        return None;
    }
    if step == FOREIGN {
        let reason = format!(
            "its iPXE is for {error}, and the node is {}: correct `arch` in the cluster file, or the \
             MAC address if this is another machine",
            host.arch.map_or("not", |arch| arch.word())
        );
        return Some(BootEvent::stuck(host, Service::Tftp, reason));
    }
    let what = STEPS.iter().find(|(name, _)| *name == step);
    let what = what.map_or_else(|| format!("failed at {step}"), |(_, what)| (*what).to_owned());
    let reason = format!("its iPXE {what}: {}; it tries again", in_words(error));
    Some(BootEvent::stuck(host, Service::Tftp, reason))
}

/// An error with where iPXE's authors explain it.
fn in_words(error: &str) -> String {
    let number = u32::from_str_radix(error, 16).ok().filter(|_| error.len() == 8);
    let Some(number) = number else { return format!("error {error}") };
    let [class, ..] = number.to_be_bytes();
    let name = ERRORS.iter().find(|(number, _)| *number == class);
    let name = name.map_or(String::new(), |(_, name)| format!("{name} "));
    format!("{name}(https://ipxe.org/{error})")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        arch::Arch,
        hosts::tests::{armed, host},
    };

    fn said(words: &str) -> Option<String> {
        let mut host = host(11, armed());
        host.arch = Some(Arch::X86_64);
        read(&host, words).map(|event| match event {
            BootEvent::Refused { node: Some(node), reason, .. } => format!("{node}: {reason}"),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_report_says_what_failed_and_why() {
        assert_eq!(
            said("n11/initramfs/4c0a6035").unwrap(),
            "n11: its iPXE could not load the initramfs: timed out (https://ipxe.org/4c0a6035); it \
             tries again"
        );
        assert_eq!(
            said("n11/unpack/ff000001").unwrap(),
            "n11: its iPXE failed at unpack: (https://ipxe.org/ff000001); it tries again"
        );
        assert!(
            said("n11/architecture/arm64").unwrap().contains("for arm64, and the node is x86_64")
        );
    }

    #[test]
    fn what_is_no_report_of_the_machine_itself_is_none() {
        for words in
            ["n12/kernel/4c0a6035", "n11/kernel", "n11/kernel/a/b", "n11//1", "n11/a b/1", ""]
        {
            assert_eq!(said(words), None, "{words}");
        }
        assert_eq!(said(&format!("n11/kernel/{}", "a".repeat(41))), None);
    }
}
