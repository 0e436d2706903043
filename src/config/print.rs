//! The effective configuration, as a person would write it.

use super::Config;

pub(super) fn effective(config: &Config) -> Result<String, toml::ser::Error> {
    toml::to_string(config)
}
