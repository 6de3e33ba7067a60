//! Where an HTTP answer begins and ends.

/// An answer at the start of a buffer, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Bytes of status line and headers.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
}

impl Answer {
    pub fn len(&self) -> usize {
        self.head + self.body
    }
}

/// The first answer of `bytes`, when all of it is there. Only what the servers here send: a
/// `content-length` in lower case.
pub fn first(bytes: &[u8]) -> Option<Answer> {
    let mut at = 0;
    let mut body = 0;
    loop {
        let line = at + bytes[at..].iter().position(|b| *b == b'\n')?;
        let text = &bytes[at..line];
        if text == b"\r" {
            let status = bytes.get(9..12)?;
            let answer = Answer {
                status: number(status) as u16,
                head: line + 1,
                body,
            };
            return (bytes.len() >= answer.len()).then_some(answer);
        }
        if let Some(length) = text.strip_prefix(b"content-length: ") {
            body = number(length.strip_suffix(b"\r").unwrap_or(length));
        }
        at = line + 1;
    }
}

fn number(digits: &[u8]) -> usize {
    let value = |n: usize, digit: &u8| n * 10 + usize::from(digit.wrapping_sub(b'0'));
    digits.iter().fold(0, value)
}
