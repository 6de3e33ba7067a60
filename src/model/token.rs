//! The waiting token: a visitor's place, signed, so that any node believes it.
//!
//! Layout before base64url without padding (all numbers big-endian):
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 4 | key: the first bytes of the hash of the key's name |
//! | 2 | node that issued it |
//! | 4 | that node's epoch |
//! | 8 | arrival, microseconds |
//! | 16 | ticket id |
//! | 4 | the place told at the join, 0 for ready, all ones for none |
//! | 4 | where the process that issued it keeps the ticket |
//! | 1–64 | event id |
//! | 16 | MAC: keyed BLAKE3 over all of the above, first 128 bits |

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use super::ids::{EVENT_ID_BYTES_MAX, EventId, NodeId, TicketId};
use super::legacy::{LIVES, LegacyToken};
use super::ticket::Micros;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 4 + 2 + 4 + 8 + 16 + 4 + 4;
/// No place was told.
const UNTOLD: u32 = u32::MAX;
const MAC: usize = 16;
const BYTES_MAX: usize = HEAD + EVENT_ID_BYTES_MAX + MAC;
/// The longest token, in characters.
pub const TOKEN_CHARS_MAX: usize = BYTES_MAX.div_ceil(3) * 4;

/// What a token says, once believed. Borrows the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims<'a> {
    /// The event's name.
    pub event: &'a str,
    /// The ticket.
    pub id: TicketId,
    /// Where the process that issued it keeps the ticket: a hint that saves it a look-up.
    pub slot: u32,
    /// When it joined.
    pub arrival: Micros,
    /// The node that issued the token.
    pub node: NodeId,
    /// Which life of that node: the second it started.
    pub epoch: u32,
    /// The place told at the join, if one was; 0 when the ticket was ready at once.
    pub told: Option<u32>,
}

/// Room for a decoded token, on the caller's stack.
pub type TokenBuffer = [u8; BYTES_MAX];

/// An empty buffer for [`TicketKeys::verify`].
pub const fn buffer() -> TokenBuffer {
    [0; BYTES_MAX]
}

/// What a token says of the key that signed it: the first bytes of the hash of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMark([u8; 4]);

