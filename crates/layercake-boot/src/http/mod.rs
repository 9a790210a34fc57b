//! HTTP for machines that boot: kernel, initramfs, seed and script, each node its own.
//!
//! | path | for | while |
//! |---|---|---|
//! | `/boot/<node>/kernel`, `initramfs`, `seed`, `script.ipxe` | that node's address | armed |
//! | `/boot-program/<file>` | known machines | always |
//!
//! The router can be merged with others; whoever serves it must put the peer's
//! [`ConnectInfo<SocketAddr>`] into each request, as [`driver`] does.

mod body;
pub mod driver;
mod range;
mod watchdog;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use body::FileBody;
use bytes::Bytes;
pub use range::{Wanted, parse_range};
use tokio::sync::watch;

use crate::{
    dhcp::BootPrograms,
    events::{BootEvent, Reporter, Service},
    hosts::{BootPlan, Host, Hosts},
    script::Scripts,
};

/// What the routes serve from.
#[derive(Clone)]
pub struct HttpBoot {
    /// The machines.
    pub hosts: watch::Receiver<Arc<Hosts>>,
    /// Boot programs by name.
    pub programs: Arc<BootPrograms>,
    /// Renders scripts.
    pub scripts: Arc<Scripts>,
    /// Where events go.
    pub reporter: Reporter,
}

/// The routes of the boot service.
pub fn router(boot: HttpBoot) -> Router {
    Router::new()
        .route("/boot/{node}/{file}", get(boot_file))
        .route("/boot-program/{file}", get(boot_program))
        .with_state(boot)
}

/// A refusal: a status, and a sentence for whoever reads the machine's console.
struct Refusal(StatusCode, String);

async fn boot_file(
    State(boot): State<HttpBoot>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((node, file)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    boot.reporter.add(|c| &c.http_requests, 1);
    let found = boot.own_host(peer, &node).and_then(|host| boot.file_of(&host, &file));
    match found {
        Ok((bytes, event)) => boot.respond(&method, &headers, bytes, Some(event)),
        Err(refusal) => boot.refuse(peer, refusal),
    }
}

async fn boot_program(
    State(boot): State<HttpBoot>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    boot.reporter.add(|c| &c.http_requests, 1);
    let known = ipv4(peer).is_some_and(|ip| boot.hosts.borrow().by_address(ip).is_some());
    if !known {
        let reason = format!("{} is not a known machine", peer.ip());
        return boot.refuse(peer, Refusal(StatusCode::FORBIDDEN, reason));
    }
    match boot.programs.get(&file) {
        Some(program) => boot.respond(&method, &headers, program.bytes().clone(), None),
        None => {
            let reason = "there is no boot program of this name".to_owned();
            boot.refuse(peer, Refusal(StatusCode::NOT_FOUND, reason))
        }
    }
}

impl HttpBoot {
    /// The host of this name, if it is the one that asks.
    fn own_host(&self, peer: SocketAddr, node: &str) -> Result<Arc<Host>, Refusal> {
        let hosts = self.hosts.borrow().clone();
        // One answer for "not you" and "no such node": strangers learn no names.
        let host = hosts.by_node(node).filter(|host| ipv4(peer) == Some(host.address));
        host.cloned().ok_or_else(|| {
            let reason = format!(
                "{} is not the address of a node of this name; a machine gets only its own files",
                peer.ip()
            );
            Refusal(StatusCode::FORBIDDEN, reason)
        })
    }

    fn file_of(&self, host: &Host, file: &str) -> Result<(Bytes, BootEvent), Refusal> {
        let node = host.node.clone();
        let BootPlan::Armed { boot_id, kernel, initramfs, seed, .. } = &host.plan else {
            let reason = format!("{node} is not expected to boot now");
            return Err(Refusal(StatusCode::CONFLICT, reason));
        };
        let boot_id = boot_id.clone();
        match file {
            "kernel" => Ok((kernel.bytes().clone(), BootEvent::KernelServed { node, boot_id })),
            "initramfs" => {
                Ok((initramfs.bytes().clone(), BootEvent::InitramfsServed { node, boot_id }))
            }
            "seed" => Ok((seed.bytes().clone(), BootEvent::SeedServed { node, boot_id })),
            "script.ipxe" => match self.scripts.render(host) {
                Ok(script) => Ok((script.into(), BootEvent::ScriptServed { node, boot_id })),
                Err(error) => Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
            },
            _ => {
                let reason = "a node has kernel, initramfs, seed and script.ipxe".to_owned();
                Err(Refusal(StatusCode::NOT_FOUND, reason))
            }
        }
    }

    /// The file or a part of it. HEAD carries the same headers and tells nothing to the engine.
    fn respond(
        &self,
        method: &Method,
        headers: &HeaderMap,
        file: Bytes,
        event: Option<BootEvent>,
    ) -> Response {
        let len = file.len() as u64;
        let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        let (status, part) = match parse_range(range.filter(|_| method == Method::GET), len) {
            Wanted::All => (StatusCode::OK, 0..len),
            Wanted::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start..end),
            Wanted::Unsatisfiable => {
                let total = [(header::CONTENT_RANGE, format!("bytes */{len}"))];
                return (StatusCode::RANGE_NOT_SATISFIABLE, total).into_response();
            }
        };
        let mut response = if method == Method::HEAD {
            Response::new(Body::empty())
        } else {
            // A machine that resumes has everything once it has the end.
            let event = event.filter(|_| part.end == len);
            // Parts are within the file, whose length is a usize.
            let bytes = file.slice(part.start as usize..part.end as usize);
            Response::new(Body::new(FileBody::new(bytes, event, self.reporter.clone())))
        };
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
        fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let content = HeaderValue::from_static("application/octet-stream");
        fields.insert(header::CONTENT_TYPE, content);
        // A seed in a cache would be a token in a cache.
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {}-{}/{len}", part.start, part.end - 1);
            if let Ok(range) = HeaderValue::try_from(range) {
                fields.insert(header::CONTENT_RANGE, range);
            }
        }
        response
    }

    fn refuse(&self, peer: SocketAddr, Refusal(status, reason): Refusal) -> Response {
        let source = peer.ip().to_canonical();
        let event = BootEvent::Refused { service: Service::Http, source, reason: reason.clone() };
        self.reporter.report(Instant::now(), event);
        (status, format!("{reason}\n")).into_response()
    }
}

fn ipv4(peer: SocketAddr) -> Option<Ipv4Addr> {
    match peer.ip().to_canonical() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}
