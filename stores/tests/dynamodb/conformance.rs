//! The contracts that every store is held to.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use lab::TableSpec;
use stores::conformance::{Fixture, check};
use stores::{End, faulty};

use super::setup::{Kind, Two, number};

struct Tables(Two);

#[async_trait]
impl Fixture for Tables {
    fn primary(&self) -> End {
        self.0.ends[0].clone()
    }

    fn secondary(&self) -> End {
        self.0.ends[1].clone()
    }

    fn collection(&self) -> String {
        self.0.table.clone()
    }

    async fn put(&self, rows: &[(i64, Option<&str>)]) {
        for (key, body) in rows {
            let body = body.map_or(AttributeValue::Null(true), |body| AttributeValue::S(body.to_owned()));
            let put = self.0.pair.client(0).put_item().table_name(&self.0.table);
            put.item("id", number(key)).item("body", body).send().await.unwrap();
        }
    }

    async fn delete(&self, numbers: &[i64]) {
        for key in numbers {
            let delete = self.0.pair.client(0).delete_item().table_name(&self.0.table);
            delete.key("id", number(key)).send().await.unwrap();
        }
    }

    async fn settle(&self) {
        self.0.settle().await;
    }

    async fn stall(&self) {
        self.0.pair.stall();
    }

    async fn resume(&self) {
        self.0.pair.resume();
    }
}

async fn assert_holds(kind: Kind, is_wrapped: bool) {
    let rows = TableSpec::new("rows", "id", ScalarAttributeType::N);
    let mut tables = Tables(Two::start(kind, rows).await);
    if is_wrapped {
        tables.0.ends = tables.0.ends.each_ref().map(|end| faulty::wrap(end).0);
    }
    let breaches: Vec<String> = check(&tables).await.iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[tokio::test]
async fn an_embedded_pair_holds_every_contract() {
    assert_holds(Kind::Embedded, false).await;
}

#[tokio::test]
async fn so_does_dynamodb_local_within_the_wrapper() {
    assert_holds(Kind::Local, true).await;
}
