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
    extract::{ConnectInfo, Path, RawQuery, State},
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
    firmwares::Firmwares,
    hosts::{BootPlan, Host, Hosts},
    script::Scripts,
};

/// What a file is, as far as machines care.
const OCTETS: &str = "application/octet-stream";
/// The type by which UEFI HTTP boot knows a program that it can start.
const EFI: &str = "application/efi";

/// A kind of bus, a vendor and a device, in hexadecimal digits; some more for other buses than PCI.
const MAX_BUS_ID_BYTES: usize = 32;

/// What the routes serve from.
#[derive(Clone)]
pub struct HttpBoot {
    /// The machines.
    pub hosts: watch::Receiver<Arc<Hosts>>,
    /// Boot programs by name.
    pub programs: Arc<BootPrograms>,
    /// Renders scripts.
    pub scripts: Arc<Scripts>,
    /// Which firmware each machine has.
    pub firmwares: Firmwares,
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

/// A refusal.
struct Refusal {
    status: StatusCode,
    /// A sentence for whoever reads the machine's console.
    reason: String,
    /// The host that cannot boot because of it, where it is that.
    stuck: Option<Arc<Host>>,
}

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), stuck: None }
    }

    fn stuck(status: StatusCode, host: &Arc<Host>, reason: String) -> Self {
        Self { status, reason, stuck: Some(host.clone()) }
    }
}

async fn boot_file(
    State(boot): State<HttpBoot>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((node, file)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response {
    boot.reporter.add(|c| &c.http_requests, 1);
    let found = boot.own_host(peer, &node).and_then(|host| boot.file_of(&host, &file));
    match found {
        Ok((bytes, event)) => {
            boot.note_card(&node, query.as_deref());
            boot.respond(&method, &headers, OCTETS, bytes, Some(event))
        }
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
    let content = if file.ends_with(".efi") { EFI } else { OCTETS };
    match boot.program_for(peer, &file) {
        Ok(program) => boot.respond(&method, &headers, content, program, None),
        // Newer builds of iPXE look for a file beside themselves that need not be there.
        Err(_) if crate::tftp::OPTIONAL.contains(&&*file) => StatusCode::NOT_FOUND.into_response(),
        Err(refusal) => boot.refuse(peer, refusal),
    }
}

impl HttpBoot {
    fn program_for(&self, peer: SocketAddr, file: &str) -> Result<Bytes, Refusal> {
        let hosts = self.hosts.borrow().clone();
        let Some(host) = ipv4(peer).and_then(|ip| hosts.by_address(ip)) else {
            let reason = format!("{} is not a known machine", peer.ip());
            return Err(Refusal::new(StatusCode::FORBIDDEN, reason));
        };
        let Some(program) = self.programs.get(file) else {
            let reason = "there is no boot program of this name";
            return Err(Refusal::new(StatusCode::NOT_FOUND, reason));
        };
        self.check_firmware(host)?;
        Ok(program.bytes().clone())
    }

    /// The script asks for the seed with `?card=`, and its own bus id behind that.
    fn note_card(&self, node: &str, query: Option<&str>) {
        let card = query.and_then(|query| query.strip_prefix("card="));
        if let Some(bus_id) = card.filter(|id| (1..=MAX_BUS_ID_BYTES).contains(&id.len())) {
            let event = BootEvent::CardSeen { node: node.into(), bus_id: bus_id.into() };
            self.reporter.report(Instant::now(), event);
        }
    }

    fn check_firmware(&self, host: &Arc<Host>) -> Result<(), Refusal> {
        let checked = self.firmwares.check(host);
        checked.map_err(|reason| Refusal::stuck(StatusCode::CONFLICT, host, reason))
    }

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
            Refusal::new(StatusCode::FORBIDDEN, reason)
        })
    }

    fn file_of(&self, host: &Arc<Host>, file: &str) -> Result<(Bytes, BootEvent), Refusal> {
        let node = host.node.clone();
        let BootPlan::Armed { boot_id, kernel, initramfs, seed, .. } = &host.plan else {
            let reason = format!("{node} is not expected to boot now");
            return Err(Refusal::new(StatusCode::CONFLICT, reason));
        };
        self.check_firmware(host)?;
        let boot_id = boot_id.clone();
        match file {
            "kernel" => Ok((kernel.bytes().clone(), BootEvent::KernelServed { node, boot_id })),
            "initramfs" => {
                Ok((initramfs.bytes().clone(), BootEvent::InitramfsServed { node, boot_id }))
            }
            "seed" => Ok((seed.bytes().clone(), BootEvent::SeedServed { node, boot_id })),
            "script.ipxe" => match self.scripts.render(host) {
                Ok(script) => Ok((script.into(), BootEvent::ScriptServed { node, boot_id })),
                Err(error) => {
                    let status = StatusCode::INTERNAL_SERVER_ERROR;
                    Err(Refusal::stuck(status, host, error.to_string()))
                }
            },
            _ => {
                let reason = "a node has kernel, initramfs, seed and script.ipxe";
                Err(Refusal::new(StatusCode::NOT_FOUND, reason))
            }
        }
    }

    /// The file or a part of it. HEAD carries the same headers and tells nothing to the engine.
    fn respond(
        &self,
        method: &Method,
        headers: &HeaderMap,
        content: &'static str,
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
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
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

    fn refuse(&self, peer: SocketAddr, refusal: Refusal) -> Response {
        let Refusal { status, reason, stuck } = refusal;
        let (service, node) = (Service::Http, stuck.map(|host| host.node.clone()));
        let source = peer.ip().to_canonical();
        let event = BootEvent::Refused { service, node, source, reason: reason.clone() };
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
