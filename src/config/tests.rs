//! The whole way from texts to a configuration.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::policy::{Order, POLICY_FIELDS};
use crate::model::{EventId, Micros};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn load(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Config, Mistakes> {
    let env = env
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let sets = sets.iter().map(|&set| set.to_owned()).collect();
    Sources::new(Some("t.toml".into()), env, sets).load_text(Some(Ok(text.to_owned())))
}

/// The mistakes of a file's text, one line each.
fn told(text: &str) -> Vec<String> {
    load(text, &[], &[])
        .unwrap_err()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn nothing_written_is_the_default() {
    assert_eq!(load("", &[], &[]), Ok(Config::default()));
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let file = "[limits]\nheaders = 10\nconnections = 10\nbody_bytes = 1000";
    let env = [
        ("TIDEGATE__LIMITS__HEADERS", "20"),
        ("TIDEGATE__LIMITS__CONNECTIONS", "20"),
    ];
    let limits = load(file, &env, &["limits.headers=30"]).unwrap().limits;
    assert_eq!(
        (limits.headers, limits.connections, limits.body_bytes),
        (30, 20, 1000)
    );
}

#[test]
fn raw_texts_take_the_type_of_their_field() {
    let env = [
        ("TIDEGATE__SERVER__LISTEN", "[::1]:80"),
        ("TIDEGATE__REDIS__URLS", "redis://a, redis://[::1]:7000/"),
        ("TIDEGATE__REDIS__USER", "12345"),
        ("TIDEGATE__CORS__ORIGINS", r#"["https://a.example"]"#),
        ("TIDEGATE__JOURNAL__MAX_RECORDS", "3_000_000"),
        ("TIDEGATE__DEFAULTS__PAUSED", "true"),
        ("TIDEGATE__DEFAULTS__RATE", "2.5"),
        ("TIDEGATE__EVENT__Evt_a__b__ORDER", "reject"),
        ("UNRELATED", "1"),
    ];
    let sets = [
        "event.\"evt.1\".opens=2026-12-01T10:00:00+09:00",
        "store.path=\"my data\"",
    ];
    let config = load("", &env, &sets).unwrap();
    assert_eq!(config.server.listen, "[::1]:80".parse().unwrap());
    let urls: Vec<_> = config.redis.urls.iter().map(ToString::to_string).collect();
    assert_eq!(urls, ["redis://a:6379", "redis://[::1]:7000"]);
    assert_eq!(config.redis.user.as_deref(), Some("12345"));
    assert_eq!(
        config.cors.origins,
        Origins::Listed(vec!["https://a.example".to_owned()])
    );
    assert_eq!(config.journal.max_records.get(), 3_000_000);
    assert_eq!((config.defaults.paused, config.defaults.rate), (true, 2.5));
    assert_eq!(
        config.event[&EventId::new("Evt_a__b").unwrap()].order,
        Order::Reject
    );
    let opens = config.policy(&EventId::new("evt.1").unwrap()).opens;
    assert_eq!(opens, Some(Micros(1_796_086_800_000_000)));
    assert_eq!(config.store.path.to_str(), Some("my data"));
}

#[test]
fn an_event_has_the_defaults_where_it_says_nothing() {
    let text = "[defaults]\nrate = 7\n[event.plain]\n[event.own]\nburst = 3\n\
                opens = 2026-12-01T10:00:00+09:00";
    let config = load(text, &[], &[]).unwrap();
    let of = |id: &str| config.event[&EventId::new(id).unwrap()].clone();
    assert_eq!(of("plain"), config.defaults);
    assert_eq!((of("own").rate, of("own").burst), (7.0, 3));
    assert_eq!(of("own").opens, Some(Micros(1_796_086_800_000_000)));
}

#[test]
fn all_mistakes_are_told_together_with_field_value_origin_and_what_is_allowed() {
    let file =
        "[server]\nlisten = \"localhost:80\"\nlsiten = 1\n[fleet]\nnode = 2\n[defaults]\nrate = -1";
    let env = [("TIDEGATE__SERVR__WORKERS", "1")];
    let mistakes = load(file, &env, &["journal.lag=9s", "nonsense"])
        .unwrap_err()
        .to_string();
    let expected = "\
the configuration has 7 mistakes:
  server.lsiten (t.toml line 3): unknown key (did you mean server.listen?)
  servr.workers (environment TIDEGATE__SERVR__WORKERS): unknown key (did you mean server.workers?)
  nonsense (--set): allowed is section.key=value, such as server.listen=127.0.0.1:8000
  defaults.rate = -1 (t.toml line 7): allowed is a number from 0 to 1000000
  server.listen = \"localhost:80\" (t.toml line 2): allowed is an IP address and a port, such as \
\"127.0.0.1:8000\" or \"[::]:8000\"
  fleet.node = 2 (t.toml line 5): must be less than fleet.size = 1 (default)
  journal.lag = \"9s\" (--set): must be less than journal.stale_after = \"5s\" (default)";
    assert_eq!(mistakes, expected);
}

#[test]
fn every_relation_names_both_fields() {
    let cases = [
        (
            "[server]\nadmin_listen = \"127.0.0.1:8000\"",
            "server.admin_listen",
            "server.listen",
        ),
        (
            "[server]\nadmin_listen = \"0.0.0.0:1\"",
            "server.admin_listen",
            "admin.token",
        ),
        ("[fleet]\nnode = 1", "fleet.node", "fleet.size"),
        ("[fleet]\nsize = 2", "fleet.size", "store.kind"),
        ("[store]\nkind = \"redis\"", "store.kind", "keys.ticket"),
        ("[redis]\nca = \"ca.pem\"", "redis.ca", "redis.urls"),
        (
            "[journal]\nmax_records = 9",
            "journal.batch_records",
            "journal.max_records",
        ),
        (
            "[journal]\nlag = \"5s\"",
            "journal.lag",
            "journal.stale_after",
        ),
        (
            "[limits]\nurl_bytes = 20000",
            "limits.url_bytes",
            "limits.header_bytes",
        ),
        (
            "[cors]\ncredentials = true",
            "cors.credentials",
            "cors.origins",
        ),
        ("[polling]\nmin = \"1m\"", "polling.min", "polling.max"),
        (
            "[polling]\nmax = \"5m\"",
            "polling.max",
            "defaults.heartbeat_ttl",
        ),
        (
            "[event.a]\nheartbeat_ttl = \"30s\"",
            "polling.max",
            "event.a.heartbeat_ttl",
        ),
        (
            "[defaults]\nlate_grace = \"6h\"",
            "defaults.late_grace",
            "defaults.ticket_ttl",
        ),
        (
            "[event.a]\nticket_ttl = \"10m\"",
            "defaults.late_grace",
            "event.a.ticket_ttl",
        ),
        (
            "[event.a]\nlate_grace = \"7h\"",
            "event.a.late_grace",
            "defaults.ticket_ttl",
        ),
    ];
    for (text, one, other) in cases {
        let told = told(text);
        assert_eq!(told.len(), 1, "{text}: {told:?}");
        assert!(
            told[0].contains(one) && told[0].contains(other),
            "{text}: {told:?}"
        );
    }
}

#[test]
fn a_field_that_is_no_use_is_held_against_nothing() {
    assert_eq!(told("[fleet]\nnode = 5\nsize = 0").len(), 1);
    assert_eq!(
        told("[polling]\nmax = \"5 parsecs\"\nmin = \"20m\"").len(),
        1
    );
    assert_eq!(
        told("[defaults]\nrate = -1\n[event.a]\n[event.b]\nburst = 2").len(),
        1
    );
}

#[test]
fn every_known_key_refuses_a_value_of_the_wrong_kind_and_says_where() {
    let fields = POLICY_FIELDS.map(|field| ("event.a", field));
    for (section, key) in known_keys().chain(fields) {
        let text = format!("[{section}]\n{key} = {{ odd = 1 }}");
        let told = told(&text);
        let start = format!("{section}.{key} = ");
        assert_eq!(told.len(), 1, "{text}: {told:?}");
        assert!(told[0].starts_with(&start), "{told:?}");
        assert!(told[0].contains("(t.toml line 2): allowed is "), "{told:?}");
    }
}

#[test]
fn keys_come_from_text_environment_or_file_and_the_active_one_is_in_both_tables() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pass");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let pass = format!("k1 = \"file:{}\"", file.display());
    let text = format!("[keys.ticket]\nk1 = \"env:T\"\nold = \"{KEY}\"\n[keys.pass]\n{pass}");
    let keys = load(&text, &[("T", KEY)], &[]).unwrap().keys.unwrap();
    assert_eq!(keys.ticket["k1"].reveal()[31], 31);
    assert_eq!(
        (keys.ticket.len(), keys.pass.len(), keys.active.as_str()),
        (2, 1, "k1")
    );

    let env = [("TIDEGATE__KEYS__ACTIVE", "old")];
    let mistakes = load(&text, &[("T", KEY), env[0]], &[])
        .unwrap_err()
        .to_string();
    assert!(mistakes.contains("keys.active = \"old\""), "{mistakes}");
    assert!(
        mistakes.contains("allowed is the name of a key in [keys.pass]"),
        "{mistakes}"
    );
}

#[test]
fn no_secret_is_ever_shown() {
    let secrets = ["sesame-open-sesame", KEY, "s3cret-of-redis"];
    let text = format!(
        "[admin]\ntoken = \"{}\"\n[redis]\npassword = \"{}\"\n[keys.ticket]\nk1 = \"{KEY}\"\n\
         [keys.pass]\nk1 = \"{KEY}\"\n",
        secrets[0], secrets[2],
    );
    let config = load(&text, &[], &[]).unwrap();
    let hidden = |shown: &str| secrets.iter().all(|secret| !shown.contains(secret));
    assert!(hidden(&format!("{config:?}")));
    assert!(hidden(&config.to_toml()));
    assert_eq!(config.to_toml().matches("(hidden)").count(), 4);

    for bad in [
        "[admin]\ntoken = \"sesame open\"",
        "[admin]\ntokn = \"sesame-open-sesame\"",
        "[keys.ticket]\nk1 = \"sesame\"",
        "[redis]\nurls = [\"redis://user:sesame@host\"]",
    ] {
        let told = told(bad).join("\n");
        assert!(!told.contains("sesame"), "{told}");
    }
    let set = load("", &[], &["sesame"]).unwrap_err().to_string();
    assert!(set.contains("--set"), "{set}");
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    let text = "[server]\nadmin_listen = \"off\"\n[event.\"a.b\"]\nrate = 0.5\npaused = true\n\
                closes = \"2030-01-01T00:00:00Z\"\n[cors]\norigins = []\n[limits]\njoins_per_second = 9";
    let config = load(text, &[], &[]).unwrap();
    assert_eq!(load(&config.to_toml(), &[], &[]), Ok(config));
    assert_eq!(
        load(&Config::default().to_toml(), &[], &[]),
        Ok(Config::default())
    );
}

#[test]
fn a_reload_changes_policies_limits_polling_and_log_level_and_names_the_rest() {
    let old = load(
        &format!("[keys.ticket]\nk1=\"{KEY}\"\n[keys.pass]\nk1=\"{KEY}\""),
        &[],
        &[],
    );
    let old = old.unwrap();
    let next = "[defaults]\nrate=9\n[event.a]\n[limits]\nheaders=9\n[polling]\nmax=\"9s\"\n\
                [log]\nlevel=\"warn\"\nformat=\"json\"\n[store]\npath=\"x\"\n\
                [admin]\ntoken=\"0123456789abcdef\"";
    let next = load(next, &[], &[]).unwrap();
    let (merged, restart) = old.reloaded(&next);
    assert_eq!(restart, ["store.path", "admin.token", "log.format", "keys"]);
    let expected = Config {
        defaults: next.defaults.clone(),
        event: next.event.clone(),
        limits: next.limits.clone(),
        polling: Polling {
            min: Duration::from_secs(1),
            max: Duration::from_secs(9),
        },
        log: Log {
            level: next.log.level.clone(),
            format: old.log.format,
        },
        ..old.clone()
    };
    assert_eq!(merged, expected);
    assert_eq!(old.reloaded(&old), (old.clone(), vec![]));
}

/// Lines that are nearly a configuration, so that the conversion is reached and not just the parser.
fn nearly() -> impl Strategy<Value = String> {
    let keys: Vec<(&str, &str)> = known_keys()
        .chain(POLICY_FIELDS.map(|field| ("event.\"e.1\"", field)))
        .chain([
            ("keys.ticket", "k1"),
            ("keys.pass", "k1"),
            ("keys", "ticket"),
            ("event", "e"),
        ])
        .chain([("sever", "listen"), ("server", "lisen")])
        .collect();
    let values = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        any::<bool>().prop_map(|flag| flag.to_string()),
        "[a-z0-9:./*]{0,12}".prop_map(|text| format!("{text:?}")),
        (0u64..100_000, "(ms|s|m|h|d)").prop_map(|(n, unit)| format!("\"{n}{unit}\"")),
        any::<String>().prop_map(|text| format!("{text:?}")),
        Just("[]".to_owned()),
        Just("[\"*\", 1]".to_owned()),
        Just("{ a = 1 }".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("\"env:NO\"".to_owned()),
    ];
    let line = (prop::sample::select(keys), values)
        .prop_map(|((section, key), value)| format!("{section}.{key} = {value}\n"));
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

/// A configuration, or mistakes that each say where.
fn sound(result: Result<Config, Mistakes>) {
    match result {
        Ok(config) => assert_eq!(config.reloaded(&config).1, Vec::<String>::new()),
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty());
            for mistake in &mistakes.0 {
                let located = mistake.given.origin != Origin::Default
                    || matches!(&mistake.why, Why::Relation { other, .. }
                        if other.origin != Origin::Default)
                    || mistake.given.field.contains('.');
                assert!(located, "{mistake}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_named_mistakes(text in any::<String>()) {
        sound(load(&text, &[], &[]));
    }

    #[test]
    fn nearly_a_configuration_is_one_or_named_mistakes(text in nearly()) {
        sound(load(&text, &[], &[]));
    }

    #[test]
    fn any_setting_and_variable_is_fine_or_named(
        name in "[A-Za-z_]{0,12}(__[A-Za-z_\"]{0,12}){0,3}",
        value in any::<String>(),
        set in "[a-z.\"]{0,20}=?\\PC{0,20}",
    ) {
        sound(load("", &[(&format!("TIDEGATE__{name}"), &value)], &[&set]));
    }
}
