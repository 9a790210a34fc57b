//! Whether this machine can execute a file, before the kernel is asked.
//!
//! The kernel's own answers are `Exec format error` for a program of another machine and `No such file or directory`
//! for a program whose loader or interpreter is missing. Neither says what to do.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use layercake_schema::runs_on;

/// What is read of a file: headers, and the first line of a script (the kernel reads 256 bytes of that).
const HEAD_BYTES: u64 = 16 * 1024;

/// How many interpreters of interpreters are followed, as the kernel does.
const MAX_INTERPRETERS: u32 = 4;

/// Program header that names the loader (ELF, "Program Header", `PT_INTERP`).
const PT_INTERP: u32 = 3;

/// The architecture of this machine's kernel, as uname(2) tells it.
#[must_use]
pub fn own_architecture() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// The head of a file, as execve(2) looks at it.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// A program for an architecture, with the loader that it needs.
    Elf { built_for: String, loader: Option<PathBuf> },
    /// A script for an interpreter.
    Script { interpreter: PathBuf },
    /// Nothing that any kernel executes.
    Neither,
}

/// Says why this machine cannot execute a file, in words that follow "cannot run the program X: ".
pub(super) fn check(program: &Path) -> Result<(), String> {
    let machine = own_architecture();
    let mut at = program.to_owned();
    let mut of = String::new();
    for _ in 0..=MAX_INTERPRETERS {
        let head = match read_head(&at) {
            Ok(head) => head,
            // The kernel knows better; it may execute what cannot be read.
            Err(_) => return Ok(()),
        };
        match parse(&head) {
            Head::Elf { built_for, .. } if !runs_on(&built_for, &machine) => {
                return Err(format!("{of}it is built for {built_for}, and this node is {machine}"));
            }
            Head::Elf { loader: Some(loader), .. } if is_missing(&loader) => {
                let loader = loader.display();
                return Err(format!("{of}it needs {loader}, which the image does not have"));
            }
            Head::Elf { .. } => return Ok(()),
            Head::Script { interpreter } if is_missing(&interpreter) => {
                let interpreter = interpreter.display();
                return Err(format!(
                    "{of}it is a script for {interpreter}, which the image does not have"
                ));
            }
            Head::Script { interpreter } => {
                of = format!("it is a script for {}, and of that: ", interpreter.display());
                at = interpreter;
            }
            Head::Neither if head.is_empty() => return Err(format!("{of}the file is empty")),
            Head::Neither => {
                return Err(format!(
                    "{of}it is no program for Linux, nor a script whose first line names its \
                     interpreter, such as #!/bin/sh"
                ));
            }
        }
    }
    Err("it is a script for a script for a script, too deep for the kernel".to_owned())
}

fn is_missing(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}

fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

fn parse(head: &[u8]) -> Head {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let words = line.split(|byte| matches!(byte, b' ' | b'\t'));
        let interpreter = words.into_iter().find(|word| !word.is_empty()).unwrap_or_default();
        return match std::str::from_utf8(interpreter) {
            Ok(text) if text.starts_with('/') => Head::Script { interpreter: text.into() },
            _ => Head::Neither,
        };
    }
    elf(head).unwrap_or(Head::Neither)
}

/// Numbers of one ELF file, in its byte order and with its word size.
struct Elf<'a> {
    bytes: &'a [u8],
    is_64: bool,
    is_little: bool,
}

impl Elf<'_> {
    fn number(&self, at: usize, bytes: usize) -> Option<u64> {
        let raw = self.bytes.get(at..at.checked_add(bytes)?)?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(match self.is_little {
            true => raw.iter().rev().fold(0, fold),
            false => raw.iter().fold(0, fold),
        })
    }

    /// A number that has the size of an address: offset in a 32-bit file, offset in a 64-bit file.
    fn word(&self, at_32: usize, at_64: usize) -> Option<u64> {
        if self.is_64 { self.number(at_64, 8) } else { self.number(at_32, 4) }
    }

    fn place(&self, at_32: usize, at_64: usize) -> usize {
        if self.is_64 { at_64 } else { at_32 }
    }

    fn loader(&self) -> Option<PathBuf> {
        let table = usize::try_from(self.word(0x1c, 0x20)?).ok()?;
        let size = usize::try_from(self.number(self.place(0x2a, 0x36), 2)?).ok()?;
        let count = usize::try_from(self.number(self.place(0x2c, 0x38), 2)?).ok()?;
        let mut headers = (0..count).map_while(|index| table.checked_add(index.checked_mul(size)?));
        let header = headers.find(|at| self.number(*at, 4) == Some(u64::from(PT_INTERP)))?;
        let from = usize::try_from(self.word(header + 4, header + 8)?).ok()?;
        let length = usize::try_from(self.word(header + 16, header + 32)?).ok()?;
        let text = self.bytes.get(from..from.checked_add(length)?)?;
        let text = text.split(|byte| *byte == 0).next()?;
        let path = std::str::from_utf8(text).ok().filter(|path| path.starts_with('/'))?;
        Some(PathBuf::from(path))
    }
}

