//! `[connection.NAME.aurora]`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::url::Url;
use crate::Relation;
use crate::secret::Secret;

/// How to reach one PostgreSQL (Aurora or not) on each of its sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How sessions prove who they are.
    #[serde(default)]
    pub auth: Auth,
    /// How servers prove who they are. Default: a certificate for that host from an authority that the system trusts.
    #[serde(default)]
    pub tls: Tls,
    /// Where the canaries live.
    #[serde(default)]
    pub canary: CanaryPlace,
    /// How the copies are related, when it cannot be detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<Relation>,
    /// What proves that the secondary has passed a point of the primary, where it is not to be what the copies offer by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceChoice>,
    /// The sites that take writes, where they are not those of the whole configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writers: Option<Vec<String>>,
    /// The endpoints of each site.
    pub sites: BTreeMap<String, Endpoints>,
}

/// `{ time = "1m" }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FenceChoice {
    /// So long behind the look at the primary, the secondary is looked at: at least ten times the worst lag of the last hour. How far it is has to be
    /// told all the same, by a position or by the store's own lag: without that, time proves nothing of a copy that stands still.
    Time(jiff::SignedDuration),
}

/// The endpoints of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// Answers from a server that takes writes (at a secondary: once promoted).
    pub writer: Url,
    /// Answers from a server that is read. Default: the writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<Url>,
}

/// Where the canaries live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryPlace {
    /// The database. On a physical copy it is one of its own: a canary ring in the application's database makes recovery
    /// conflicts with the queries on a standby.
    pub database: String,
}

