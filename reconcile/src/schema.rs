//! What the catalogs of both ends show differently, and proof that it is not only in flight.

use serde::{Deserialize, Serialize};
use stores::{Class, Collection, Column, Definition, KeyShape, Relation};

use crate::link::Link;
use crate::progress::Listener;
use crate::retry::{asked, passed};
use crate::{FenceKind, Pair, Request, Selected};

/// One difference of the catalogs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaDifference {
    /// `Schema`, or `Position` of a counter.
    pub class: Class,
    /// In words.
    pub detail: String,
    /// The columns; empty = the collection as a whole.
    pub columns: Vec<String>,
}

/// What two catalogs say together of one collection.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// Differences that the configuration does not exclude.
    pub(crate) differences: Vec<SchemaDifference>,
    /// Columns that are compared, in the primary's order.
    pub(crate) common: Vec<String>,
    /// Columns of the key or others that differ, and so are not compared.
    pub(crate) differing: Vec<String>,
    /// Columns that were excluded and exist.
    pub(crate) excluded: Vec<String>,
    /// Columns of like type that cannot be compared, with the reason.
    pub(crate) not_comparable: Vec<String>,
    /// The column of change times, if both sides have it.
    pub(crate) changed_at: Option<String>,
}

/// Compares what the catalogs say.
pub(crate) fn shape(primary_site: &str, secondary_site: &str, selected: &Selected) -> Shape {
    let (primary, secondary) = match (&selected.primary, &selected.secondary) {
        (Some(primary), Some(secondary)) => (primary, secondary),
        (primary, secondary) => return on_one_side(primary_site, secondary_site, primary.as_ref(), secondary.as_ref()),
    };
    let mut shape = Shape::default();
    let is_excluded = |name: &String| selected.settings.exclude_columns.contains(name) && !is_key(primary, name);
    for column in &primary.columns {
        if is_excluded(&column.name) {
            shape.excluded.push(column.name.clone());
            continue;
        }
        match find(secondary, &column.name) {
            None => shape.differs(format!("column exists at site {primary_site} only"), &column.name),
            Some(other) if other.type_name != column.type_name => {
                let detail = format!(
                    "type is {} at site {primary_site} and {} at site {secondary_site}",
                    column.type_name, other.type_name
                );
                shape.differs(detail, &column.name);
            }
            Some(other) if other.nullable != column.nullable => {
                let site = if column.nullable { primary_site } else { secondary_site };
                shape.differences.push(SchemaDifference {
                    class: Class::Schema,
                    detail: format!("column may be NULL at site {site} only"),
                    columns: vec![column.name.clone()],
                });
                shape.compare_or_say_why(column, other);
            }
            Some(other) => shape.compare_or_say_why(column, other),
        }
    }
    for column in &secondary.columns {
        if find(primary, &column.name).is_some() {
            continue;
        }
        if is_excluded(&column.name) {
            shape.excluded.push(column.name.clone());
        } else {
            shape.differs(format!("column exists at site {secondary_site} only"), &column.name);
        }
    }
    shape
        .differences
        .extend(definitions(primary_site, secondary_site, primary, secondary));
    let changed_at = selected.settings.changed_at.as_ref();
    shape.changed_at = changed_at
        .filter(|name| find(primary, name).is_some() && find(secondary, name).is_some())
        .cloned();
    shape
}

impl Shape {
    fn compare_or_say_why(&mut self, column: &Column, other: &Column) {
        match column.not_comparable.as_ref().or(other.not_comparable.as_ref()) {
            Some(reason) => self.not_comparable.push(format!("{} ({reason})", column.name)),
            None => self.common.push(column.name.clone()),
        }
    }

    fn differs(&mut self, detail: String, column: &str) {
        self.differing.push(column.to_owned());
        self.differences.push(SchemaDifference {
            class: Class::Schema,
            detail,
            columns: vec![column.to_owned()],
        });
    }
}

/// Indexes, constraints and the like that one side has more of than the other.
fn definitions(
    primary_site: &str,
    secondary_site: &str,
    primary: &Collection,
    secondary: &Collection,
) -> Vec<SchemaDifference> {
    let more = |site: &str, here: &[Definition], there: &[Definition]| -> Vec<SchemaDifference> {
        let count = |list: &[Definition], one: &Definition| list.iter().filter(|other| *other == one).count();
        let mut told: Vec<&Definition> = here.iter().filter(|one| count(here, one) > count(there, one)).collect();
        told.dedup();
        told.into_iter()
            .map(|one| SchemaDifference {
                class: Class::Schema,
                detail: format!("{} exists at site {site} only: {}", one.kind, one.text),
                columns: Vec::new(),
            })
            .collect()
    };
    let mut differences = more(primary_site, &primary.definitions, &secondary.definitions);
    differences.extend(more(secondary_site, &secondary.definitions, &primary.definitions));
    differences
}

