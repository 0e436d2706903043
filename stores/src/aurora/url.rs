//! `postgresql://user@host[:port]/database`, and nothing more.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DEFAULT_PORT: u16 = 5432;

/// Where to find one database, and as whom. Holds no password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url {
    user: String,
    host: String,
    port: u16,
    database: String,
}

impl Url {
    /// The role that logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Host name or address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The same server and role, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self {
            database: database.to_owned(),
            ..self.clone()
        }
    }

    /// Whether the host can only be this machine.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// The reasons never repeat the URL: it could hold a password.
impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "a URL has the form postgresql://user@host[:port]/database";
        let rest = text
            .strip_prefix("postgresql://")
            .or_else(|| text.strip_prefix("postgres://"))
            .ok_or(FORM)?;
        // The last @ ends the user: a password may hold one, and must not be taken for a host.
        let (user, rest) = rest
            .rsplit_once('@')
            .ok_or_else(|| format!("{FORM}; the user is missing"))?;
        if user.contains(':') {
            return Err(
                "the URL holds a password; take it out and refer to it by auth = { password = { env = \"...\" } }"
                    .to_owned(),
            );
        }
        let (place, database) = rest
            .split_once('/')
            .ok_or_else(|| format!("{FORM}; the database is missing"))?;
        if database.contains(['?', '#', '/']) || user.contains(['?', '#', '/']) {
            return Err(format!("{FORM}; it takes no parameters"));
        }
        let (host, port) = host_and_port(place)?;
        let url = Self {
            user: decoded(user)?,
            host: host.to_owned(),
            port,
            database: decoded(database)?,
        };
        if url.user.is_empty() || url.host.is_empty() || url.database.is_empty() {
            return Err(format!("{FORM}; none of them may be empty"));
        }
        Ok(url)
    }
}

fn host_and_port(place: &str) -> Result<(&str, u16), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed
                .split_once(']')
                .ok_or("the bracket of the IPv6 address is not closed")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("what stands in brackets is not an IPv6 address".to_owned());
            }
            match after {
                "" => (host, None),
                _ => (
                    host,
                    Some(
                        after
                            .strip_prefix(':')
                            .ok_or("a port follows an IPv6 address as [::1]:5432")?,
                    ),
                ),
            }
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.contains([',', '%', ' ']) {
        return Err("a URL names one host".to_owned());
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port != 0 => port,
            _ => return Err("the port is not a number from 1 to 65535".to_owned()),
        },
    };
    Ok((host, port))
}

/// Percent-decoding, as in any URL.
fn decoded(text: &str) -> Result<String, String> {
    const BAD: &str = "a % in a URL is followed by two hex digits";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(BAD)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(BAD.to_owned());
        }
        let digits = std::str::from_utf8(digits).map_err(|_| BAD)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| BAD)?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| "a URL is UTF-8".to_owned())
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgresql://{}@", encoded(&self.user))?;
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if self.port != DEFAULT_PORT {
            write!(f, ":{}", self.port)?;
        }
        write!(f, "/{}", encoded(&self.database))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Url;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("postgresql://user@host[:port]/database")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Url, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_told_apart() {
        let url: Url = "postgresql://drift%40line@db.example:6000/my%20orders".parse().unwrap();
        assert_eq!(
            (url.user(), url.host(), url.port(), url.database()),
            ("drift@line", "db.example", 6000, "my orders")
        );
        assert_eq!(url.to_string(), "postgresql://drift%40line@db.example:6000/my%20orders");
        let url: Url = "postgres://u@[::1]/d".parse().unwrap();
        assert_eq!((url.host(), url.port()), ("::1", 5432));
        assert_eq!(url.to_string(), "postgresql://u@[::1]/d");
        assert_eq!(url.with_database("x").to_string(), "postgresql://u@[::1]/x");
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for text in [
            "postgresql://u:hunter2@h/d",
            "postgresql://u:hun@ter2@h/d",
            "postgresql://u:@h/d",
            "postgresql://u@h/d?password=hunter2",
            "postgresql://u:hun/ter2@h/d",
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(!error.contains("hun"), "{error}");
        }
        assert!(
            "postgresql://u:hunter2@h/d"
                .parse::<Url>()
                .unwrap_err()
                .contains("holds a password")
        );
    }

    #[test]
    fn half_a_url_is_refused() {
        for text in [
            "",
            "h",
            "mysql://u@h/d",
            "postgresql://h/d",
            "postgresql://u@h",
            "postgresql://u@h/",
            "postgresql://@h/d",
            "postgresql://u@/d",
            "postgresql://u@h:0/d",
            "postgresql://u@h:99999/d",
            "postgresql://u@a,b/d",
            "postgresql://u@[::1/d",
            "postgresql://u@[h]/d",
            "postgresql://u@h/d%2",
            "postgresql://u@h/d%zz",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let at = |host: &str| format!("postgresql://u@{host}/d").parse::<Url>().unwrap().is_loopback();
        assert!(at("localhost") && at("127.0.0.1") && at("127.8.8.8") && at("[::1]"));
        assert!(!at("localhost.example.com") && !at("10.0.0.1") && !at("127.0.0.1.example.com"));
    }
}
