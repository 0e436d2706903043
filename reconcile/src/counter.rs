//! Counters: whether the secondary's would give a number that is in use.
//!
//! A standby's sequence runs ahead: the log holds 32 numbers more than were given, so that not each of them is logged. So being ahead is
//! a divergence only beyond that, and being behind always is.

use stores::{Catalog, Class, Collection, Counter, End, Relation};

use crate::retry::{asked, passed};
use crate::schema::SchemaDifference;
use crate::{FenceKind, Limits, Pair};

/// Steps that PostgreSQL logs ahead.
const LOGGED_AHEAD: i64 = 32;
/// Looks that have to agree.
const LOOKS: u32 = 2;

/// Compares where a counter stands; empty: nothing is wrong.
///
/// # Errors
/// Why it could not be told, beginning with a stable word.
pub(crate) async fn compare(
    pair: &Pair,
    limits: &Limits,
    primary: &Collection,
    secondary: &Collection,
) -> Result<Vec<SchemaDifference>, String> {
    for (end, side) in [(&pair.primary, primary), (&pair.secondary, secondary)] {
        if let Some(reason) = &side.unreadable {
            return Err(format!("unreadable: site {}: {reason}", end.site));
        }
    }
    let mut found = Vec::new();
    for _ in 0..LOOKS {
        let (first, other, again) = look(pair, limits, primary, secondary).await?;
        found = judge(&pair.primary.site, &pair.secondary.site, first, other, again)?;
        if found.is_empty() {
            break;
        }
    }
    Ok(found
        .into_iter()
        .map(|detail| SchemaDifference {
            class: Class::Position,
            detail,
            columns: Vec::new(),
        })
        .collect())
}

/// The primary, then the secondary behind a fence, then the primary again.
async fn look(
    pair: &Pair,
    limits: &Limits,
    primary: &Collection,
    secondary: &Collection,
) -> Result<(Counter, Counter, Counter), String> {
    let first = read(limits, &pair.primary, primary).await?;
    if pair.relation == Relation::Replicating {
        let (Some(point), Some(wait), true) = (
            &pair.primary.fence,
            &pair.secondary.fence,
            pair.fence != FenceKind::None,
        ) else {
            return Err("no_fence: what the primary counted may be in flight".to_owned());
        };
        let point = asked(limits, &pair.primary.site, || point.point()).await.0;
        let point = point.map_err(|error| format!("{}: {error}", error.kind()))?;
        let site = &pair.secondary.site;
        let is_passed = passed(limits, site, wait.as_ref(), point, limits.fence_patience).await;
        if !is_passed.map_err(|error| format!("{}: {error}", error.kind()))? {
            return Err(format!("fence_timed_out: after {:?}", limits.fence_patience));
        }
    }
    let other = read(limits, &pair.secondary, secondary).await?;
    let again = read(limits, &pair.primary, primary).await?;
    Ok((first, other, again))
}

async fn read(limits: &Limits, end: &End, collection: &Collection) -> Result<Counter, String> {
    let Some(catalog) = &end.catalog else {
        return Err("unsupported: an end has no catalog".to_owned());
    };
    let catalog: &dyn Catalog = catalog.as_ref();
    let counter = asked(limits, &end.site, || catalog.counter(collection)).await.0;
    counter.map_err(|error| format!("{}: {error}", error.kind()))
}

/// What is wrong with `other`, given the primary's before and after it.
fn judge(
    primary_site: &str,
    secondary_site: &str,
    first: Counter,
    other: Counter,
    again: Counter,
) -> Result<Vec<String>, String> {
    if first.cycles || other.cycles {
        return Err("cycles: it begins anew at its end, so no position is behind another".to_owned());
    }
    // Counting down is counting up with the sign turned.
    let sign = i128::from(again.increment.signum());
    let ahead = |number: i64| sign * i128::from(number);
    let words = |number: Option<i64>| number.map_or("nothing given yet".to_owned(), |number| number.to_string());
    let mut wrong = Vec::new();
    let is_behind = |own: Option<i64>, than: Option<i64>| match (own, than) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(own), Some(than)) => ahead(own) < ahead(than),
    };
    if is_behind(other.last, first.last) {
        wrong.push(format!(
            "site {secondary_site} stands at {}, behind {} at site {primary_site}",
            words(other.last),
            words(first.last)
        ));
    }
    if is_behind(other.last, other.in_use) && !is_behind(again.last, again.in_use) {
        wrong.push(format!(
            "site {secondary_site} stands at {}, behind {} in the column that it feeds there",
            words(other.last),
            words(other.in_use)
        ));
    }
    let slack = i128::from(LOGGED_AHEAD.saturating_add(other.cache.max(again.cache)))
        * i128::from(again.increment.unsigned_abs());
    if let (Some(last), Some(primary)) = (other.last, again.last)
        && ahead(last) - ahead(primary) > slack
    {
        wrong.push(format!(
            "site {secondary_site} stands at {last}, more than {slack} ahead of {primary} at site {primary_site}"
        ));
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: Option<i64>, in_use: Option<i64>) -> Counter {
        Counter {
            last,
            increment: 1,
            cache: 1,
            cycles: false,
            in_use,
        }
    }

    fn wrong(primary: Counter, secondary: Counter) -> Vec<String> {
        judge("use1", "usw2", primary, secondary, primary).unwrap()
    }

    #[test]
    fn a_standby_runs_ahead_by_what_is_logged_and_no_further() {
        assert!(wrong(at(Some(3), None), at(Some(3), None)).is_empty());
        assert!(wrong(at(Some(3), None), at(Some(36), None)).is_empty());
        assert_eq!(wrong(at(Some(3), None), at(Some(37), None)).len(), 1);
        assert!(wrong(at(Some(3), None), at(Some(2), None))[0].contains("behind 3 at site use1"));
        assert!(wrong(at(Some(3), None), at(None, None))[0].contains("nothing given yet"));
        assert!(wrong(at(None, None), at(Some(33), None)).is_empty());
    }

    #[test]
    fn a_number_in_use_must_not_be_given_again() {
        assert!(wrong(at(Some(5), Some(5)), at(Some(5), Some(5))).is_empty());
        assert!(wrong(at(Some(5), Some(5)), at(Some(5), Some(9)))[0].contains("in the column"));
        // Numbers that the application draws itself are behind at both sides alike.
        assert!(wrong(at(Some(5), Some(9)), at(Some(5), Some(9))).is_empty());
    }

    #[test]
    fn counting_down_is_the_same_the_other_way_round() {
        let down = |last| Counter {
            increment: -2,
            cache: 10,
            ..at(Some(last), None)
        };
        assert!(wrong(down(-10), down(-10 - 84)).is_empty());
        assert_eq!(wrong(down(-10), down(-10 - 85)).len(), 1);
        assert!(wrong(down(-10), down(-8))[0].contains("behind -10"));
        let cycling = Counter {
            cycles: true,
            ..at(Some(1), None)
        };
        assert!(judge("a", "b", cycling, at(Some(1), None), cycling).is_err());
    }
}