impl KeyMark {
    /// The mark of a key of this name.
    pub fn of(name: &str) -> Self {
        let hash = blake3::hash(name.as_bytes());
        let bytes = hash.as_bytes();
        Self([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// What a token says, believed or not; `None` if it is none of ours.
    pub fn in_token(token: &str) -> Option<Self> {
        let head = URL_SAFE_NO_PAD.decode(token.get(..8)?).ok()?;
        Some(Self(head.get(1..5)?.try_into().ok()?))
    }
}

/// One named secret.
#[derive(Clone)]
struct TicketKey {
    mark: KeyMark,
    mac: [u8; 32],
}

/// The secrets behind waiting tokens and ticket ids. Several may verify, one signs: rotation is
/// adding a key everywhere, then making it the active one, then dropping the old one after
/// `ticket_ttl`.
#[derive(Clone)]
pub struct TicketKeys {
    /// The signing key is first.
    keys: Vec<TicketKey>,
    id_key: [u8; 32],
}

/// Two key names that cannot be told apart in a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The active name is not among the keys.
    #[error("the active key {0:?} is not among the ticket keys")]
    NoActive(String),
    /// Their marks collide: rename one.
    #[error("the ticket keys {0:?} and {1:?} cannot be told apart in a token; rename one")]
    Alike(String, String),
}

impl TicketKeys {
    /// Keys by name, of which `active` signs.
    ///
    /// # Errors
    /// `active` is not among them, or two names collide.
    pub fn new(active: &str, keys: &[(String, [u8; 32])]) -> Result<Self, KeyError> {
        for (n, (one, _)) in keys.iter().enumerate() {
            if let Some((other, _)) = keys[..n]
                .iter()
                .find(|(other, _)| KeyMark::of(other) == KeyMark::of(one))
            {
                return Err(KeyError::Alike(other.clone(), one.clone()));
            }
        }
        let Some(first) = keys.iter().position(|(name, _)| name == active) else {
            return Err(KeyError::NoActive(active.to_owned()));
        };
        // Ids must not change when the signing key does, or a retried join across a rotation would
        // get a second place: they hang on the key whose name sorts first, which is the oldest.
        let oldest = keys
            .iter()
            .min_by(|a, b| a.0.cmp(&b.0))
            .map_or([0; 32], |(_, key)| *key);
        let derive = |name: &str, secret: &[u8; 32]| TicketKey {
            mark: KeyMark::of(name),
            mac: blake3::derive_key("tidegate 1 waiting token", secret),
        };
        let mut derived: Vec<_> = keys.iter().map(|(name, key)| derive(name, key)).collect();
        derived.swap(0, first);
        let id_key = blake3::derive_key("tidegate 1 ticket id", &oldest);
        Ok(Self {
            keys: derived,
            id_key,
        })
    }

    /// The signed text for a ticket.
    pub fn sign(&self, claims: &Claims<'_>) -> String {
        let mut bytes = buffer();
        let key = &self.keys[0];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&key.mark.0);
        bytes[5..7].copy_from_slice(&claims.node.0.to_be_bytes());
        bytes[7..11].copy_from_slice(&claims.epoch.to_be_bytes());
        bytes[11..19].copy_from_slice(&claims.arrival.0.to_be_bytes());
        bytes[19..35].copy_from_slice(claims.id.as_bytes());
        bytes[35..39].copy_from_slice(&claims.told.unwrap_or(UNTOLD).to_be_bytes());
        bytes[39..43].copy_from_slice(&claims.slot.to_be_bytes());
        let end = HEAD + claims.event.len();
        bytes[HEAD..end].copy_from_slice(claims.event.as_bytes());
        let mac = blake3::keyed_hash(&key.mac, &bytes[..end]);
        bytes[end..end + MAC].copy_from_slice(&mac.as_bytes()[..MAC]);
        URL_SAFE_NO_PAD.encode(&bytes[..end + MAC])
    }

    /// What `token` says, if one of the keys signed it. No allocation; the MAC is compared in
    /// constant time. `None` says nothing about why.
    pub fn verify<'a>(&self, token: &str, buffer: &'a mut TokenBuffer) -> Option<Claims<'a>> {
        if token.len() > TOKEN_CHARS_MAX {
            return None;
        }
        let length = URL_SAFE_NO_PAD.decode_slice(token, buffer).ok()?;
        let bytes: &'a [u8] = buffer.get(..length)?;
        if length <= HEAD + MAC || bytes[0] != VERSION {
            return None;
        }
        let (body, mac) = bytes.split_at(length - MAC);
        let key = self.keys.iter().find(|key| key.mark.0 == body[1..5])?;
        let wanted = blake3::keyed_hash(&key.mac, body);
        // As numbers: one comparison, where slices are compared byte by byte.
        let number = |mac: &[u8]| Some(u128::from_ne_bytes(mac.get(..MAC)?.try_into().ok()?));
        if !bool::from(number(wanted.as_bytes())?.ct_eq(&number(mac)?)) {
            return None;
        }
        let told = u32::from_be_bytes(body[35..39].try_into().ok()?);
        Some(Claims {
            event: std::str::from_utf8(&body[HEAD..]).ok()?,
            told: Some(told).filter(|told| *told != UNTOLD),
            id: TicketId::from_bytes(body[19..35].try_into().ok()?),
            slot: u32::from_be_bytes(body[39..43].try_into().ok()?),
            arrival: Micros(u64::from_be_bytes(body[11..19].try_into().ok()?)),
            node: NodeId(u16::from_be_bytes([body[5], body[6]])),
            epoch: u32::from_be_bytes([body[7], body[8], body[9], body[10]]),
        })
    }

    /// The id for a join with an idempotency key: 12 bytes name (event, key), so that a replay finds
    /// its ticket on any node; 4 bytes name the rest of the body, so that the same key with another
    /// body is noticed without remembering bodies.
    pub fn keyed_id(&self, event: &EventId, key: &str, user: Option<&str>) -> TicketId {
        let mut named = blake3::Hasher::new_keyed(&self.id_key);
        named
            .update(&[event.as_str().len() as u8])
            .update(event.as_str().as_bytes());
        named.update(key.as_bytes());
        let mut body = blake3::Hasher::new_keyed(&self.id_key);
        body.update(&[u8::from(user.is_some())])
            .update(user.unwrap_or_default().as_bytes());
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&named.finalize().as_bytes()[..12]);
        bytes[12..].copy_from_slice(&body.finalize().as_bytes()[..4]);
        TicketId::from_bytes(bytes)
    }

    /// The ids that a legacy token's ticket has or may have had, one a life. One hash.
    pub fn legacy_ids(&self, token: &LegacyToken) -> [TicketId; LIVES] {
        // No event's name is as long as its first letter says, so no keyed id is made of the same.
        let mut hash = blake3::Hasher::new_keyed(&self.id_key);
        hash.update(b"legacy").update(token.as_bytes());
        token.ids(hash.finalize().as_bytes())
    }

    /// A ticket's number in an event's draw, even over all 64-bit numbers.
    pub fn draw(&self, event: &EventId, id: &TicketId) -> u64 {
        let mut hash = blake3::Hasher::new_keyed(&self.id_key);
        hash.update(b"draw")
            .update(id.as_bytes())
            .update(event.as_str().as_bytes());
        number(&hash.finalize().as_bytes()[..8])
    }

    /// A 64-bit name for an idempotency key and one for the whole body, for a window of recent keys.
    pub fn key_and_body(&self, event: &EventId, key: &str, user: Option<&str>) -> (u64, u32) {
        let hash = blake3::keyed_hash(&self.id_key, key.as_bytes());
        let mut body = blake3::Hasher::new_keyed(&self.id_key);
        body.update(event.as_str().as_bytes())
            .update(&[0, u8::from(user.is_some())]);
        body.update(user.unwrap_or_default().as_bytes());
        let body = body.finalize();
        (
            number(&hash.as_bytes()[..8]),
            number(&body.as_bytes()[..4]) as u32,
        )
    }
}

