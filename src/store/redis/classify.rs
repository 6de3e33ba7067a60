//! What may be done about each error of Redis: one table.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::{Retry, StoreError};

/// The error as the store's, with its class.
pub(super) fn classified(during: &'static str, error: RedisError) -> StoreError {
    StoreError::new(during, class(&error), error)
}

/// What may be done.
fn class(error: &RedisError) -> Retry {
    match error.kind() {
        ErrorKind::Server(kind) => match kind {
            // Not applied: the server at hand is not (or no longer) the one to ask. The client
            // renews its map of slots.
            ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::MasterDown => Retry::Elsewhere,
            // Not applied: a moment of starting, of moving slots, of electing.
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::NoScript => Retry::Again,
            // Ours to mend, or an operator's.
            ServerErrorKind::CrossSlot
            | ServerErrorKind::NoPerm
            | ServerErrorKind::NoSub
            | ServerErrorKind::NotBusy => Retry::Never,
            // Of a transaction only the whole is known to have failed, not why.
            ServerErrorKind::ExecAbort => Retry::Elsewhere,
            ServerErrorKind::ResponseError => plain(error.detail().unwrap_or_default()),
            _ => Retry::Never,
        },
        ErrorKind::Extension => code(error.code().unwrap_or_default()),
        // Refused: it was never sent.
        ErrorKind::Io if error.is_connection_refusal() => Retry::Again,
        // Broken off or too slow: it may have been applied.
        ErrorKind::Io => Retry::Unknown,
        ErrorKind::ClusterConnectionNotFound => Retry::Again,
        _ => Retry::Never,
    }
}

/// Errors by code that the client has no name for.
fn code(code: &str) -> Retry {
    match code {
        // A script runs too long; memory is full; replicas are too few: all may pass.
        "BUSY" | "OOM" | "NOREPLICAS" | "UNBLOCKED" => Retry::Again,
        // `NOAUTH`, `WRONGPASS`, `WRONGTYPE`, `MISCONF` and whatever comes next.
        _ => Retry::Never,
    }
}

/// Errors inside a script come as plain ones that carry the inner code.
fn plain(detail: &str) -> Retry {
    let has = |word: &str| detail.contains(word);
    if has("OOM ") || has("-BUSY") || has("max number of clients") {
        Retry::Again
    } else if has("READONLY") || has("MASTERDOWN") {
        Retry::Elsewhere
    } else {
        Retry::Never
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// An answer of the server, read as the client reads it.
    fn answered(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn every_known_error_has_its_class() {
        for (line, expected) in [
            (
                "READONLY You can't write against a read only replica.",
                Retry::Elsewhere,
            ),
            ("MASTERDOWN Link with MASTER is down", Retry::Elsewhere),
            ("MOVED 3999 127.0.0.1:6381", Retry::Elsewhere),
            ("ASK 3999 127.0.0.1:6381", Retry::Elsewhere),
            ("EXECABORT Transaction discarded", Retry::Elsewhere),
            (
                "LOADING Redis is loading the dataset in memory",
                Retry::Again,
            ),
            ("CLUSTERDOWN The cluster is down", Retry::Again),
            (
                "TRYAGAIN Multiple keys request during rehashing",
                Retry::Again,
            ),
            ("NOSCRIPT No matching script", Retry::Again),
            (
                "OOM command not allowed when used memory > 'maxmemory'",
                Retry::Again,
            ),
            ("BUSY Redis is busy running a script", Retry::Again),
            ("NOREPLICAS Not enough good replicas to write", Retry::Again),
            ("ERR max number of clients reached", Retry::Again),
            ("NOAUTH Authentication required.", Retry::Never),
            ("WRONGPASS invalid username-password pair", Retry::Never),
            ("NOPERM this user has no permissions", Retry::Never),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                Retry::Never,
            ),
            ("WRONGTYPE Operation against a key", Retry::Never),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Retry::Never,
            ),
            ("ERR unknown command", Retry::Never),
        ] {
            assert_eq!(class(&answered(line)), expected, "{line}");
        }
        for (kind, expected) in [
            (io::ErrorKind::ConnectionRefused, Retry::Again),
            (io::ErrorKind::BrokenPipe, Retry::Unknown),
            (io::ErrorKind::ConnectionReset, Retry::Unknown),
            (io::ErrorKind::UnexpectedEof, Retry::Unknown),
            (io::ErrorKind::TimedOut, Retry::Unknown),
        ] {
            assert_eq!(class(&io::Error::from(kind).into()), expected, "{kind}");
        }
        let client = |kind| RedisError::from((kind, "of the client"));
        let none = client(ErrorKind::ClusterConnectionNotFound);
        assert_eq!(class(&none), Retry::Again);
        assert_eq!(class(&client(ErrorKind::InvalidClientConfig)), Retry::Never);
        assert_eq!(
            class(&client(ErrorKind::AuthenticationFailed)),
            Retry::Never
        );
    }
}
