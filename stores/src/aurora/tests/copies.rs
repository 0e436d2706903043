//! Copies that nobody reads to their end.

use std::sync::Arc;

use futures::poll;

use super::setup::{One, sessions};
use crate::aurora::tables::{Fencing, Tables};
use crate::{Catalog as _, DigestMode, Part, Ranged as _, StoreError};

/// A batch that is not waited for has taken rows from the wire: what would be read behind it is no longer the whole part.
#[tokio::test]
async fn a_copy_is_not_read_on_behind_a_batch_that_nobody_waited_for() {
    let one = One::start().await;
    let many = "insert into public.granted select n, repeat('x', 200) from generate_series(3, 50000) n";
    one.server.execute("app", many).await.unwrap();
    let tables = Tables::new(Arc::new(sessions(&one.config, "use1", 2)), Fencing::Log);
    let listed = tables.collections().await.unwrap();
    let granted = listed.iter().find(|one| one.name == "public.granted").unwrap();
    let columns = ["id", "note"].map(str::to_owned);
    let recipe = tables.recipe(granted, &columns, 1).await.unwrap();
    let recipe = recipe.hashed(DigestMode::Client).unwrap();
    let mut copying = tables
        .copy_part((granted, &Part::ALL), &recipe, "copy".to_owned())
        .await
        .unwrap();
    loop {
        let next = Box::pin(copying.next(None));
        match poll!(next) {
            std::task::Poll::Ready(batch) => assert!(batch.unwrap().is_some(), "all of it was there at once"),
            std::task::Poll::Pending => break,
        }
    }
    for _ in 0..2 {
        let Err(error) = copying.next(None).await else {
            panic!("it was read on");
        };
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    }
}
