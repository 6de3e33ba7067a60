//! What a plain poll is: a whole head that asks for a ticket's status and leaves nothing open, parsed
//! by hyper's own parser. All else is hyper's.

use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};

use super::route::STATUS;

/// A plain poll has no more headers.
const HEADERS_MAX: usize = 64;

/// Room for the headers of a poll, on the caller's stack.
pub(super) type Room<'b> = [MaybeUninit<Header<'b>>; HEADERS_MAX];

/// Empty room.
pub(super) const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; HEADERS_MAX]
}

/// A plain poll.
#[derive(Debug)]
pub(super) struct Plain<'h, 'b> {
    pub query: &'b str,
    pub headers: &'h [Header<'b>],
    /// Bytes of the path with its query.
    pub url_bytes: usize,
    /// Bytes of the whole.
    pub bytes: usize,
}

/// The plain poll that `bytes` begin with, if they do. Of more than `headers_max` headers none is
/// plain.
pub(super) fn parse<'h, 'b>(
    bytes: &'b [u8],
    headers_max: usize,
    room: &'h mut Room<'b>,
) -> Option<Plain<'h, 'b>> {
    bytes
        .strip_prefix(b"GET ")?
        .strip_prefix(STATUS.as_bytes())?;
    let mut request = Request::new(&mut []);
    let room = &mut room[..headers_max.min(HEADERS_MAX)];
    let Ok(Status::Complete(length)) = request.parse_with_uninit_headers(bytes, room) else {
        return None;
    };
    let path = request.path?;
    let query = match path.strip_prefix(STATUS)? {
        "" => "",
        rest => rest.strip_prefix('?')?,
    };
    let is_plain = request.version == Some(1)
        && is_plain_query(query)
        && request.headers.iter().all(|header| !leaves_open(header));
    is_plain.then_some(Plain {
        query,
        headers: request.headers,
        url_bytes: path.len(),
        bytes: length,
    })
}

/// Less than a URI may have, and more than any token has. Without a branch a byte, so that sixteen
/// are looked at together.
fn is_plain_query(query: &str) -> bool {
    let plain = |b: u8| (b'$'..=b'z').contains(&b) & (b != b'<') & (b != b'>');
    query.bytes().fold(true, |all, b| all & plain(b))
}

/// Whether a header makes something follow the head, or the connection something else than it is.
fn leaves_open(header: &Header<'_>) -> bool {
    let is = |name: &str| header.name.eq_ignore_ascii_case(name);
    match header.name.len() {
        6 => is("expect"),
        7 => is("upgrade"),
        10 => is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive"),
        14 => is("content-length"),
        17 => is("transfer-encoding"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(head: &str) -> Option<usize> {
        parse(head.as_bytes(), 100, &mut room()).map(|plain| plain.bytes)
    }

    #[test]
    fn only_whole_heads_with_nothing_open_are_plain() {
        let plain = [
            "GET /api/v1/queue/status HTTP/1.1\r\n\r\n",
            "GET /api/v1/queue/status?token=a.b_-%41&x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /api/v1/queue/status?token=a HTTP/1.1\r\nConnection: Keep-Alive\r\n\r\n",
            "GET /api/v1/queue/status?token=a HTTP/1.1\r\nexpects: 1\r\nx-upgrade: 1\r\n\r\n",
        ];
        for head in plain {
            assert_eq!(bytes_of(head), Some(head.len()), "{head}");
            assert_eq!(bytes_of(&format!("{head}GET ")), Some(head.len()), "{head}");
            for end in 0..head.len() {
                assert_eq!(bytes_of(&head[..end]), None, "{}", &head[..end]);
            }
        }
        for line in [
            "\r\nGET /api/v1/queue/status HTTP/1.1",
            "HEAD /api/v1/queue/status HTTP/1.1",
            "GET  /api/v1/queue/status HTTP/1.1",
            "GET /api/v1/queue/status HTTP/1.0",
            "GET /api/v1/queue/status/ HTTP/1.1",
            "GET /api/v1/queue/status#a HTTP/1.1",
            "GET /api/v1/queue/status?a#b HTTP/1.1",
            "GET /api/v1/queue/status?a<b HTTP/1.1",
            "GET /api/v1/queue/status?a\u{e4} HTTP/1.1",
            "GET /api/v1/queue/status HTTP/1.1\r\nContent-Length: 0",
            "GET /api/v1/queue/status HTTP/1.1\r\ntransfer-encoding: chunked",
            "GET /api/v1/queue/status HTTP/1.1\r\nEXPECT: 100-continue",
            "GET /api/v1/queue/status HTTP/1.1\r\nUpgrade: h2c",
            "GET /api/v1/queue/status HTTP/1.1\r\nconnection: close",
            "GET /api/v1/queue/status HTTP/1.1\r\nconnection: keep-alive, te",
            "GET /api/v1/queue/status HTTP/1.1\r\na b: c",
        ] {
            assert_eq!(bytes_of(&format!("{line}\r\n\r\n")), None, "{line}");
        }
    }

    #[test]
    fn a_poll_with_many_headers_is_not_plain() {
        let head = |headers: usize| {
            let lines = "x: y\r\n".repeat(headers);
            format!("GET /api/v1/queue/status HTTP/1.1\r\n{lines}\r\n")
        };
        let is_plain = |headers, max| parse(head(headers).as_bytes(), max, &mut room()).is_some();
        assert!(is_plain(64, 100) && !is_plain(65, 100));
        assert!(is_plain(3, 3) && !is_plain(4, 3));
    }
}
