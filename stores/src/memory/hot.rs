//! Writes that go on while something is measured or compared.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::pair::{Pair, Side};
use super::rows::Fields;
use crate::{Key, Value};

/// A running load on a pair. It ends when this is dropped, at its next write.
#[derive(Debug)]
pub struct Hot {
    task: JoinHandle<()>,
}

impl Drop for Hot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pair {
    /// Updates a row of `table` every `every`, the keys in turn: `counter` grows by one with each write, from 1. Other columns of the
    /// row stay as the primary has them. Needs a tokio runtime; under paused time it writes at exact instants.
    pub fn update_hot(&self, table: &str, keys: Vec<Key>, counter: &str, every: Duration) -> Hot {
        let (pair, table, counter) = (self.clone(), table.to_owned(), counter.to_owned());
        self.load_with(keys, every, move |key, round| {
            let mut fields = pair.row(Side::Primary, &table, key).unwrap_or_default();
            fields.insert(counter.clone(), Value::Int(round));
            pair.put(&table, key.clone(), fields);
        })
    }

    /// Inserts and deletes rows of `table` in a loop, one change every `every`, the keys in turn.
    pub fn insert_and_delete(&self, table: &str, keys: Vec<Key>, fields: Fields, every: Duration) -> Hot {
        let (pair, table) = (self.clone(), table.to_owned());
        self.load_with(keys, every, move |key, round| {
            if round % 2 == 1 {
                pair.put(&table, key.clone(), fields.clone());
            } else {
                pair.delete(&table, key.clone());
            }
        })
    }

    /// Calls `change` with each key in turn and the number of the round, from 1.
    fn load_with(&self, keys: Vec<Key>, every: Duration, mut change: impl FnMut(&Key, i64) + Send + 'static) -> Hot {
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every.max(Duration::from_micros(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for round in 1..=i64::MAX {
                for key in &keys {
                    ticks.tick().await;
                    change(key, round);
                }
                if keys.is_empty() {
                    return;
                }
            }
        });
        Hot { task }
    }
}
