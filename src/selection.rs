//! Which collections a dataset selects.

use globset::{GlobBuilder, GlobMatcher};
use stores::Collection;

use crate::config::Tables;

/// A pattern of `schema.table` in which `*` and `?` do not cross the dot.
pub(crate) fn pattern(text: &str) -> Result<GlobMatcher, globset::Error> {
    // The dot plays the part of the path separator.
    let path = text.replace('.', "/");
    Ok(GlobBuilder::new(&path)
        .literal_separator(true)
        .backslash_escape(true)
        .build()?
        .compile_matcher())
}

/// The patterns of one dataset, compiled.
#[derive(Debug)]
pub(crate) struct Selection {
    include: Vec<(String, GlobMatcher)>,
    exclude: Vec<GlobMatcher>,
}

impl Selection {
    pub(crate) fn of(tables: &Tables) -> Result<Self, globset::Error> {
        Ok(Self {
            include: tables
                .tables
                .iter()
                .map(|text| Ok((text.clone(), pattern(text)?)))
                .collect::<Result<_, globset::Error>>()?,
            exclude: tables
                .exclude
                .iter()
                .map(|text| pattern(text))
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn selects(&self, name: &str) -> bool {
        let path = name.replace('.', "/");
        self.include.iter().any(|(_, glob)| glob.is_match(&path))
            && !self.exclude.iter().any(|glob| glob.is_match(&path))
    }

    /// The patterns that match none of `collections`: a typo there must not pass in silence.
    pub(crate) fn unmatched<'a>(&'a self, collections: &[Collection]) -> Vec<&'a str> {
        self.include
            .iter()
            .filter(|(_, glob)| {
                !collections
                    .iter()
                    .any(|collection| glob.is_match(collection.name.replace('.', "/")))
            })
            .map(|(text, _)| text.as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        Selection::of(&Tables {
            connection: "c".into(),
            tables: include.iter().map(|s| (*s).into()).collect(),
            exclude: exclude.iter().map(|s| (*s).into()).collect(),
            labels: Default::default(),
            table: Default::default(),
        })
        .unwrap()
    }

    #[test]
    fn a_star_stays_within_its_schema() {
        let s = selection(&["public.pay_*"], &["public.pay_log"]);
        assert!(s.selects("public.pay_in"));
        assert!(!s.selects("public.pay_log"));
        assert!(!s.selects("other.pay_in"));
        assert!(!selection(&["*"], &[]).selects("public.orders"));
        assert!(selection(&["*.*"], &[]).selects("public.orders"));
    }

    #[test]
    fn a_broken_pattern_is_an_error() {
        assert!(pattern("public.[a").is_err());
    }
}
