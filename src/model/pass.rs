//! The pass: what a visitor gets by entering, a JWT signed with Ed25519 that the site verifies by
//! itself with the published key set.

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::ids::{EventId, TicketId};
use super::ticket::Micros;
use super::token::KeyMark;

/// What stands before the 32 bytes of the seed in a PKCS#8 v1 document for Ed25519 (RFC 8410).
const PKCS8_ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// The issuer that passes name.
pub const ISSUER: &str = "tidegate";
/// The longest pass that is read, in bytes.
pub const PASS_BYTES_MAX: usize = 2048;

/// What a pass says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassClaims {
    /// Who issued it: [`ISSUER`].
    pub iss: String,
    /// The event it opens.
    pub aud: EventId,
    /// The ticket it came from, 32 hexadecimal digits: one pass a ticket.
    pub jti: String,
    /// When it was issued, seconds since 1970.
    pub iat: u64,
    /// When it ends, seconds since 1970.
    pub exp: u64,
}

impl PassClaims {
    /// The ticket it came from.
    pub fn ticket(&self) -> Option<TicketId> {
        let plain = self.jti.len() == 32 && self.jti.bytes().all(|b| b.is_ascii_hexdigit());
        plain
            .then(|| {
                u128::from_str_radix(&self.jti, 16)
                    .ok()
                    .map(TicketId::from_u128)
            })
            .flatten()
    }
}

/// A pass key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PassKeyError {
    /// The active name is not among the keys.
    #[error("the active key {0:?} is not among the pass keys")]
    NoActive(String),
    /// The bytes are no usable seed.
    #[error("the pass key {0:?} is no usable Ed25519 seed: {1}")]
    Unusable(String, String),
}

/// The keys that sign and verify passes.
#[derive(Clone)]
pub struct PassKeys {
    /// Where the active one is.
    active: usize,
    keys: Vec<(String, EncodingKey, DecodingKey)>,
    validation: Validation,
    jwks: String,
}

impl PassKeys {
    /// Keys from 32-byte seeds by name, of which `active` signs.
    ///
    /// # Errors
    /// `active` is not among them, or a seed is unusable.
    pub fn new(active: &str, seeds: &[(String, [u8; 32])]) -> Result<Self, PassKeyError> {
        let mut set = JwkSet { keys: Vec::new() };
        let mut keys = Vec::new();
        for (name, seed) in seeds {
            let unusable = |e: jsonwebtoken::errors::Error| {
                PassKeyError::Unusable(name.clone(), e.to_string())
            };
            let key = EncodingKey::from_ed_der(&[&PKCS8_ED25519[..], seed].concat());
            let mut jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(unusable)?;
            jwk.common.key_id = Some(name.clone());
            let verifying = DecodingKey::from_jwk(&jwk).map_err(unusable)?;
            keys.push((name.clone(), key, verifying));
            set.keys.push(jwk);
        }
        let Some(active) = keys.iter().position(|(name, ..)| name == active) else {
            return Err(PassKeyError::NoActive(active.to_owned()));
        };
        // Time is an argument here, and which event is asked for is the caller's to compare.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "exp"]);
        let jwks = serde_json::to_string(&set).expect("a key set is plain JSON");
        Ok(Self {
            active,
            keys,
            validation,
            jwks,
        })
    }

    /// The pass of a ticket, good from one moment until another: always the same bytes, since Ed25519
    /// is deterministic, so that nobody has to keep them. It is signed by the pass key of the same name
    /// as the ticket key with this mark, which is that of the visitor's token; by the active one if there
    /// is none. `None` if it cannot be written, which no key that was accepted leads to. About 20 µs.
    pub fn sign(
        &self,
        event: &EventId,
        id: TicketId,
        token: Option<KeyMark>,
        (from, until): (Micros, Micros),
    ) -> Option<String> {
        let of_token = |name: &str| token.is_some_and(|mark| mark == KeyMark::of(name));
        let known = self.keys.iter().find(|(name, ..)| of_token(name));
        let (name, key, _) = known.unwrap_or(&self.keys[self.active]);
        let claims = PassClaims {
            iss: ISSUER.to_owned(),
            aud: event.clone(),
            jti: id.to_string(),
            iat: from.0 / 1_000_000,
            exp: until.0.div_ceil(1_000_000),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(name.clone());
        jsonwebtoken::encode(&header, &claims, key).ok()
    }

    /// What a pass says, if one of the keys signed it; also when it has ended. About 40 µs.
    pub fn verify(&self, pass: &str) -> Option<PassClaims> {
        if pass.len() > PASS_BYTES_MAX {
            return None;
        }
        let name = jsonwebtoken::decode_header(pass).ok()?.kid?;
        let (.., key) = self.keys.iter().find(|(known, ..)| *known == name)?;
        let claims = jsonwebtoken::decode::<PassClaims>(pass, key, &self.validation)
            .ok()?
            .claims;
        claims.ticket().is_some().then_some(claims)
    }

    /// The public keys as a JSON Web Key Set.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }
}

impl std::fmt::Debug for PassKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PassKeys({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(active: &str, names: &[&str]) -> PassKeys {
        let seeds: Vec<_> = names
            .iter()
            .map(|name| ((*name).to_owned(), [name.as_bytes()[1]; 32]))
            .collect();
        PassKeys::new(active, &seeds).expect("good keys")
    }

    #[test]
    fn a_pass_says_what_was_signed_and_rotation_overlaps() {
        let event = EventId::new("evt_1").expect("a fine id");
        let id = TicketId::from_u128(42);
        let held = (Micros(1_800_000_000_500_000), Micros(1_800_000_029_500_001));
        let token = Some(KeyMark::of("k1"));
        let pass = |keys: &PassKeys| keys.sign(&event, id, token, held);
        let pass_of_old = pass(&keys("k1", &["k1"])).expect("its own key");
        let both = keys("k2", &["k1", "k2"]);
        assert_eq!(pass(&both).as_ref(), Some(&pass_of_old));
        let new = keys("k2", &["k2"]);
        assert_eq!(pass(&new), both.sign(&event, id, None, held));
        let pass = pass_of_old;
        let claims = both.verify(&pass).expect("k1 is known");
        assert_eq!(claims.ticket(), Some(id));
        assert_eq!(
            (claims.aud, claims.iat, claims.exp),
            (event, 1_800_000_000, 1_800_000_030)
        );
        assert_eq!(new.verify(&pass), None);
    }

    #[test]
    fn what_was_not_signed_is_no_pass() {
        let keys = keys("k1", &["k1"]);
        let event = EventId::new("evt_1").expect("a fine id");
        let held = (Micros(0), Micros(1));
        let pass = keys.sign(&event, TicketId::from_u128(42), None, held);
        let pass = pass.expect("its own key");
        for at in [0, 20, pass.len() / 2, pass.len() - 1] {
            let mut bytes = pass.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).expect("still ASCII");
            assert_eq!(keys.verify(&forged), None, "byte {at}");
        }
        assert_eq!(keys.verify(""), None);
        assert_eq!(keys.verify("eyJhbGciOiJub25lIn0.e30."), None);
    }

    #[test]
    fn the_key_set_holds_public_keys_only() {
        let keys = keys("k1", &["k1", "k2"]);
        let set: serde_json::Value = serde_json::from_str(keys.jwks()).expect("it is JSON");
        assert_eq!(set["keys"].as_array().map(Vec::len), Some(2));
        assert_eq!(set["keys"][0]["crv"], "Ed25519");
        assert!(set["keys"][0].get("d").is_none());
    }
}