/// Up to 8 bytes as a big-endian number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketKeys({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(active: &str, names: &[&str]) -> TicketKeys {
        let named: Vec<_> = names
            .iter()
            .map(|name| ((*name).to_owned(), [name.as_bytes()[1]; 32]))
            .collect();
        TicketKeys::new(active, &named).expect("good keys")
    }

    fn claims(event: &str) -> Claims<'_> {
        Claims {
            event,
            id: TicketId::from_u128(7),
            slot: 9,
            arrival: Micros(1_800_000_000_000_000),
            node: NodeId(3),
            epoch: 1_700_000_000,
            told: Some(77),
        }
    }

    #[test]
    fn a_token_says_what_was_signed() {
        let keys = keys("k1", &["k1"]);
        for event in ["e", "evt_2026_finale", &"x".repeat(64)] {
            let token = keys.sign(&claims(event));
            assert!(token.len() <= TOKEN_CHARS_MAX);
            assert_eq!(keys.verify(&token, &mut buffer()), Some(claims(event)));
            assert_eq!(KeyMark::in_token(&token), Some(KeyMark::of("k1")));
        }
    }

    #[test]
    fn rotation_overlaps() {
        let old = keys("k1", &["k1"]);
        let both = keys("k2", &["k1", "k2"]);
        let new = keys("k2", &["k2"]);
        let token = old.sign(&claims("e"));
        assert!(both.verify(&token, &mut buffer()).is_some());
        assert!(new.verify(&token, &mut buffer()).is_none());
        let token = both.sign(&claims("e"));
        assert!(old.verify(&token, &mut buffer()).is_none());
        assert!(new.verify(&token, &mut buffer()).is_some());
        let event = EventId::new("e").expect("a fine id");
        assert_eq!(
            old.keyed_id(&event, "key", None),
            both.keyed_id(&event, "key", None)
        );
    }

    #[test]
    fn a_key_names_the_ticket_and_a_body_its_tail() {
        let keys = keys("k1", &["k1"]);
        let event = EventId::new("e").expect("a fine id");
        let plain = keys.keyed_id(&event, "key", None);
        let named = keys.keyed_id(&event, "key", Some("ann"));
        assert_eq!(plain.as_bytes()[..12], named.as_bytes()[..12]);
        assert_ne!(plain, named);
        let other = keys.keyed_id(&EventId::new("f").expect("a fine id"), "key", None);
        assert_ne!(plain.as_bytes()[..12], other.as_bytes()[..12]);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in 0usize..(8 * (HEAD + 5 + MAC))) {
            let keys = keys("k1", &["k1"]);
            let token = keys.sign(&claims("evt_1"));
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).expect("our own");
            bytes[bit / 8] ^= 1 << (bit % 8);
            let forged = URL_SAFE_NO_PAD.encode(bytes);
            prop_assert!(keys.verify(&forged, &mut buffer()).is_none());
        }

        #[test]
        fn any_text_is_refused_quietly(text in ".{0,300}") {
            prop_assert!(keys("k1", &["k1"]).verify(&text, &mut buffer()).is_none());
        }
    }
}
