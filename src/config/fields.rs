//! Readers of single values: from what was written to a type, or what would be allowed.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::tree::Value;
use super::types::{Origins, RedisUrl};
use crate::model::policy::{PolicyValue, span_text};

/// The most bytes read of a secret's file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A whole number within `range`.
pub fn whole(range: RangeInclusive<u32>) -> impl Fn(&Value) -> Result<u32, String> {
    move |value| {
        let number = match value.scalar() {
            PolicyValue::Int(number) => u32::try_from(number).ok(),
            _ => None,
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A duration within `range`.
pub fn span(range: RangeInclusive<Duration>) -> impl Fn(&Value) -> Result<Duration, String> {
    move |value| {
        let text = value.text();
        text.and_then(|text| humantime::parse_duration(&text).ok())
            .filter(|span| range.contains(span))
            .ok_or_else(|| {
                let (low, high) = (span_text(*range.start()), span_text(*range.end()));
                format!("a duration with its unit, such as \"30s\", from {low} to {high}")
            })
    }
}

/// One of a few words.
pub fn choice<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&Value) -> Result<T, String> {
    move |value| {
        let text = value.text();
        let found = words.iter().find(|(word, _)| text.as_deref() == Some(word));
        found.map(|&(_, meaning)| meaning).ok_or_else(|| {
            let quoted: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            quoted.join(" or ")
        })
    }
}

/// `true` or `false`.
pub fn flag(value: &Value) -> Result<bool, String> {
    match value.scalar() {
        PolicyValue::Bool(flag) => Ok(flag),
        _ => Err("true or false".to_owned()),
    }
}

/// An address and a port.
pub fn address(value: &Value) -> Result<SocketAddr, String> {
    let text = value.text();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        "an IP address and a port, such as \"127.0.0.1:8000\" or \"[::]:8000\"".to_owned()
    })
}

/// An address and a port, or "off".
pub fn address_or_off(value: &Value) -> Result<Option<SocketAddr>, String> {
    if value.text().as_deref() == Some("off") {
        return Ok(None);
    }
    address(value)
        .map(Some)
        .map_err(|allowed| format!("{allowed}, or \"off\""))
}

/// A text; the empty one is none.
pub fn optional_text(value: &Value) -> Result<Option<String>, String> {
    let text = value
        .text()
        .ok_or_else(|| "a text, empty for none".to_owned())?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A path that is not empty.
pub fn path(value: &Value) -> Result<PathBuf, String> {
    let text = value.text().filter(|text| !text.is_empty());
    text.map(PathBuf::from).ok_or_else(|| "a path".to_owned())
}

/// A path; the empty one is none.
pub fn optional_path(value: &Value) -> Result<Option<PathBuf>, String> {
    let text = value
        .text()
        .ok_or_else(|| "a path, empty for none".to_owned())?;
    Ok(Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty()))
}

/// A key's name.
pub fn key_name(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    if (1..=32).contains(&text.len()) && text.bytes().all(plain) {
        Ok(())
    } else {
        Err("a name of 1 to 32 characters of a-z 0-9 _ -".to_owned())
    }
}

/// Web origins, or everybody's.
pub fn origins(value: &Value) -> Result<Origins, String> {
    let allowed = || {
        "[\"*\"] for everybody, or a list of origins such as \"https://shop.example\", each \
         without a path"
            .to_owned()
    };
    let texts = value.list().ok_or_else(allowed)?;
    if texts == ["*"] {
        return Ok(Origins::Any);
    }
    if texts.iter().all(|text| is_origin(text)) {
        Ok(Origins::Listed(texts))
    } else {
        Err(allowed())
    }
}

fn is_origin(text: &str) -> bool {
    // Browsers send scheme and host in lower case and compare the whole as bytes.
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        let fits = |b: u8| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        };
        !host.is_empty() && host.bytes().all(fits)
    })
}

/// Redis nodes, at least one.
pub fn redis_urls(value: &Value) -> Result<Vec<RedisUrl>, String> {
    let urls: Option<Vec<_>> = value
        .list()
        .unwrap_or_default()
        .iter()
        .map(|text| redis_url(text))
        .collect();
    urls.filter(|urls| !urls.is_empty()).ok_or_else(|| {
        "a list of redis://host:port or rediss://host:port (TLS), user and password apart, in \
         redis.user and redis.password"
            .to_owned()
    })
}

fn redis_url(text: &str) -> Option<RedisUrl> {
    let (tls, rest) = match text.strip_prefix("rediss://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("redis://")?),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(six) => {
            let (host, tail) = six.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host,
                if tail.is_empty() {
                    None
                } else {
                    Some(tail.strip_prefix(':')?)
                },
            )
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => 6379,
    };
    Some(RedisUrl {
        tls,
        host: host.to_owned(),
        port,
    })
}

/// A secret as written: itself, `env:NAME` or `file:path`. Errors never hold it.
///
/// Cost: reads the file.
pub fn secret(value: &Value, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let Some(text) = value.text() else {
        return Err("a text, \"env:NAME\" or \"file:path\"".to_owned());
    };
    let found = if let Some(name) = text.strip_prefix("env:") {
        env(name).ok_or_else(|| format!("an environment variable that is set ({name:?} is not)"))?
    } else if let Some(path) = text.strip_prefix("file:") {
        read_secret(Path::new(path))
            .map_err(|error| format!("a file that can be read ({path:?}: {error})"))?
    } else {
        return Ok(text);
    };
    let found = found.trim();
    if found.is_empty() {
        return Err("an environment variable or file that is not empty".to_owned());
    }
    Ok(found.to_owned())
}

fn read_secret(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(SECRET_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// 32 bytes out of base64, of either alphabet, padded or not.
pub fn key_bytes(text: &str) -> Result<[u8; 32], String> {
    [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]
        .into_iter()
        .find_map(|form| form.decode(text).ok()?.try_into().ok())
        .ok_or_else(|| "base64 of 32 bytes, as `openssl rand -base64 32` makes them".to_owned())
}
