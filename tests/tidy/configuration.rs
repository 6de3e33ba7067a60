//! `config.toml` is the complete default, and says so itself.

use tidegate::config::{Config, Sources, known_keys, known_tables};

use super::root;

fn text() -> String {
    std::fs::read_to_string(root().join("config.toml")).unwrap()
}

fn load() -> Config {
    Sources::new(Some(root().join("config.toml")), [], Vec::new())
        .load()
        .unwrap()
}

#[test]
fn the_file_means_the_built_in_defaults_field_by_field() {
    let (file, built_in) = (load(), Config::default());
    let (shown, expected) = (file.to_toml(), built_in.to_toml());
    for (line, expected) in shown.lines().zip(expected.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(file, built_in);
}

#[test]
fn every_known_key_is_written_in_the_file() {
    let file: toml::Table = text().parse().unwrap();
    for (section, key) in known_keys() {
        let written = file.get(section).and_then(|section| section.get(key));
        assert!(
            written.is_some(),
            "{section}.{key} is missing in config.toml"
        );
    }
    for table in known_tables() {
        let line = |line: &str| {
            line.trim_start_matches("# ")
                .starts_with(&format!("[{table}"))
        };
        assert!(
            text().lines().any(line),
            "[{table}] is missing in config.toml"
        );
    }
}

#[test]
fn what_check_prints_is_a_configuration_and_the_same_one() {
    let folder = tempfile::tempdir().unwrap();
    let printed = folder.path().join("printed.toml");
    std::fs::write(&printed, Config::default().to_toml()).unwrap();
    let again = Sources::new(Some(printed), [], Vec::new()).load();
    assert_eq!(again, Ok(Config::default()));
}
