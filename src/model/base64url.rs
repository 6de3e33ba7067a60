//! base64url without padding, back to bytes: a token's characters are looked at sixteen together,
//! where a table takes one after the other.

/// The characters that are taken at a time. Whatever is longer is no token.
const CHARS_MAX: usize = 168;

/// Decodes `text` into `out`, and answers how many bytes it holds; `None` if it is not what an
/// encoder writes (RFC 4648, section 5, without padding), longer than 168 characters, or more than
/// `out` has room for. `out` is scribbled on behind the end.
pub(super) fn decode(text: &str, out: &mut [u8]) -> Option<usize> {
    let chars = text.as_bytes();
    let mut sixes = [0; CHARS_MAX];
    let sixes_used = sixes.get_mut(..chars.len())?;
    let mut bad = 0;
    for (six, char) in sixes_used.iter_mut().zip(chars) {
        let (value, is_fine) = six_of(*char);
        *six = value;
        bad |= u8::from(!is_fine);
    }
    // One character over is no byte; bits over must be zero, or one token would have several texts.
    let last = sixes_used.last().copied().unwrap_or(0);
    let over = match chars.len() % 4 {
        0 => 0,
        1 => return None,
        2 => last & 0b1111,
        _ => last & 0b11,
    };
    let length = chars.len() * 3 / 4;
    if bad != 0 || over != 0 || length > out.len() {
        return None;
    }
    let (groups, _) = sixes.as_chunks::<8>();
    let mut rest = out;
    for group in &groups[..chars.len().div_ceil(8)] {
        let six = six_bytes(*group);
        let n = rest.len().min(6);
        match rest.first_chunk_mut() {
            Some(to) => *to = six,
            None => rest.copy_from_slice(&six[..n]),
        }
        rest = &mut rest[n..];
    }
    Some(length)
}

/// The six bits of a character, and whether it is of the alphabet. Without a branch.
const fn six_of(char: u8) -> (u8, bool) {
    let upper = char.wrapping_sub(b'A');
    let lower = char.wrapping_sub(b'a');
    let digit = char.wrapping_sub(b'0');
    let mut value = 0;
    value |= if upper < 26 { upper } else { 0 };
    value |= if lower < 26 { lower + 26 } else { 0 };
    value |= if digit < 10 { digit + 52 } else { 0 };
    value |= if char == b'-' { 62 } else { 0 };
    value |= if char == b'_' { 63 } else { 0 };
    let is_fine = value != 0 || char == b'A';
    (value, is_fine)
}

/// Eight times six bits as six bytes: neighbours are joined into twelve, 24, 48 bits.
const fn six_bytes(sixes: [u8; 8]) -> [u8; 6] {
    let x = u64::from_be_bytes(sixes);
    let x = (x >> 2) & 0x0fc0_0fc0_0fc0_0fc0 | x & 0x003f_003f_003f_003f;
    let x = (x >> 4) & 0x00ff_f000_00ff_f000 | x & 0x0000_0fff_0000_0fff;
    let x = (x >> 8) & 0x0000_ffff_ff00_0000 | x & 0x0000_0000_00ff_ffff;
    let [_, _, bytes @ ..] = x.to_be_bytes();
    bytes
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    fn agrees(text: &str, room: usize) {
        let (mut ours, mut theirs) = (vec![0; room], vec![0; room]);
        let ours = decode(text, &mut ours).map(|n| ours[..n].to_vec());
        let theirs = URL_SAFE_NO_PAD.decode_slice(text, &mut theirs);
        let theirs = theirs.ok().map(|n| n.min(room));
        assert_eq!(ours.as_ref().map(Vec::len), theirs, "{text:?}");
        if let Some(bytes) = ours {
            assert_eq!(URL_SAFE_NO_PAD.encode(bytes), text);
        }
    }

    #[test]
    fn every_character_is_taken_as_by_the_crate() {
        for n in 0..256_u32 {
            let char = char::from_u32(n).unwrap_or('A');
            for text in [
                format!("{char}A"),
                format!("AAA{char}"),
                format!("A{char}AAA"),
            ] {
                agrees(&text, 123);
            }
        }
        assert_eq!(decode(&"A".repeat(CHARS_MAX), &mut [0; 126]), Some(126));
        assert_eq!(decode(&"A".repeat(CHARS_MAX + 1), &mut [0; 200]), None);
        assert_eq!(decode("AAAA", &mut [0; 2]), None);
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..126)) {
            let text = URL_SAFE_NO_PAD.encode(&bytes);
            let mut room = vec![0; bytes.len()];
            prop_assert_eq!(decode(&text, &mut room), Some(bytes.len()));
            prop_assert_eq!(room, bytes);
        }

        #[test]
        fn other_text_is_taken_as_by_the_crate(text in "[A-Za-z0-9_=+/ -]{0,12}") {
            agrees(&text, 123);
        }
    }
}
