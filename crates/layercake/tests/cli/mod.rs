//! The command line, as a person uses it against a whole server.

use crate::rig::PATIENCE;
use std::path::Path;
use std::time::Duration;

/// Runs the command line: exit code, standard output, standard error.
pub(crate) async fn layercake(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_layercake"));
    command.arg("--server").arg(format!("unix:{}", dir.join("run/api.sock").display()));
    let output = command.args(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What it says, when it does what it was asked.
pub(crate) async fn says(dir: &Path, arguments: &[&str]) -> String {
    let (code, out, error) = layercake(dir, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {error}");
    out
}

/// Asks again until the answer holds all of this.
pub(crate) async fn says_in_time(dir: &Path, arguments: &[&str], wanted: &[&str]) -> String {
    let asked = tokio::time::timeout(PATIENCE, async {
        loop {
            let said = says(dir, arguments).await;
            if wanted.iter().all(|text| said.contains(text)) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    asked.await.unwrap_or_else(|_| panic!("{arguments:?} never says {wanted:?}"))
}
