//! Words that several findings share.

use super::finding::{Findings, Level};
use crate::store::redis::{Address, Server, Survey};

/// What is wrong with a server.
pub struct Wrong {
    pub level: Level,
    pub says: String,
    pub advice: String,
}

impl Wrong {
    pub fn warn(says: impl Into<String>, advice: impl Into<String>) -> Option<Self> {
        Some(Self {
            level: Level::Warn,
            says: says.into(),
            advice: advice.into(),
        })
    }

    pub fn fail(says: impl Into<String>, advice: impl Into<String>) -> Option<Self> {
        Some(Self {
            level: Level::Fail,
            says: says.into(),
            advice: advice.into(),
        })
    }
}

/// Servers that could be looked at.
pub fn looked_at(seen: &Survey) -> impl Iterator<Item = (&Address, &Server)> {
    let servers = seen.servers.iter();
    servers.filter_map(|(address, server)| Some((address, server.as_ref().ok()?)))
}

/// Whether a server is a master that holds something.
pub fn is_master(seen: &Survey, address: &Address) -> bool {
    let mut masters = seen.layout.masters.iter();
    masters.any(|master| master.address == *address)
}

/// Masters that could be looked at.
pub fn masters(seen: &Survey) -> impl Iterator<Item = (&Address, &Server)> {
    looked_at(seen).filter(|(address, _)| is_master(seen, address))
}

/// Whether a server tells its settings. If none does, that is told once, in their stead.
pub fn tells((_, server): &(&Address, &Server)) -> bool {
    server.config.is_ok()
}

/// Judges each server by itself: those with which something is wrong are told one by one, or all
/// together are `fine`. Nothing is said of none.
pub fn each<'a>(
    findings: &mut Findings,
    judged: impl Iterator<Item = (&'a Address, &'a Server)>,
    about: &'static str,
    fine: &str,
    judge: impl Fn(&Address, &Server) -> Option<Wrong>,
) {
    let mut looked = 0;
    for (address, server) in judged {
        looked += 1;
        if let Some(wrong) = judge(address, server) {
            let says = format!("{address} {}", wrong.says);
            findings.add(about, wrong.level, says, Some(wrong.advice));
        }
    }
    if looked > 0 && findings.lacks(about) {
        findings.ok(about, format!("{fine} ({})", servers(looked)));
    }
}

/// How to say something to a server.
pub fn say(address: &Address, command: &str) -> String {
    format!(
        "redis-cli -h {} -p {} {command}",
        address.host, address.port
    )
}

/// How to change a server's setting for good.
pub fn set(address: &Address, setting: &str) -> String {
    let now = say(address, &format!("CONFIG SET {setting}"));
    format!("{now} (and CONFIG REWRITE, so that it stays)")
}

pub fn servers(count: usize) -> String {
    match count {
        1 => "1 server".to_owned(),
        count => format!("{count} servers"),
    }
}

/// Bytes as people say them.
pub fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    format!("{:.1} {name}", bytes as f64 / unit)
}

/// Microseconds as people say them.
pub fn span(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{:.2} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}
