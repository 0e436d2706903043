//! Polls that did not show a canary, kept for the low end of its lag.
//!
//! A miss counts for a canary only if it was a strong read of the instance that later hits, covered the canary's slot, and was sent
//! after the canary left and before the poll that hit. Answers may come out of order, so several instants are kept.

/// Instants that are kept for one instance, or one canary: more than polls can be in flight.
const INSTANTS_MAX: usize = 8;

/// Instances of the secondary whose misses are remembered (replicas behind one endpoint). Beyond it the one that answered
/// longest ago is forgotten, which can only make a low end unknown.
pub const INSTANCES_MAX: usize = 16;

/// Numbers instances, so that a miss takes few bytes.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    /// (name, number), the one that answered last at the end.
    known: Vec<(String, u32)>,
    given: u32,
}

impl Instances {
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        let instance = match self.known.iter().position(|(known, _)| known == name) {
            Some(index) => self.known.remove(index),
            None => {
                self.given = self.given.wrapping_add(1);
                if self.known.len() >= INSTANCES_MAX {
                    self.known.remove(0);
                }
                (name.to_owned(), self.given)
            }
        };
        let number = instance.1;
        self.known.push(instance);
        number
    }
}

/// When polls that missed were sent: (sent, instance), sorted.
#[derive(Debug, Default)]
pub(crate) struct Misses(Vec<(u64, u32)>);

impl Misses {
    /// Keeps the latest instants of each instance, and of few instances.
    pub(crate) fn note(&mut self, instance: u32, sent_us: u64) {
        let at = self.0.partition_point(|(sent, _)| *sent <= sent_us);
        self.0.insert(at, (sent_us, instance));
        if self.0.iter().filter(|(_, of)| *of == instance).count() > INSTANTS_MAX
            && let Some(oldest) = self.0.iter().position(|(_, of)| *of == instance)
        {
            self.0.remove(oldest);
        }
        if self.0.len() > INSTANTS_MAX * INSTANCES_MAX {
            self.0.remove(0);
        }
    }

    /// The latest miss of `instance` that was sent before an instant.
    pub(crate) fn before(&self, instance: u32, sent_us: u64) -> Option<u64> {
        self.0
            .iter()
            .rev()
            .find(|(sent, of)| *of == instance && *sent < sent_us)
            .map(|(sent, _)| *sent)
    }

    /// The latest miss of whatever instance.
    pub(crate) fn latest(&self) -> Option<u64> {
        self.0.last().map(|(sent, _)| *sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_miss_before_the_hit_counts_however_answers_come_in() {
        let mut misses = Misses::default();
        for (instance, sent_us) in [(1, 300), (1, 100), (2, 350), (1, 200)] {
            misses.note(instance, sent_us);
        }
        assert_eq!(
            misses.before(1, 300),
            Some(200),
            "not the poll that hit, nor a later one"
        );
        assert_eq!(misses.before(1, 301), Some(300));
        assert_eq!(misses.before(2, 300), None, "another instance");
        assert_eq!(misses.latest(), Some(350));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut misses = Misses::default();
        let mut instances = Instances::default();
        for sent_us in 0..10_000 {
            let number = instances.number(&format!("i{}", sent_us % 40));
            misses.note(number, sent_us);
        }
        assert!(misses.0.len() <= INSTANTS_MAX * INSTANCES_MAX);
        assert_eq!(instances.known.len(), INSTANCES_MAX);
    }
}