fn on_one_side(
    primary_site: &str,
    secondary_site: &str,
    primary: Option<&Collection>,
    secondary: Option<&Collection>,
) -> Shape {
    let site = match (primary, secondary) {
        (Some(_), _) => primary_site,
        (None, Some(_)) => secondary_site,
        (None, None) => return Shape::default(),
    };
    Shape {
        differences: vec![SchemaDifference {
            class: Class::Schema,
            detail: format!("the collection exists at site {site} only"),
            columns: Vec::new(),
        }],
        ..Shape::default()
    }
}

fn find<'a>(collection: &'a Collection, name: &str) -> Option<&'a Column> {
    collection.columns.iter().find(|column| column.name == name)
}

fn is_key(collection: &Collection, name: &String) -> bool {
    matches!(&collection.key, KeyShape::Usable { columns, .. } if columns.contains(name))
}

/// Looks again, behind a fence, at collections whose catalogs differ: on a replicating pair a change of the schema may be in flight.
/// Gives each selected collection as it is now, and why its differences are not confirmed (empty: they are, or there are none).
pub(crate) async fn settle(
    pair: &Pair,
    request: &Request,
    link: &Link,
    instances: (&str, &str),
    listener: Listener<'_>,
) -> Vec<(Selected, String)> {
    let mut selected: Vec<(Selected, String)> = request
        .selected
        .iter()
        .map(|one| (one.clone(), String::new()))
        .collect();
    let differs = |one: &Selected| {
        !shape(&pair.primary.site, &pair.secondary.site, one)
            .differences
            .is_empty()
    };
    if pair.relation != Relation::Replicating || !selected.iter().any(|(one, _)| differs(one)) {
        return selected;
    }
    let looked = look_again(pair, request, link, instances, listener).await;
    for (one, undecided) in selected.iter_mut().filter(|(one, _)| differs(one)) {
        match &looked {
            Ok((primary, secondary)) => {
                if let Err(reason) = refresh(one, primary, secondary) {
                    *undecided = reason;
                }
            }
            Err(reason) => undecided.clone_from(reason),
        }
    }
    selected
}

/// Takes what the catalogs show now. What one side lacked is looked for by the other side's name: it may have arrived.
fn refresh(one: &mut Selected, primary: &[Collection], secondary: &[Collection]) -> Result<(), String> {
    let name_at = |own: &Option<Collection>, other: &Option<Collection>| {
        own.as_ref()
            .or(other.as_ref())
            .map(|collection| collection.name.clone())
    };
    let find =
        |list: &[Collection], name: Option<String>| list.iter().find(|one| Some(&one.name) == name.as_ref()).cloned();
    let at_primary = find(primary, name_at(&one.primary, &one.secondary));
    let at_secondary = find(secondary, name_at(&one.secondary, &one.primary));
    if at_primary.is_none() && at_secondary.is_none() {
        return Err("the collection was dropped while its schema was being looked at".to_owned());
    }
    (one.primary, one.secondary) = (at_primary, at_secondary);
    Ok(())
}

/// Both catalogs, the secondary's read behind a fence point that was taken after the primary's.
async fn look_again(
    pair: &Pair,
    request: &Request,
    link: &Link,
    instances: (&str, &str),
    listener: Listener<'_>,
) -> Result<(Vec<Collection>, Vec<Collection>), String> {
    let limits = &request.limits;
    let (Some(at_primary), Some(at_secondary), Some(point), Some(wait)) = (
        &pair.primary.catalog,
        &pair.secondary.catalog,
        &pair.primary.fence,
        &pair.secondary.fence,
    ) else {
        return Err("the schema cannot be looked at again behind a fence".to_owned());
    };
    if pair.fence == FenceKind::None {
        return Err("no fence is available for this replicating pair".to_owned());
    }
    link.prove(pair, limits, instances, listener).await?;
    let say = |error: stores::StoreError| error.to_string();
    let primary = asked(limits, &pair.primary.site, || at_primary.collections())
        .await
        .0
        .map_err(say)?;
    let point = asked(limits, &pair.primary.site, || point.point())
        .await
        .0
        .map_err(say)?;
    if !passed(
        limits,
        &pair.secondary.site,
        wait.as_ref(),
        point,
        limits.fence_patience,
    )
    .await
    .map_err(say)?
    {
        return Err(format!("the fence timed out after {:?}", limits.fence_patience));
    }
    let secondary = asked(limits, &pair.secondary.site, || at_secondary.collections())
        .await
        .0
        .map_err(say)?;
    let again = asked(limits, &pair.primary.site, || at_primary.collections())
        .await
        .0
        .map_err(say)?;
    let shapes = |list: &[Collection]| -> Vec<(String, Vec<Column>, Vec<Definition>)> {
        list.iter()
            .map(|one| (one.name.clone(), one.columns.clone(), one.definitions.clone()))
            .collect()
    };
    if shapes(&primary) != shapes(&again) {
        return Err("the primary's schema changed while it was being looked at".to_owned());
    }
    Ok((primary, secondary))
}
