//! The socket as hyper sees it: notes when a head begins, gathers answers, and puts the answers
//! that hyper makes by itself (to requests it cannot read) into our form.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusal::Unparsable;
use super::wire::{Phase, Wire};

pub(super) struct Io {
    read: Box<dyn AsyncRead + Send + Unpin>,
    wire: Arc<Wire>,
    /// Bytes that were read and put back.
    unread: Bytes,
    /// Whether the request line of the head that is coming in has ended.
    line_ended: bool,
    /// hyper refused a request; the connection ends.
    pub refused: bool,
}

impl Io {
    pub fn new(read: impl AsyncRead + Send + Unpin + 'static, wire: Arc<Wire>) -> Self {
        Self {
            read: Box::new(read),
            wire,
            unread: Bytes::new(),
            line_ended: true,
            refused: false,
        }
    }

    /// Reads what is next, without a note of it.
    pub fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.read).poll_read(cx, buf);
        }
        let n = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..n]);
        self.unread.advance(n);
        if self.unread.is_empty() {
            // What was read gives its memory back.
            self.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Makes bytes the next to be read.
    pub fn put_back(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.unread = match self.unread.is_empty() {
            true => bytes,
            false => [&*bytes, &*self.unread].concat().into(),
        };
    }

    /// Whether something was put back and not read again.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    fn note(&mut self, got: &[u8]) {
        match self.wire.phase() {
            Phase::Idle => {
                self.wire.enter(Phase::Head);
                self.line_ended = has_line_end(got);
            }
            Phase::Head => self.line_ended = self.line_ended || has_line_end(got),
            Phase::Request | Phase::Answer | Phase::Closing => {}
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.poll_bytes(cx, buf))?;
        let got = &buf.filled()[before..];
        if !got.is_empty() {
            self.note(got);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    /// Never waits; [`Io::poll_flush`] does when too much is unsent.
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match refusal_at_end(buf) {
            None => self.wire.push(buf),
            Some((at, status)) => {
                self.refused = true;
                self.wire.push(&buf[..at]);
                let why = match status {
                    431 if !self.line_ended => Unparsable::UrlTooLong,
                    431 => Unparsable::HeadTooLarge,
                    414 => Unparsable::UrlTooLong,
                    _ => Unparsable::Malformed,
                };
                self.wire.push(&why.answer());
            }
        }
        Poll::Ready(Ok(buf.len()))
    }

    /// Only keeps what is unsent bounded: the connection's task sends at the end of its turn.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_room(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_shutdown(cx)
    }
}

/// Whether a line ends in `got`. Nearly every head comes whole and ends with a line: one look.
fn has_line_end(got: &[u8]) -> bool {
    got.last() == Some(&b'\n') || got.contains(&b'\n')
}

/// Where a refusal made by hyper itself starts, and its status. hyper writes it last, with an empty
/// body and, unless the one before was HTTP/1.0, `connection: close`; none of our own answers of these
/// statuses is empty.
fn refusal_at_end(buf: &[u8]) -> Option<(usize, u16)> {
    if !buf.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = buf.windows(7).rposition(|w| w == b"HTTP/1.")?;
    let head = std::str::from_utf8(&buf[start..]).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let is_last = head.starts_with("HTTP/1.0 ") || head.contains("\r\nconnection: close\r\n");
    let empty = head.contains("\r\ncontent-length: 0\r\n");
    (matches!(status, 400 | 414 | 431) && empty && is_last).then_some((start, status))
}

#[cfg(test)]
mod tests {
    use super::refusal_at_end;

    #[test]
    fn only_refusals_that_hyper_makes_are_found() {
        let bare = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(refusal_at_end(bare), Some((0, 400)));
        let after = [
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".as_slice(),
            bare,
        ]
        .concat();
        assert_eq!(refusal_at_end(&after), Some((40, 400)));
        assert_eq!(refusal_at_end(&after[..40]), None);
        let old = b"HTTP/1.0 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(refusal_at_end(old), Some((0, 400)));
        let no_content = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        assert_eq!(refusal_at_end(no_content), None);
        let head = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 90\r\n\r\n";
        assert_eq!(refusal_at_end(head), None);
    }
}
