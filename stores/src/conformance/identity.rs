//! Contracts of `Identify`, `Catalog` and `Status`.

use super::{Fixture, Held, answer, described, hold};
use crate::{Identity, KeyShape, Role, StoreError};

async fn identities(fixture: &dyn Fixture) -> Held<[Identity; 2]> {
    let (primary, secondary) = (fixture.primary(), fixture.secondary());
    Ok([
        answer("identity", primary.identify.identity().await)?,
        answer("identity", secondary.identify.identity().await)?,
    ])
}

pub(super) async fn identify(fixture: &dyn Fixture) -> Held {
    let [primary, secondary] = identities(fixture).await?;
    let [primary_again, secondary_again] = identities(fixture).await?;
    for (one, again) in [(&primary, &primary_again), (&secondary, &secondary_again)] {
        hold(one.instance == again.instance, || {
            format!("one end is {} and then {}", one.instance, again.instance)
        })?;
        hold(one.same_data(again), || {
            format!("{} is not the same data as itself", one.instance)
        })?;
        hold(!one.instance.is_empty() && !one.version.is_empty(), || {
            format!("{one:?} says too little")
        })?;
    }
    hold(!primary.same_data(&secondary) && !secondary.same_data(&primary), || {
        format!("{} and {} count as the same data", primary.instance, secondary.instance)
    })?;
    hold(primary.store == secondary.store, || {
        "the ends name different stores".to_owned()
    })?;
    hold(primary.role == Role::Writable, || {
        "the primary says that it is read-only".to_owned()
    })
}

pub(super) async fn catalog(fixture: &dyn Fixture) -> Held {
    for end in [fixture.primary(), fixture.secondary()] {
        let Some(catalog) = &end.catalog else {
            continue;
        };
        let all = answer("collections", catalog.collections().await)?;
        let in_order = all.windows(2).all(|two| two[0].name < two[1].name);
        hold(in_order, || {
            "collections are not sorted by name, or one occurs twice".to_owned()
        })?;
        let Some(collection) = described(fixture, &end).await? else {
            continue;
        };
        let KeyShape::Usable { columns, .. } = &collection.key else {
            return Err(format!("the key is {:?}", collection.key));
        };
        let names: Vec<&String> = collection.columns.iter().map(|column| &column.name).collect();
        hold(
            !columns.is_empty() && columns.iter().all(|column| names.contains(&column)),
            || format!("key columns {columns:?} are not among {names:?}"),
        )?;
        let nullable = |name: &String| {
            collection
                .columns
                .iter()
                .any(|column| column.name == *name && column.nullable)
        };
        hold(!columns.iter().any(nullable), || {
            "a usable key has a nullable column".to_owned()
        })?;
        hold(collection.unreadable.is_none(), || {
            format!("unreadable: {:?}", collection.unreadable)
        })?;
        let body = collection.columns.iter().find(|column| column.name == "body");
        hold(body.is_some_and(|body| body.not_comparable.is_none()), || {
            format!("body is {body:?}")
        })?;
    }
    let here = described(fixture, &fixture.primary()).await?;
    let there = described(fixture, &fixture.secondary()).await?;
    let shapes = |collection: Option<crate::Collection>| collection.map(|found| (found.key, found.columns));
    let (here, there) = (shapes(here), shapes(there));
    hold(here == there, || {
        format!("the ends describe one collection as {here:?} and {there:?}")
    })
}

pub(super) async fn status(fixture: &dyn Fixture) -> Held {
    let mut figures = Vec::new();
    for end in [fixture.primary(), fixture.secondary()] {
        let Some(status) = &end.status else {
            return Ok(());
        };
        let identity = answer("identity", end.identify.identity().await)?;
        let native = answer("status", status.status().await)?;
        hold(native.identity.instance == identity.instance, || {
            format!(
                "status comes from {} and identity from {}",
                native.identity.instance, identity.instance
            )
        })?;
        hold(native.as_of_us > 0, || "as_of_us is not an instant".to_owned())?;
        let fork = status.fork().await;
        hold(matches!(fork, Err(StoreError::Unsupported(_))), || {
            format!("an end that was never promoted tells a fork: {fork:?}")
        })?;
        figures.push(native);
    }
    let in_writer = figures[0].lag_us.is_none() && figures[0].lag_bytes.is_none();
    hold(in_writer, || "the primary, which copies nobody, tells a lag".to_owned())
}
