//! The `Date` of answers that hyper does not write.

use std::cell::Cell;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::model::Micros;

/// A moment as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) type Text = [u8; 29];

const EPOCH: Text = *b"Thu, 01 Jan 1970 00:00:00 GMT";

thread_local! {
    /// The second that was written last, and its text.
    static LAST: Cell<(u64, Text)> = const { Cell::new((0, EPOCH)) };
}

/// The second of `now`, written once a second on each thread.
pub(super) fn text(now: Micros) -> Text {
    let second = now.0 / 1_000_000;
    let (last, text) = LAST.get();
    if last == second {
        return text;
    }
    let text = written(second).unwrap_or(EPOCH);
    LAST.set((second, text));
    text
}

fn written(second: u64) -> Option<Text> {
    let at = Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
    let text = DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&at)
        .ok()?;
    text.as_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_http_says() {
        let at = |second: u64| text(Micros(second * 1_000_000 + 999_999));
        assert_eq!(at(784_111_777), *b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(0), EPOCH);
        assert_eq!(text(Micros(u64::MAX)), EPOCH, "no year has so many digits");
        assert_eq!(at(1_795_000_000), at(1_795_000_000));
    }
}
