//! Waiting tokens and passes: whatever is not exactly what was signed is refused, and what is
//! believed says exactly what was signed.

use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use tidegate::model::pass::PassKeys;
use tidegate::model::token::{Claims, TOKEN_CHARS_MAX, TicketKeys, buffer};
use tidegate::model::{EventId, Micros, NodeId, TicketId};

/// The same secrets, signed with by either.
static KEYS: LazyLock<[TicketKeys; 2]> = LazyLock::new(|| {
    let secrets = [("k1".to_owned(), [7; 32]), ("k2".to_owned(), [8; 32])];
    ["k1", "k2"].map(|active| TicketKeys::new(active, &secrets).unwrap())
});

static PASSES: LazyLock<(PassKeys, String)> = LazyLock::new(|| {
    let keys = PassKeys::new("k1", &[("k1".to_owned(), [9; 32])]).unwrap();
    let event = EventId::new("sale").unwrap();
    let held = (Micros(1 << 50), Micros((1 << 50) + 30_000_000));
    let pass = keys.sign(&event, TicketId::from_u128(5), None, held);
    (keys, pass.unwrap())
});

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The first byte says what the others are: a token, a ticket to sign and bend, a pass, or how to
/// bend one.
pub fn run(bytes: &[u8]) {
    let Some((&what, rest)) = bytes.split_first() else {
        return;
    };
    let text = std::str::from_utf8(rest).unwrap_or_default();
    let mut decisions = Unstructured::new(rest);
    let (keys, pass) = &*PASSES;
    match what % 4 {
        0 => believed(text),
        1 => drop(signed(&mut decisions)),
        2 => assert_eq!(keys.verify(text), None, "nobody signed this"),
        _ => {
            let forged = bent(&mut decisions, pass).unwrap_or_default();
            assert!(forged == *pass || keys.verify(&forged).is_none());
        }
    }
}

/// Nobody can guess a MAC, so a text out of nowhere is believed only if it was signed after all.
fn believed(token: &str) {
    for keys in &*KEYS {
        let mut space = buffer();
        if let Some(claims) = keys.verify(token, &mut space) {
            assert!(KEYS.iter().any(|keys| keys.sign(&claims) == token));
        }
    }
}

/// What was signed comes back, from either's signature; what was changed since does not.
fn signed(bytes: &mut Unstructured<'_>) -> Result<()> {
    let event: &str = bytes.arbitrary()?;
    if event.is_empty() || event.len() > 64 {
        return Ok(());
    }
    let claims = Claims {
        event,
        id: TicketId::from_u128(bytes.arbitrary()?),
        slot: bytes.arbitrary()?,
        arrival: Micros(bytes.arbitrary()?),
        node: NodeId(bytes.arbitrary()?),
        epoch: bytes.arbitrary()?,
        told: bytes
            .arbitrary::<Option<u32>>()?
            .filter(|told| *told != u32::MAX),
    };
    let [one, two] = &*KEYS;
    let token = one.sign(&claims);
    assert!(token.len() <= TOKEN_CHARS_MAX);
    assert_eq!(two.verify(&token, &mut buffer()), Some(claims));
    let forged = bent(bytes, &token)?;
    assert!(forged == token || one.verify(&forged, &mut buffer()).is_none());
    Ok(())
}

/// `text` with some characters changed, and maybe cut or lengthened.
fn bent(bytes: &mut Unstructured<'_>, text: &str) -> Result<String> {
    let mut text = text.to_owned().into_bytes();
    for _ in 0..bytes.int_in_range(1..=3)? {
        let at = bytes.choose_index(text.len())?;
        text[at] = *bytes.choose(ALPHABET)?;
    }
    match bytes.arbitrary::<u8>().unwrap_or_default() {
        1 => text.truncate(bytes.choose_index(text.len())?),
        2 => text.push(*bytes.choose(ALPHABET)?),
        _ => {}
    }
    Ok(String::from_utf8(text).unwrap_or_default())
}
