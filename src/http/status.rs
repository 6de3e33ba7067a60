//! `GET /api/v1/queue/status`: the product. No wait, no lock, no store.

use std::time::Duration;

use bytes::Bytes;

use super::head::Asked;
use super::refusal::Refusal;
use super::reply::Short;
use super::{Shared, token};
use crate::model::Micros;
use crate::room::answer::{Phase, Standing};

/// The answer to a poll: kept from the one before, or fresh in `text`.
pub(super) fn status(
    shared: &Shared,
    query: &str,
    headers: &(impl Asked + ?Sized),
    now: Micros,
    text: &mut Short,
) -> Result<Option<Bytes>, Refusal> {
    let token = token::of(shared, query, headers)?;
    let found = shared
        .room
        .look(now, &token)
        .map_err(|refusal| token::refused(shared, refusal))?;
    let standing = || shared.room.standing(now, &found);
    let Some(repeat) = found.repeat else {
        write(&standing(), text);
        return Ok(None);
    };
    let kept = shared
        .repeats
        .get(repeat, &shared.metrics, || body(&standing()));
    Ok(Some(kept))
}

/// The API's word for a phase.
pub(super) const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Entered => "ready",
    }
}

/// What the client is told as `eta_sec`: at least 1 while waiting, 0 when it is their turn.
pub(super) fn eta_sec(standing: &Standing) -> u64 {
    if standing.ready || standing.phase == Phase::Entered {
        0
    } else {
        standing.eta.likely.max(1)
    }
}

/// The answer to a poll, as JSON. One allocation.
pub fn body(standing: &Standing) -> Bytes {
    let mut text = Short::new();
    write(standing, &mut text);
    text.to_bytes()
}

fn write(standing: &Standing, json: &mut Short) {
    json.known(br#"{"status":""#)
        .raw(word(standing.phase))
        .known(br#"","position":"#)
        .number(standing.position)
        .known(br#","eta_sec":"#)
        .number(eta_sec(standing))
        .known(br#","waiting_time":"#)
        .number(standing.waited.as_secs())
        .known(br#","ready_for_entry":"#)
        .bool(standing.ready)
        .known(br#","poll_after_ms":"#)
        .number(millis(standing.poll_after))
        .known(br#","total_waiting":"#)
        .number(standing.total_waiting)
        .known(br#","eta_low_sec":"#)
        .number(standing.eta.low)
        .known(br#","eta_high_sec":"#)
        .number(standing.eta.high);
    if let Some(reason) = standing.reason {
        json.known(br#","reason":""#)
            .raw(reason.as_str())
            .known(b"\"");
    }
    if let Some(within) = standing.enter_within {
        json.known(br#","enter_within_sec":"#)
            .number(within.as_secs());
    }
    json.known(br#","degraded":"#)
        .bool(standing.degraded)
        .known(b"}");
}

/// Whole milliseconds, without the 128-bit arithmetic of `as_millis`.
fn millis(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000);
    whole.saturating_add(u64::from(duration.subsec_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::answer::{Eta, WaitReason};

    #[test]
    fn the_longest_answer_fits() {
        let longest = Standing {
            phase: Phase::Waiting,
            position: u64::MAX,
            total_waiting: u64::MAX,
            waited: Duration::MAX,
            eta: Eta {
                likely: u64::MAX,
                low: u64::MAX,
                high: u64::MAX,
            },
            ready: false,
            enter_within: Some(Duration::MAX),
            poll_after: Duration::MAX,
            reason: Some(WaitReason::ReturnedAhead),
            degraded: false,
        };
        assert!(body(&longest).ends_with(b"\"degraded\":false}"));
    }

    #[test]
    fn a_standing_reads_as_the_api_says() {
        let mut standing = Standing {
            phase: Phase::Waiting,
            position: 1234,
            total_waiting: 5678,
            waited: Duration::from_millis(12_900),
            eta: Eta {
                likely: 0,
                low: 0,
                high: 3,
            },
            ready: false,
            enter_within: None,
            poll_after: Duration::from_micros(2_500_900),
            reason: Some(WaitReason::Paused),
            degraded: true,
        };
        assert_eq!(
            body(&standing),
            r#"{"status":"waiting","position":1234,"eta_sec":1,"waiting_time":12,"ready_for_entry":false,"poll_after_ms":2500,"total_waiting":5678,"eta_low_sec":0,"eta_high_sec":3,"reason":"paused","degraded":true}"#
        );
        standing.ready = true;
        standing.position = 0;
        standing.reason = None;
        standing.degraded = false;
        standing.enter_within = Some(Duration::from_secs(99));
        assert_eq!(
            body(&standing),
            r#"{"status":"waiting","position":0,"eta_sec":0,"waiting_time":12,"ready_for_entry":true,"poll_after_ms":2500,"total_waiting":5678,"eta_low_sec":0,"eta_high_sec":3,"enter_within_sec":99,"degraded":false}"#
        );
    }
}