/// ELF header, `e_ident` and `e_machine` (System V ABI, and the processors' supplements for the numbers).
fn elf(bytes: &[u8]) -> Option<Head> {
    let ident = bytes.strip_prefix(b"\x7fELF")?;
    let (is_64, is_little) = (*ident.first()? == 2, *ident.get(1)? == 1);
    let elf = Elf { bytes, is_64, is_little };
    let machine = elf.number(0x12, 2)?;
    let built_for = match (machine, is_64, is_little) {
        (3, ..) => "i386",
        // With 32-bit addresses (x32) it is an x86_64 program all the same.
        (62, ..) => "x86_64",
        (40, ..) => "arm",
        (183, ..) => "aarch64",
        (243, true, _) => "riscv64",
        (243, false, _) => "riscv32",
        (21, _, true) => "ppc64le",
        (21, _, false) => "ppc64",
        (22, ..) => "s390x",
        (8, true, _) => "mips64",
        (8, false, _) => "mips",
        (258, ..) => "loongarch64",
        _ => return Some(Head::Elf { built_for: format!("ELF machine {machine}"), loader: None }),
    };
    Some(Head::Elf { built_for: built_for.to_owned(), loader: elf.loader() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    /// The head of a program with a loader, made as the ABI says.
    fn program(machine: u16, is_64: bool, is_little: bool, loader: &str) -> Vec<u8> {
        let number = |value: u64, bytes: usize| {
            let mut raw = value.to_le_bytes()[..bytes].to_vec();
            if !is_little {
                raw.reverse();
            }
            raw
        };
        let word = if is_64 { 8 } else { 4 };
        let (head, entry) = if is_64 { (64, 56) } else { (52, 32) };
        let mut file = vec![0; head + 2 * entry];
        let mut put = |at: usize, raw: &[u8]| file[at..at + raw.len()].copy_from_slice(raw);
        put(0, b"\x7fELF");
        put(4, &[1 + u8::from(is_64), 2 - u8::from(is_little)]);
        put(0x12, &number(machine.into(), 2));
        put(if is_64 { 0x20 } else { 0x1c }, &number(head as u64, word));
        put(if is_64 { 0x36 } else { 0x2a }, &number(entry as u64, 2));
        put(if is_64 { 0x38 } else { 0x2c }, &number(2, 2));
        let second = head + entry;
        put(second, &number(3, 4));
        let end = (head + 2 * entry) as u64;
        put(second + if is_64 { 8 } else { 4 }, &number(end, word));
        put(second + if is_64 { 32 } else { 16 }, &number(loader.len() as u64 + 1, word));
        file.extend_from_slice(loader.as_bytes());
        file.push(0);
        file
    }

    #[test]
    fn architecture_and_loader_are_read_in_every_byte_order_and_word_size() {
        for (machine, is_64, is_little, name) in [
            (62, true, true, "x86_64"),
            (183, true, true, "aarch64"),
            (3, false, true, "i386"),
            (22, true, false, "s390x"),
            (21, true, false, "ppc64"),
            (243, true, true, "riscv64"),
            (8, false, false, "mips"),
        ] {
            let loader = Some(PathBuf::from("/lib/ld.so"));
            let expected = Head::Elf { built_for: name.to_owned(), loader };
            assert_eq!(parse(&program(machine, is_64, is_little, "/lib/ld.so")), expected);
        }
    }

    fn reason(content: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, content).unwrap();
        check(&path).unwrap_err()
    }

    #[test]
    fn what_cannot_be_executed_is_told_in_words_that_name_the_cause() {
        let own = own_architecture();
        let (own_number, other, other_number) =
            if own == "x86_64" { (62, "aarch64", 183) } else { (183, "x86_64", 62) };
        let foreign = reason(&program(other_number, true, true, "/lib/ld.so"));
        assert_eq!(foreign, format!("it is built for {other}, and this node is {own}"));
        let no_loader = reason(&program(own_number, true, true, "/lib/ld-none.so"));
        assert_eq!(no_loader, "it needs /lib/ld-none.so, which the image does not have");
        let no_shell = reason(b"#! /bin/none -e\nexit\n");
        assert_eq!(no_shell, "it is a script for /bin/none, which the image does not have");
        for neither in [&b"echo hello\n"[..], b"MZ\x90", b"#!relative\n", b"\x7fEL"] {
            assert!(reason(neither).starts_with("it is no program for Linux"), "{neither:?}");
        }
        assert_eq!(reason(b""), "the file is empty");
    }

    #[test]
    fn what_runs_here_is_left_to_run() {
        check(&std::env::current_exe().unwrap()).unwrap();
        check(Path::new("/bin/sh")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("inner"), "#!/bin/sh\n").unwrap();
        let inner = dir.path().join("inner").display().to_string();
        fs::write(dir.path().join("outer"), format!("#!{inner} argument\n")).unwrap();
        check(&dir.path().join("outer")).unwrap();
        fs::write(dir.path().join("inner"), "#!/bin/none\n").unwrap();
        let nested = check(&dir.path().join("outer")).unwrap_err();
        let words =
            format!("it is a script for {inner}, and of that: it is a script for /bin/none");
        assert!(nested.starts_with(&words), "{nested}");
        let circle = dir.path().join("circle");
        fs::write(&circle, format!("#!{}\n", circle.display())).unwrap();
        assert!(check(&circle).unwrap_err().contains("too deep"));
    }

    proptest! {
        #[test]
        fn no_head_of_a_file_makes_it_panic(
            mut head in proptest::collection::vec(any::<u8>(), 0..256), is_elf: bool,
        ) {
            if is_elf && head.len() > 4 {
                head[..4].copy_from_slice(b"\x7fELF");
            }
            let _ = parse(&head);
        }

        #[test]
        fn no_damage_to_a_program_makes_it_panic(at in 0_usize..170, byte: u8) {
            let mut head = program(62, true, true, "/lib/ld.so");
            head[at] = byte;
            let _ = parse(&head);
        }
    }
}