impl Config {
    /// What the types alone cannot hold: a `"disable"` that meets a host that is not loopback.
    ///
    /// # Errors
    /// The reason, in words that name the site.
    pub fn check(&self) -> Result<(), String> {
        if self.tls != Tls::Disable {
            return Ok(());
        }
        for (site, endpoints) in &self.sites {
            for url in [Some(&endpoints.writer), endpoints.reader.as_ref()]
                .into_iter()
                .flatten()
            {
                if !url.is_loopback() {
                    return Err(format!(
                        "tls = \"disable\" is for loopback hosts only, and site {site} is at {}; \
                         use tls = {{ ca_file = \"...\" }} or leave tls out",
                        url.host()
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Endpoints {
    /// The URL of `endpoint`.
    pub fn url(&self, endpoint: Endpoint) -> &Url {
        match endpoint {
            Endpoint::Writer => &self.writer,
            Endpoint::Reader => self.reader.as_ref().unwrap_or(&self.writer),
        }
    }
}

/// Which endpoint of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The one that takes writes.
    Writer,
    /// The one that is read.
    Reader,
}

impl Default for CanaryPlace {
    fn default() -> Self {
        Self {
            database: "driftline".to_owned(),
        }
    }
}

/// `{ password = { env | file } }`, `"iam"` or `"trusted"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// No password is sent: the server has to trust the user in the URL. The default.
    #[default]
    Trusted,
    /// A password, read at each connect.
    Password(Secret),
    /// A token of AWS IAM, minted at each connect. Parsed, and refused at connect: this version cannot mint one.
    Iam,
}

/// `{ ca_file = "..." }`, `"disable"` or `"system"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tls {
    /// Verified against the authorities that the system trusts.
    #[default]
    SystemRoots,
    /// Verified against the authorities in this PEM file alone.
    CaFile(PathBuf),
    /// None. For loopback hosts only.
    Disable,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordTable {
    password: Secret,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaFileTable {
    ca_file: PathBuf,
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrTable;
        impl<'de> Visitor<'de> for WordOrTable {
            type Value = Auth;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"iam\" or { password = { env = \"...\" } } or { password = { file = \"...\" } }")
            }
            // What was found is not repeated: it could be a password that somebody put here.
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Auth, E> {
                match word {
                    "iam" => Ok(Auth::Iam),
                    "trusted" => Ok(Auth::Trusted),
                    _ => Err(not_auth()),
                }
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Auth, E> {
                Err(not_auth())
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Auth, E> {
                Err(not_auth())
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Auth, E> {
                Err(not_auth())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Auth, A::Error> {
                PasswordTable::deserialize(MapAccessDeserializer::new(map)).map(|table| Auth::Password(table.password))
            }
        }
        deserializer.deserialize_any(WordOrTable)
    }
}

fn not_auth<E: de::Error>() -> E {
    E::custom(
        "auth must be \"iam\" or { password = { env = \"...\" } } or { password = { file = \"...\" } }; \
         a password itself must not stand in the configuration",
    )
}

impl Serialize for Auth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Trusted => serializer.serialize_str("trusted"),
            Self::Password(secret) => PasswordTable {
                password: secret.clone(),
            }
            .serialize(serializer),
            Self::Iam => serializer.serialize_str("iam"),
        }
    }
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrTable;
        impl<'de> Visitor<'de> for WordOrTable {
            type Value = Tls;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"system\", \"disable\" or { ca_file = \"...\" }")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Tls, E> {
                match word {
                    "system" => Ok(Tls::SystemRoots),
                    "disable" => Ok(Tls::Disable),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tls, A::Error> {
                CaFileTable::deserialize(MapAccessDeserializer::new(map)).map(|table| Tls::CaFile(table.ca_file))
            }
        }
        deserializer.deserialize_any(WordOrTable)
    }
}

impl Serialize for Tls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::SystemRoots => serializer.serialize_str("system"),
            Self::CaFile(ca_file) => CaFileTable {
                ca_file: ca_file.clone(),
            }
            .serialize(serializer),
            Self::Disable => serializer.serialize_str("disable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "[sites.use1]\nwriter = \"postgresql://driftline@db.example/orders\"\n";

    fn parsed(head: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(&format!("{head}\n{SITE}"))
    }

    /// The line that an error points to, from 1.
    fn line(text: &str, error: &toml::de::Error) -> usize {
        text[..error.span().unwrap().start].matches('\n').count() + 1
    }

    #[test]
    fn defaults_are_safe() {
        let config = parsed("").unwrap();
        assert_eq!((config.auth, config.tls), (Auth::Trusted, Tls::SystemRoots));
        assert_eq!(config.canary.database, "driftline");
        let endpoints = &config.sites["use1"];
        assert_eq!(endpoints.url(Endpoint::Reader), &endpoints.writer);
    }

    #[test]
    fn strings_and_tables_are_both_understood() {
        let password = |secret| Auth::Password(secret);
        for (text, auth) in [
            (
                "auth = { password = { env = \"P\" } }",
                password(Secret::Env("P".to_owned())),
            ),
            (
                "auth = { password = { file = \"/p\" } }",
                password(Secret::File("/p".into())),
            ),
            ("auth = \"iam\"", Auth::Iam),
        ] {
            assert_eq!(parsed(text).unwrap().auth, auth);
        }
        let timed = parsed("fence = { time = \"90s\" }").unwrap();
        assert_eq!(
            timed.fence,
            Some(FenceChoice::Time(jiff::SignedDuration::from_secs(90)))
        );
        for (text, tls) in [
            ("tls = \"disable\"", Tls::Disable),
            ("tls = { ca_file = \"/ca.pem\" }", Tls::CaFile("/ca.pem".into())),
        ] {
            assert_eq!(parsed(text).unwrap().tls, tls);
        }
        assert_eq!(
            parsed("relation = \"independent\"").unwrap().relation,
            Some(Relation::Independent)
        );
    }

    #[test]
    fn what_is_printed_can_be_read_again_and_holds_no_secret() {
        let config = parsed(
            "auth = { password = { env = \"PATH\" } }\ntls = { ca_file = \"/ca.pem\" }\nrelation = \"frozen\"\nfence = { time = \"1m\" }\nwriters = [\"use1\"]",
        )
        .unwrap();
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&printed).unwrap(), config);
        let path = std::env::var("PATH").unwrap();
        assert!(!printed.contains(&path) && !format!("{config:?}").contains(&path));
    }

    #[test]
    fn a_password_in_the_wrong_place_is_refused_at_its_line_and_not_repeated() {
        for (head, at) in [
            ("tls = \"system\"\nauth = \"hunter2\"", 2),
            ("auth = { password = \"hunter2\" }", 1),
        ] {
            let error = parsed(head).unwrap_err();
            assert_eq!(line(&format!("{head}\n{SITE}"), &error), at);
            let message = error.message();
            assert!(!message.contains("hunter2") && !message.contains("7234"), "{message}");
        }
        let text = "[sites.use1]\nwriter = \"postgresql://driftline:hunter2@db.example/orders\"\n";
        let error = toml::from_str::<Config>(text).unwrap_err();
        assert_eq!(line(text, &error), 2);
        assert!(error.message().contains("holds a password") && !error.message().contains("hunter2"));
    }

    #[test]
    fn unknown_keys_are_refused_at_every_level() {
        for head in [
            "atuh = \"iam\"",
            "auth = { pasword = { env = \"P\" } }",
            "auth = { password = { environment = \"P\" } }",
            "auth = { password = { env = \"P\", file = \"/p\" } }",
            "tls = { ca = \"/ca.pem\" }",
            "tls = \"off\"",
            "canary = { databse = \"x\" }",
            "relation = \"replicated\"",
            "fence = \"time\"",
            "fence = { tiem = \"1m\" }",
        ] {
            assert!(parsed(head).is_err(), "{head}");
        }
        assert!(toml::from_str::<Config>(&format!("{SITE}wirter = \"x\"")).is_err());
        assert!(toml::from_str::<Config>("").is_err(), "sites are needed");
    }

    #[test]
    fn tls_is_off_for_loopback_only() {
        let reason = parsed("tls = \"disable\"").unwrap().check().unwrap_err();
        assert!(reason.contains("use1") && reason.contains("db.example"), "{reason}");
        let local = "tls = \"disable\"\n[sites.use1]\nwriter = \"postgresql://u@127.0.0.1/d\"\n";
        toml::from_str::<Config>(local).unwrap().check().unwrap();
    }
}
