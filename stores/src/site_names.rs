//! The name of one thing at each of its sites.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `"catalog"`, the same at every site, or `{ use1 = "catalog", usw2 = "catalog_v2" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteNames {
    /// One name everywhere.
    Everywhere(String),
    /// A name for each site.
    BySite(BTreeMap<String, String>),
}

impl SiteNames {
    /// The name at `site`; `None`: it does not exist there.
    pub fn at(&self, site: &str) -> Option<&str> {
        match self {
            Self::Everywhere(name) => Some(name),
            Self::BySite(names) => names.get(site).map(String::as_str),
        }
    }

    /// The name that stands for all of them in evidence: the one at `primary`, or the first.
    pub fn shown(&self, primary: &str) -> &str {
        match self {
            Self::Everywhere(name) => name,
            Self::BySite(names) => names
                .get(primary)
                .or_else(|| names.values().next())
                .map_or("", String::as_str),
        }
    }

    /// The sites that are named; `None`: every site of the dataset.
    pub fn sites(&self) -> Option<impl Iterator<Item = &str>> {
        match self {
            Self::Everywhere(_) => None,
            Self::BySite(names) => Some(names.keys().map(String::as_str)),
        }
    }
}

impl Serialize for SiteNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Everywhere(name) => serializer.serialize_str(name),
            Self::BySite(names) => names.serialize(serializer),
        }
    }
}

/// By hand: serde's own choice between forms loses the place of a fault.
impl<'de> Deserialize<'de> for SiteNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = SiteNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or one for each site: { use1 = \"...\", usw2 = \"...\" }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<SiteNames, E> {
                if name.is_empty() {
                    return Err(E::custom("an empty name"));
                }
                Ok(SiteNames::Everywhere(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SiteNames, A::Error> {
                let names = BTreeMap::<String, String>::deserialize(MapAccessDeserializer::new(map))?;
                if names.len() < 2 {
                    return Err(de::Error::custom("a copy needs a name at two sites at least"));
                }
                Ok(SiteNames::BySite(names))
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        name: SiteNames,
    }

    fn parse(text: &str) -> Result<SiteNames, String> {
        toml::from_str::<Holder>(text)
            .map(|holder| holder.name)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_the_same_everywhere_or_stated_for_each_site() {
        let everywhere = parse("name = \"catalog\"").unwrap();
        assert_eq!(
            (everywhere.at("use1"), everywhere.shown("usw2")),
            (Some("catalog"), "catalog")
        );
        let by_site = parse("name = { use1 = \"a\", usw2 = \"b\" }").unwrap();
        assert_eq!((by_site.at("usw2"), by_site.at("euw1")), (Some("b"), None));
        assert_eq!((by_site.shown("usw2"), by_site.shown("euw1")), ("b", "a"));
    }

    #[test]
    fn half_a_name_is_refused() {
        for (text, words) in [
            ("name = \"\"", "an empty name"),
            ("name = { use1 = \"a\" }", "two sites"),
            ("name = 5", "one for each site"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
