//! Headers that must not pass from one connection to the next.

use hyper::header::{CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};

/// Removes the headers that are meant for one connection (RFC 9110, 7.6.1), and those that announce trailers.
pub(super) fn strip_hop_headers(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let named = ["keep-alive", "proxy-connection", "proxy-authorization"].map(HeaderName::from_static);
    for name in listed.iter().chain(&named).chain(&[CONNECTION, UPGRADE, TRANSFER_ENCODING, HOST, TE, TRAILER, EXPECT])
    {
        headers.remove(name);
    }
}
