//! What ends commands when this process is gone and can no longer do it.
//!
//! A process that is killed with SIGKILL runs nothing more. The kernel's parent-death signal reaches
//! one process only, not what it started, and goes by the thread that forked. So a shell waits beside
//! us, with a pipe for standard input that nobody but us can write to: it is told of every process
//! group that runs, and when the pipe closes, however that came, it kills those that are left.
//! Commands need to know nothing of it.

use rustix::process::Pid;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Signals that end us need not end it: it ends by itself when we have.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
groups=' '
while read -r word group; do
    case $word in
        runs) groups="$groups$group " ;;
        ended) case $groups in
            *" $group "*) groups="${groups%% $group *} ${groups#* $group }" ;;
        esac ;;
    esac
done
for group in $groups; do
    kill -s KILL -- "-$group"
done
"#;

static WARDEN: Mutex<Warden> = Mutex::new(Warden { shell: None, groups: BTreeSet::new() });

/// A process group that is killed when this process is gone, for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Ward(Pid);

impl Ward {
    pub(crate) fn new(group: Pid) -> Self {
        let mut warden = WARDEN.lock().unwrap_or_else(PoisonError::into_inner);
        warden.groups.insert(group.as_raw_pid());
        warden.tell("runs", group.as_raw_pid());
        Self(group)
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        let mut warden = WARDEN.lock().unwrap_or_else(PoisonError::into_inner);
        warden.groups.remove(&self.0.as_raw_pid());
        warden.tell("ended", self.0.as_raw_pid());
    }
}

struct Warden {
    shell: Option<Shell>,
    /// What runs; another shell has to be told of all of it.
    groups: BTreeSet<i32>,
}

impl Warden {
    fn tell(&mut self, word: &str, group: i32) {
        if self.shell.as_mut().is_some_and(|shell| shell.tell(word, group).is_ok()) {
            return;
        }
        // There is none yet, or somebody has ended it.
        self.shell = None;
        if self.groups.is_empty() {
            return;
        }
        match Shell::start(&self.groups) {
            Ok(shell) => self.shell = Some(shell),
            Err(error) => tracing::warn!(
                "cannot start /bin/sh, which ends commands should this process be killed: {error}"
            ),
        }
    }
}

struct Shell {
    child: Child,
    pipe: ChildStdin,
}

impl Shell {
    fn start(groups: &BTreeSet<i32>) -> io::Result<Self> {
        let name = format!("ends-commands-of-{}", std::process::id());
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, &name])
            .current_dir("/")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not with us, when a terminal's whole group is ended.
            .process_group(0)
            .spawn()?;
        let Some(pipe) = child.stdin.take() else {
            return Err(io::Error::other("it has no standard input"));
        };
        let mut shell = Self { child, pipe };
        // A shell that somebody has stopped does not read; it must not stop us too.
        rustix::io::ioctl_fionbio(&shell.pipe, true)?;
        groups.iter().try_for_each(|group| shell.tell("runs", *group))?;
        Ok(shell)
    }

    /// A line is written whole or not at all: it is shorter than what a pipe takes at once.
    fn tell(&mut self, word: &str, group: i32) -> io::Result<()> {
        self.pipe.write_all(format!("{word} {group}\n").as_bytes())
    }
}

impl Drop for Shell {
    /// Before its pipe closes, at which it would kill what goes on.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn group() -> Child {
        Command::new("sleep").arg("600").process_group(0).spawn().unwrap()
    }

    fn id(child: &Child) -> Pid {
        Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
    }

    #[test]
    fn a_shell_that_somebody_ends_is_replaced_by_one_that_knows_what_runs() {
        let (mut first, mut second, mut ended) = (group(), group(), group());
        let kept = Ward::new(id(&first));
        let gone = Ward::new(id(&ended));
        let mut warden = WARDEN.lock().unwrap();
        let shell = warden.shell.as_mut().unwrap();
        let before = shell.child.id();
        shell.child.kill().unwrap();
        shell.child.wait().unwrap();
        drop(warden);
        let also = Ward::new(id(&second));
        drop(gone);
        let mut warden = WARDEN.lock().unwrap();
        let Shell { child, pipe } = warden.shell.as_mut().unwrap();
        assert_ne!(child.id(), before);
        // As if we had been killed: the pipe closes, and the shell lives on to end what is left.
        *pipe = Command::new("true").stdin(Stdio::piped()).spawn().unwrap().stdin.unwrap();
        child.wait().unwrap();
        for child in [&mut first, &mut second] {
            assert!(!child.wait().unwrap().success());
        }
        assert!(
            ended.try_wait().unwrap().is_none(),
            "it had ended for us, and is not ours to kill"
        );
        ended.kill().unwrap();
        ended.wait().unwrap();
        drop(warden);
        drop((kept, also));
    }
}
