//! Answers of Redis as values of ours. What does not fit is an error of the layout, not a panic.

use redis::Value;

use crate::model::{EventId, Micros, TicketId};
use crate::store::StoreError;

/// Takes answers apart on behalf of one call.
#[derive(Clone, Copy)]
pub(super) struct Reply(pub &'static str);

impl Reply {
    /// What to say about anything unexpected.
    pub fn unexpected(self) -> StoreError {
        StoreError::never(self.0, "an answer of another form than this build reads")
    }

    pub fn list(self, value: Value) -> Result<Vec<Value>, StoreError> {
        match value {
            Value::Array(values) => Ok(values),
            Value::Nil => Ok(Vec::new()),
            _ => Err(self.unexpected()),
        }
    }

    pub fn bytes(self, value: Value) -> Result<Vec<u8>, StoreError> {
        match value {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            _ => Err(self.unexpected()),
        }
    }

    pub fn text(self, value: Value) -> Result<String, StoreError> {
        String::from_utf8(self.bytes(value)?).map_err(|_| self.unexpected())
    }

    /// A whole number, as one or as text.
    pub fn number<T: TryFrom<i64> + std::str::FromStr>(
        self,
        value: Value,
    ) -> Result<T, StoreError> {
        match value {
            Value::Int(number) => T::try_from(number).map_err(|_| self.unexpected()),
            value => self.text(value)?.parse().map_err(|_| self.unexpected()),
        }
    }

    pub fn micros(self, value: Value) -> Result<Micros, StoreError> {
        self.number(value).map(Micros)
    }

    pub fn id(self, value: Value) -> Result<TicketId, StoreError> {
        match value {
            Value::BulkString(bytes) => <[u8; 16]>::try_from(bytes.as_slice())
                .map(TicketId::from_bytes)
                .map_err(|_| self.unexpected()),
            _ => Err(self.unexpected()),
        }
    }

    pub fn event(self, value: Value) -> Result<EventId, StoreError> {
        EventId::try_from(self.text(value)?).map_err(|_| self.unexpected())
    }

    /// A score: exact up to 2^53.
    pub fn score(self, value: Value) -> Result<f64, StoreError> {
        match value {
            Value::Double(score) => Ok(score),
            value => self.text(value)?.parse().map_err(|_| self.unexpected()),
        }
    }

    /// A list of pairs, flat: what `WITHSCORES` answers, and scripts of ours.
    pub fn pairs<A, B>(
        self,
        value: Value,
        first: impl Fn(Self, Value) -> Result<A, StoreError>,
        second: impl Fn(Self, Value) -> Result<B, StoreError>,
    ) -> Result<Vec<(A, B)>, StoreError> {
        let values = self.list(value)?;
        let mut pairs = Vec::with_capacity(values.len() / 2);
        let mut values = values.into_iter();
        while let Some(a) = values.next() {
            let b = values.next().ok_or_else(|| self.unexpected())?;
            pairs.push((first(self, a)?, second(self, b)?));
        }
        Ok(pairs)
    }
}
