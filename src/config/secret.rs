//! Values that must not be seen.

use std::fmt;

/// A value that `Debug`, logs and `tidegate check` show as hidden.
///
/// `==` is not constant-time: compare what a client sent with `subtle`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T = String>(T);

impl<T> Secret<T> {
    /// Hides `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for use and not for show.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(
            format!("{:?}", Secret::new("hunter2".to_owned())),
            "(hidden)"
        );
        assert_eq!(format!("{:?}", Secret::new([7u8; 32])), "(hidden)");
    }
}
