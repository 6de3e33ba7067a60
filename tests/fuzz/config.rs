//! Configurations: any text is a configuration or a list of mistakes, and one that is shown and read
//! again is the same.

use std::sync::LazyLock;

use tidegate::config::{Config, Mistakes, Sources};

/// The file, then environment pairs and `--set` texts, one a line, between zero bytes.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // What is behind it on this machine is nobody's business here.
    if text.contains("file:") || text.contains("ca") && text.contains("redis") {
        return;
    }
    let mut parts = text.splitn(3, '\0');
    let mut part = || parts.next().unwrap_or_default();
    let (file, env, sets) = (part(), part(), part());
    match load(file, env, sets) {
        Ok(config) => shown_and_read_again(&config),
        Err(Mistakes(mistakes)) => {
            assert!(!mistakes.is_empty(), "refused without a word");
            for mistake in mistakes {
                assert!(!mistake.to_string().is_empty());
            }
        }
    }
}

fn load(file: &str, env: &str, sets: &str) -> Result<Config, Mistakes> {
    let pairs = env.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (format!("TIDEGATE__{name}"), value.to_owned()));
    let sets = sets.lines().map(str::to_owned).collect();
    Sources::new(Some("t.toml".into()), pairs, sets).load_text(Some(Ok(file.to_owned())))
}

/// Secrets are hidden when shown, so a configuration with secrets is not read again; the one that
/// says nothing is read once.
fn shown_and_read_again(config: &Config) {
    static NOTHING_SAID: LazyLock<Config> = LazyLock::new(|| {
        let config = Config::default();
        assert!(load(&config.to_toml(), "", "").as_ref().ok() == Some(&config));
        config
    });
    if *config == *NOTHING_SAID {
        return;
    }
    let text = config.to_toml();
    let secrets = config.keys.is_some() || config.admin.token.is_some();
    if secrets || config.redis.password.is_some() {
        return;
    }
    match load(&text, "", "") {
        Ok(again) => assert!(
            again == *config,
            "another one:\n{text}\n{}",
            again.to_toml()
        ),
        Err(mistakes) => panic!("{mistakes}\n{text}"),
    }
}
