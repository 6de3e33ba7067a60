//! Waiting tokens of the gateway that Tidegate replaces: random UUIDs, which say nothing.
//!
//! Such a token names its ticket all the same: the ticket's id is made from the token. It begins
//! with the token's first bytes, because that gateway ranks tokens of the same second by their
//! bytes, and ends with a mark that tells which events such tokens may be found in. Between them lies
//! a keyed hash: whoever sees an id cannot make the token from it.

use super::ids::TicketId;

/// Bytes of the token that its ids begin with: 48 random bits, enough to order those who joined in
/// the same second as the other gateway did. The other 74 random bits stay unknown.
const ORDERED: usize = 6;
/// What the ids of legacy tickets end with. One other id in 65,536 does by chance, which costs its
/// event a look-up now and then.
const MARK: [u8; 2] = [0x1e, 0x9a];
/// Bytes between them.
const HASHED: usize = 16 - ORDERED - MARK.len();

/// A ticket that expired here while its owner still polled the other gateway may be moved over once
/// more, under another id, since the removal of the first one stands. So often in all.
pub const LIVES: usize = 3;

/// A waiting token of the other gateway: a UUID. Not for logs: it opens its owner's place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegacyToken([u8; 16]);

impl LegacyToken {
    /// How long its text is.
    pub const CHARS: usize = 36;

    /// The token in `text`: a UUID in the one form that gateway writes, small letters and hyphens.
    pub fn parse(text: &str) -> Option<Self> {
        let text: &[u8; Self::CHARS] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 16];
        let mut digits = 0;
        for (at, char) in text.iter().enumerate() {
            let digit = match char {
                b'-' if matches!(at, 8 | 13 | 18 | 23) => continue,
                _ if matches!(at, 8 | 13 | 18 | 23) => return None,
                b'0'..=b'9' => char - b'0',
                b'a'..=b'f' => char - b'a' + 10,
                _ => return None,
            };
            bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
            digits += 1;
        }
        Some(Self(bytes))
    }

    /// The token as bytes, which order as its text does.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Which of `partitions` slices of all tickets all its ids belong to.
    pub const fn partition(&self, partitions: u16) -> u16 {
        TicketId::from_bytes(self.0).partition(partitions)
    }

    /// The ids of its ticket's lives, given the token's keyed hash.
    pub(super) fn ids(&self, hash: &[u8; 32]) -> [TicketId; LIVES] {
        std::array::from_fn(|life| {
            let mut bytes = self.0;
            bytes[ORDERED..ORDERED + HASHED].copy_from_slice(&hash[life * HASHED..][..HASHED]);
            bytes[ORDERED + HASHED..].copy_from_slice(&MARK);
            TicketId::from_bytes(bytes)
        })
    }
}

impl std::fmt::Debug for LegacyToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LegacyToken(hidden)")
    }
}

impl TicketId {
    /// Whether it may be that of a ticket that was moved over from the other gateway.
    pub fn may_be_legacy(&self) -> bool {
        self.as_bytes().ends_with(&MARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::token::TicketKeys;

    const TEXT: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn keys(secret: u8) -> TicketKeys {
        TicketKeys::new("k1", &[("k1".to_owned(), [secret; 32])]).expect("good keys")
    }

    #[test]
    fn a_token_is_read_in_its_one_form() {
        let token = LegacyToken::parse(TEXT).expect("a UUID");
        assert_eq!(token.as_bytes()[..4], [0x0f, 0x8f, 0xad, 0x5b]);
        assert_eq!(token.as_bytes()[15], 0x0e);
        for other in [
            "",
            "0F8FAD5B-D9CB-469F-A165-70867728950E",
            "0f8fad5bd9cb469fa16570867728950e0000",
            "0f8fad5b-d9cb-469f-a165-70867728950",
            "0f8fad5b-d9cb-469f-a165-70867728950g",
            "0f8fad5b-d9cb-469f-a165-7086772895é",
            "0f8fad5b+d9cb+469f+a165+70867728950e",
        ] {
            assert_eq!(LegacyToken::parse(other), None, "{other}");
        }
    }

    #[test]
    fn ids_order_as_tokens_and_cannot_be_made_without_the_key() {
        let (keys, others) = (keys(1), keys(2));
        let token = LegacyToken::parse(TEXT).expect("a UUID");
        let next = LegacyToken::parse("0f8fad5b-d9cc-469f-a165-70867728950e").expect("a UUID");
        let ids = keys.legacy_ids(&token);
        assert!(ids.iter().all(TicketId::may_be_legacy));
        assert!(ids.iter().all(|id| id < &keys.legacy_ids(&next)[0]));
        assert!(ids.iter().all(|id| id.partition(16) == token.partition(16)));
        assert_ne!(ids[0], ids[1]);
        assert_ne!(ids[1], ids[2]);
        assert_ne!(ids, others.legacy_ids(&token));
        assert_eq!(ids, keys.legacy_ids(&token));
        assert!(!TicketId::from_bytes(*token.as_bytes()).may_be_legacy());
    }
}
