//! Who asks.

use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::request::Parts;
use axum::serve::IncomingStream;
use nix::unistd::{Uid, User};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};

/// Who is named when it cannot be known: on loopback every user of this machine may ask.
const AT_LOOPBACK: &str = "operator at loopback";

/// The user id that says that a process does not come from a login (audit(7)).
const NO_LOGIN: u32 = u32::MAX;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// A process, as the kernel knows it.
    Process {
        /// Whose it is.
        uid: u32,
        /// Its number, if it still has one.
        pid: Option<i32>,
    },
    /// Somebody on this machine.
    Somebody,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        match stream.io().peer_cred() {
            Ok(peer) => Self::Process { uid: peer.uid(), pid: peer.pid() },
            Err(_) => Self::Somebody,
        }
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Caller {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Self {
        Self::Somebody
    }
}

impl Caller {
    /// The name for the journal. May ask a directory of users on the network.
    fn name(self) -> String {
        let Self::Process { uid, pid } = self else { return AT_LOOPBACK.to_owned() };
        // The socket is root's, so whoever uses it is root by now. The kernel remembers as whom
        // they have logged in.
        let login =
            pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok());
        let login = login.and_then(|text| text.trim().parse().ok());
        match login.filter(|login: &u32| *login != NO_LOGIN && *login != uid) {
            Some(login) => format!("{} as {}", user(login), user(uid)),
            None => user(uid),
        }
    }
}

fn user(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

/// The name of whoever sent a request, for the journal.
#[derive(Clone, Debug)]
pub struct Who(pub Arc<str>);

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let caller = parts.extensions.get::<ConnectInfo<Caller>>();
        let caller = caller.map_or(Caller::Somebody, |ConnectInfo(caller)| *caller);
        let name = tokio::task::spawn_blocking(move || caller.name()).await;
        Ok(Self(name.unwrap_or_else(|_| AT_LOOPBACK.to_owned()).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::Caller;

    #[test]
    fn a_process_has_the_name_of_its_user_and_somebody_has_none() {
        assert_eq!(Caller::Process { uid: 0, pid: None }.name(), "root");
        let nobody = Caller::Process { uid: 3_999_999_999, pid: None };
        assert_eq!(nobody.name(), "uid 3999999999");
        assert_eq!(Caller::Somebody.name(), "operator at loopback");
    }
}
