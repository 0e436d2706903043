//! Requests that ended in an error: how many, of what kind, and what is wrong now.
//!
//! A canary whose write nobody answered has no fate yet, so that the counts of fates stand still while a primary refuses all of them. What is
//! told here says so at once, and why.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The kind of a request that was given up; the others are those of `StoreError`.
pub(crate) const NO_ANSWER: &str = "no_answer";

/// Characters of an error that are kept for the status page.
const WORDS_MAX: usize = 400;

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried {
    Write,
    Poll,
}

impl Tried {
    /// As the metrics call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Poll => "poll",
        }
    }
}

/// Errors by what was tried and by their kind: a fixed set of words.
pub(crate) type ErrorCounts = BTreeMap<(&'static str, &'static str), u64>;

/// What the last request of its sort ended with, while it was an error.
#[derive(Debug)]
struct Now {
    kind: &'static str,
    words: String,
}

/// The errors of one stream.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    counts: Mutex<ErrorCounts>,
    write: Mutex<Option<Now>>,
    poll: Mutex<Option<Now>>,
}

impl Troubles {
    /// Counts an error. `true`: it is news, since the last request succeeded or failed in another way.
    pub(crate) fn failed(&self, tried: Tried, kind: &'static str, error: &str) -> bool {
        *self.counts().entry((tried.word(), kind)).or_default() += 1;
        let words = error.chars().take(WORDS_MAX).collect();
        let before = self.now(tried).replace(Now { kind, words });
        before.is_none_or(|before| before.kind != kind)
    }

    /// A request was answered. `true`: the one before it was not.
    pub(crate) fn succeeded(&self, tried: Tried) -> bool {
        self.now(tried).take().is_some()
    }

    /// Whether the last request of this sort ended in an error.
    pub(crate) fn is_failing(&self, tried: Tried) -> bool {
        self.now(tried).is_some()
    }

    /// What is wrong now; `None`: nothing is known to be.
    pub(crate) fn words(&self, tried: Tried) -> Option<String> {
        self.now(tried).as_ref().map(|now| now.words.clone())
    }

    /// What was counted since the last time.
    pub(crate) fn take_counts(&self) -> ErrorCounts {
        std::mem::take(&mut *self.counts())
    }

    fn now(&self, tried: Tried) -> MutexGuard<'_, Option<Now>> {
        let now = match tried {
            Tried::Write => &self.write,
            Tried::Poll => &self.poll,
        };
        now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> MutexGuard<'_, ErrorCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_news_once_and_again_in_another_way_and_is_over_with_the_next_answer() {
        let troubles = Troubles::default();
        assert!(!troubles.succeeded(Tried::Write), "nothing was wrong");
        assert!(troubles.failed(Tried::Write, "config", "refused"));
        assert!(!troubles.failed(Tried::Write, "config", "refused again"));
        assert_eq!(troubles.words(Tried::Write).as_deref(), Some("refused again"));
        assert_eq!(troubles.words(Tried::Poll), None, "another end");
        assert_eq!(
            [Tried::Write, Tried::Poll].map(|tried| troubles.is_failing(tried)),
            [true, false]
        );
        assert!(troubles.failed(Tried::Write, NO_ANSWER, "silence"));
        assert!(troubles.succeeded(Tried::Write));
        assert_eq!(troubles.words(Tried::Write), None);
        let counts = troubles.take_counts();
        assert_eq!(
            counts,
            BTreeMap::from([(("write", "config"), 2), (("write", NO_ANSWER), 1)])
        );
        assert_eq!(troubles.take_counts(), BTreeMap::new(), "each is counted once");
    }

    #[test]
    fn what_is_kept_of_an_error_is_bounded() {
        let troubles = Troubles::default();
        troubles.failed(Tried::Poll, "corrupt", &"\u{e4}".repeat(10_000));
        assert_eq!(troubles.words(Tried::Poll).unwrap().chars().count(), WORDS_MAX);
    }
}
