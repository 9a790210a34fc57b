//! `layercake image`, against a server in a process of its own.
#![allow(clippy::unwrap_used)]

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A server with simulated machines and a store of its own; gone when it is dropped.
struct Server {
    child: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Server {
    /// `tools` comes first where programs are looked for.
    fn start(tools: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        command.args(["sim", "--serve", "--nodes", "12", "--api-listen", "127.0.0.1:0", "--state"]);
        command.arg(dir.path().join("state")).env("TMPDIR", dir.path()).stdout(Stdio::piped());
        if let Some(tools) = tools {
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", tools.display()));
        }
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address =
            said.find_map(|line| Some(line.split_once("LAYERCAKE_SERVER=")?.1.to_owned()));
        // What it says later has to go somewhere.
        std::thread::spawn(move || said.count());
        Self { child, address: address.unwrap(), dir }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layercake"));
        command.args(["--server", &self.address]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it says on standard output and on standard error, when it does what it was asked.
    fn says(&self, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let (out, error) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
        let (out, error) = (out.unwrap(), error.unwrap());
        assert!(output.status.success(), "{arguments:?}: {error}");
        (out, error)
    }

    fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A small root, with a program that a processor of another kind runs.
    fn root(&self, name: &str) -> PathBuf {
        let root = self.dir.path().join(name);
        fs::create_dir_all(root.join("bin")).unwrap();
        let mut program = vec![0; 64];
        program[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        program[18] = 183;
        fs::write(root.join("bin/true"), program).unwrap();
        fs::set_permissions(root.join("bin/true"), fs::Permissions::from_mode(0o755)).unwrap();
        root
    }

    /// The list of images, and how many files there are in the store's parts.
    fn store(&self) -> (String, Vec<usize>) {
        let images = self.dir.path().join("state/images");
        let count = |dir: &&str| fs::read_dir(images.join(dir)).unwrap().count();
        let counts = ["tmp", "blobs/sha256", "meta", "tags"].iter().map(count).collect();
        (self.says(&["image", "list"]).0, counts)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn a_directory_is_imported_with_what_is_left_out_and_for_which_processors_it_is() {
    let server = Server::start(None);
    let root = server.root("root");
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let import = ["image", "import", root.to_str().unwrap(), "-n", "arm:1", "--", "/bin/true"];
    let (listed, said) = server.says(&import);
    assert!(said.contains("sockets are left out: socket\n"), "{said}");
    assert!(
        said.contains("it is built for aarch64, and the nodes of the cluster are x86_64"),
        "{said}"
    );
    let row: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["arm:1", "plain", "aarch64"], "{listed}");
    let (inspected, _) = server.says(&["image", "inspect", "arm:1"]);
    for line in ["arch     aarch64", "command  [\"/bin/true\"]", "files    2"] {
        assert!(inspected.lines().any(|found| found == line), "{inspected}");
    }
    let unknown = server.refuses(&["image", "inspect", "nothing:1"]);
    assert!(unknown.contains("no such image"), "{unknown}");
}

#[test]
fn an_image_in_use_is_kept_and_its_nodes_are_folded() {
    let server = Server::start(None);
    let said = server.refuses(&["image", "remove", "compute:1"]);
    assert!(said.contains("in use: 11 nodes run this image, or should: n[002-012];"), "{said}");
}

#[test]
fn a_directory_that_is_written_to_moves_no_name() {
    let server = Server::start(None);
    let root = server.root("root");
    let path = root.to_str().unwrap().to_owned();
    let import = ["image", "import", &path, "-n", "golden:1", "--", "/bin/true"];
    server.says(&import);
    let before = server.store();
    let log = root.join("log");
    fs::write(&log, vec![7; 20 << 20]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut log = fs::File::options().append(true).open(log).unwrap();
            while !stop.load(Ordering::Relaxed) {
                log.write_all(b"line\n").unwrap();
            }
        }
    });
    let said = server.refuses(&import);
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    assert!(said.contains("log changed while it was read"), "{said}");
    assert_eq!(server.store(), before);
}

/// A `mksquashfs` that tells that it was started, and then does nothing. Its end shows at the pipe.
fn stuck_tool(dir: &Path) -> PathBuf {
    let pipe = dir.join("started");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let tool = dir.join("mksquashfs");
    let script =
        format!("#!/bin/sh\nexec 3>{}\necho started >&3\nexec sleep 1000\n", pipe.display());
    fs::write(&tool, script).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    pipe
}

#[test]
fn who_hangs_up_while_the_server_packs_has_called_the_import_off() {
    let tools = tempfile::tempdir().unwrap();
    let pipe = stuck_tool(tools.path());
    let server = Server::start(Some(tools.path()));
    let before = server.store();
    let root = server.root("root");
    let import = ["image", "import", root.to_str().unwrap(), "-n", "new:1", "--", "/bin/true"];
    let mut client = server.command(&import).stderr(Stdio::null()).spawn().unwrap();
    let mut started = BufReader::new(fs::File::open(&pipe).unwrap());
    let mut line = String::new();
    started.read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    client.kill().unwrap();
    client.wait().unwrap();
    // Comes to its end when the program has.
    started.read_to_end(&mut Vec::new()).unwrap();
    // The next import waits for nothing, and finds what the last one left removed.
    drop(server.says(&["image", "list"]));
    let gone = || server.store().1[0] == 0;
    let begun = std::time::Instant::now();
    while !gone() {
        assert!(begun.elapsed().as_secs() < 60, "{:?}", server.store());
    }
    assert_eq!(server.store(), before);
}

#[test]
fn an_upload_that_breaks_off_changes_nothing() {
    let server = Server::start(None);
    let before = server.store();
    let mut import = server.command(&["image", "import", "-", "-n", "new:1", "--", "/bin/true"]);
    let mut client = import.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // More than all buffers on the way hold, so that the server is reading when it breaks off.
    let mut header = vec![0; 512];
    header[..4].copy_from_slice(b"file");
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(b"00777777777");
    header[156] = b'0';
    header[257..264].copy_from_slice(b"ustar  ");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let stdin = client.stdin.as_mut().unwrap();
    stdin.write_all(&header).unwrap();
    for _ in 0..64 {
        stdin.write_all(&[7; 1 << 18]).unwrap();
    }
    client.kill().unwrap();
    client.wait().unwrap();
    let begun = std::time::Instant::now();
    while server.store().1[0] > 0 {
        assert!(begun.elapsed().as_secs() < 60, "{:?}", server.store());
    }
    assert_eq!(server.store(), before);
}
