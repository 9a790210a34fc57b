//! Keeps the API for people on this machine: until there is sign-in, no web page may reach it.

use super::Problem;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Refuses what comes by way of a browser: requests with an `Origin`, and requests under a name
/// that is not this machine's own (DNS rebinding).
pub(super) async fn only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(|h| h.to_str().unwrap_or("?"));
    let local = host.is_none_or(is_local);
    if local && !request.headers().contains_key(header::ORIGIN) {
        return next.run(request).await;
    }
    let detail = "the API answers on this machine only, and to no web page: \
                  use the layercake command, or curl without an Origin header";
    Problem::new(StatusCode::FORBIDDEN, "refused", detail).into_response()
}

/// Whether a host (RFC 3986 §3.2.2, with or without a port) is a name of this machine. Letter case
/// does not count, nor does the dot at the end of a complete name (RFC 1034 §3.1).
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    matches!(name.as_str(), "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for good in [
            "localhost",
            "127.0.0.1:8470",
            "[::1]",
            "[::1]:80",
            "LOCALHOST",
            "LocalHost:8470",
            "localhost.",
            "localhost.:8470",
            "localhost:",
        ] {
            assert!(is_local(good), "{good}");
        }
        for bad in [
            "example.org",
            "localhost.example.org:80",
            "10.77.0.1",
            "::2",
            "",
            ".",
            "localhost..",
            "localhost:80:80",
            "localhost:http",
            "xlocalhost",
        ] {
            assert!(!is_local(bad), "{bad}");
        }
    }
}
