//! `layercake console` and `layercake logs`.

use super::{Failure, next};
use crate::client::{Client, Pieces, quoted};
use crate::show;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::IsTerminal;
use tokio::io::AsyncReadExt;

/// Ends the attachment, as telnet has it: Ctrl-].
const ESCAPE: u8 = 0x1d;

pub(crate) async fn logs(client: &Client, node: &str, follow: bool) -> Result<(), Failure> {
    let path = format!("/v1/nodes/{}/logs?follow={follow}", quoted(node));
    print_stream(client, &path).await
}

pub(crate) async fn run(client: &Client, node: &str, log: bool) -> Result<(), Failure> {
    let path = format!("/v1/nodes/{}/console", quoted(node));
    if log {
        return print_stream(client, &format!("{path}?follow=false")).await;
    }
    // Whether there is a console the answer says, before anything is typed.
    let console = client.open(&format!("{path}?follow=true")).await?;
    show::note(&format!("attached to the console of {node}; Ctrl-] ends"));
    let _raw = RawTerminal::enter();
    tokio::select! {
        shown = print_all(console) => shown,
        typed = type_into(client, &path) => typed,
    }
}

/// Prints an answer that goes on, as it comes.
async fn print_stream(client: &Client, path: &str) -> Result<(), Failure> {
    print_all(client.open(path).await?).await
}

async fn print_all(mut pieces: Pieces) -> Result<(), Failure> {
    while let Some(piece) = next(&mut pieces).await? {
        show::bytes(&piece)?;
    }
    Ok(())
}

/// Sends what is typed, until Ctrl-] or the end of input.
async fn type_into(client: &Client, path: &str) -> Result<(), Failure> {
    let mut keys = [0; 256];
    loop {
        let length = tokio::io::stdin().read(&mut keys).await?;
        let typed = &keys[..length];
        let end = typed.iter().position(|key| *key == ESCAPE);
        let typed = &typed[..end.unwrap_or(length)];
        if !typed.is_empty() {
            client.post::<serde_json::Value>(path, typed.to_vec()).await?;
        }
        if end.is_some() || length == 0 {
            return Ok(());
        }
    }
}

/// A terminal that passes every key on as it is, until this is dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that has gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
