//! Finds the place of a key or value again, so that checks of meaning can point at it.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// The parsed file with the place of each key and value.
#[derive(Debug)]
pub(crate) struct Spans<'t> {
    file: PathBuf,
    text: &'t str,
    root: DeTable<'t>,
}

impl<'t> Spans<'t> {
    pub(crate) fn of(file: &Path, text: &'t str) -> Result<Self, ConfigError> {
        let root = DeTable::parse(text).map_err(|error| ConfigError::from_toml(file, text, &error))?;
        Ok(Self {
            file: file.to_path_buf(),
            text,
            root: root.into_inner(),
        })
    }

    /// An error at the value that `path` leads to. A step is a key, or the index of an array item. Where the path ends early (a key
    /// that is missing), the error points at the last key that is there.
    pub(crate) fn fault(&self, path: &[&str], message: impl Into<String>) -> ConfigError {
        match self.find(path, false) {
            Some(span) => ConfigError::at(&self.file, self.text, span, message),
            None => ConfigError::of_file(&self.file, message),
        }
    }

    /// The same at the last *key* of `path` and not at its value.
    pub(crate) fn fault_at_key(&self, path: &[&str], message: impl Into<String>) -> ConfigError {
        match self.find(path, true) {
            Some(span) => ConfigError::at(&self.file, self.text, span, message),
            None => ConfigError::of_file(&self.file, message),
        }
    }

    fn find(&self, path: &[&str], at_key: bool) -> Option<std::ops::Range<usize>> {
        let mut table = Some(&self.root);
        let mut array = None;
        let mut found = None;
        for (depth, step) in path.iter().enumerate() {
            let last = depth + 1 == path.len();
            let value = if let Some(here) = table {
                let (key, value) = here.iter().find(|(key, _)| key.get_ref() == *step)?.to_owned();
                let is_table = matches!(value.get_ref(), DeValue::Table(_));
                found = Some(if (at_key && last) || is_table {
                    key.span()
                } else {
                    value.span()
                });
                value
            } else if let Some(items) = array {
                let items: &toml::de::DeArray<'_> = items;
                let value = items.get(step.parse::<usize>().ok()?)?;
                found = Some(value.span());
                value
            } else {
                return found;
            };
            (table, array) = match value.get_ref() {
                DeValue::Table(next) => (Some(next), None),
                DeValue::Array(items) => (None, Some(items)),
                _ => (None, None),
            };
        }
        found
    }
}
