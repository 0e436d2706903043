//! Secrets by reference: read when they are needed, and never shown.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Where a secret is kept: `{ env = "NAME" }` or `{ file = "PATH" }`.
///
/// It is read at each use, so that a rotated secret is taken up without a restart. What is serialised is the reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// The value of an environment variable.
    Env(String),
    /// The contents of a file, less one line break at the end.
    File(PathBuf),
}

/// By hand, because serde's own errors repeat what they found, and what stands in the wrong place here is often the password.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Reference {
            env: Option<String>,
            file: Option<PathBuf>,
        }
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ env = \"...\" } or { file = \"...\" }")
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Secret, E> {
                Err(misplaced())
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(misplaced())
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(misplaced())
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(misplaced())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
                let reference = Reference::deserialize(MapAccessDeserializer::new(map))?;
                match (reference.env, reference.file) {
                    (Some(name), None) => Ok(Secret::Env(name)),
                    (None, Some(path)) => Ok(Secret::File(path)),
                    _ => Err(de::Error::custom(
                        "a secret is in one place: { env = \"...\" } or { file = \"...\" }",
                    )),
                }
            }
        }
        deserializer.deserialize_any(Table)
    }
}

fn misplaced<E: de::Error>() -> E {
    E::custom(
        "a secret itself must not stand in the configuration; refer to it: { env = \"...\" } or { file = \"...\" }",
    )
}

/// Why a secret could not be read. Names the place, never the contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Set the variable.
    #[error("environment variable {0} is not set")]
    Unset(String),
    /// Correct the value of the variable.
    #[error("environment variable {0} is not valid UTF-8")]
    NotText(String),
    /// Correct the path, the rights or the contents.
    #[error("secret file {path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// Give it a value.
    #[error("the secret in {0} is empty")]
    Empty(String),
}

/// A secret in clear. Neither `Display` nor `Serialize`; `Debug` prints `[secret]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed(String);

impl Revealed {
    /// The secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Revealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// A secret file larger than this is something else.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

impl Secret {
    /// Reads it now.
    ///
    /// # Errors
    /// When it is not there, not text, empty, or larger than 64 KiB.
    pub fn reveal(&self) -> Result<Revealed, SecretError> {
        let value = match self {
            Self::Env(name) => match std::env::var(name) {
                Ok(value) => value,
                Err(std::env::VarError::NotPresent) => return Err(SecretError::Unset(name.clone())),
                Err(std::env::VarError::NotUnicode(_)) => return Err(SecretError::NotText(name.clone())),
            },
            Self::File(path) => read_bounded(path)?,
        };
        if value.is_empty() {
            return Err(SecretError::Empty(self.place()));
        }
        Ok(Revealed(value))
    }

    fn place(&self) -> String {
        match self {
            Self::Env(name) => format!("environment variable {name}"),
            Self::File(path) => path.display().to_string(),
        }
    }
}

fn read_bounded(path: &std::path::Path) -> Result<String, SecretError> {
    use std::io::Read as _;
    let unreadable = |cause: String| SecretError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(error.to_string()))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > SECRET_BYTES_MAX {
        return Err(unreadable(format!("larger than {SECRET_BYTES_MAX} bytes")));
    }
    let mut value = String::from_utf8(bytes).map_err(|_| unreadable("not valid UTF-8".to_owned()))?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_each_time_and_loses_one_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let secret = Secret::File(path.clone());
        assert!(matches!(secret.reveal(), Err(SecretError::Unreadable { .. })));
        std::fs::write(&path, "first\n\n").unwrap();
        assert_eq!(secret.reveal().unwrap().expose(), "first\n");
        std::fs::write(&path, "second\r\n").unwrap();
        assert_eq!(secret.reveal().unwrap().expose(), "second");
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(secret.reveal(), Err(SecretError::Empty(path.display().to_string())));
    }

    #[test]
    fn what_is_not_a_secret_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, b"hunter\xff").unwrap();
        let error = Secret::File(path.clone()).reveal().unwrap_err().to_string();
        assert!(
            error.contains("not valid UTF-8") && !error.contains("hunter"),
            "{error}"
        );
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        let error = Secret::File(path).reveal().unwrap_err().to_string();
        assert!(error.contains("larger than"), "{error}");
    }

    #[test]
    fn the_environment_is_read_and_named() {
        assert_eq!(
            Secret::Env("CARGO_PKG_NAME".to_owned()).reveal().unwrap().expose(),
            "stores"
        );
        let error = Secret::Env("DRIFTLINE_TEST_NOT_SET".to_owned()).reveal().unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable DRIFTLINE_TEST_NOT_SET is not set"
        );
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Revealed("hunter2".to_owned())), "[secret]");
    }
}
