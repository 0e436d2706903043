//! The plan: what will be compared, how, and what will not be and why. Pinned before the first comparison.

use serde::{Deserialize, Serialize};
use stores::{Collection, End, Identity, Key, KeyRange, KeyShape, Part, Recipe, Relation, Role, StoreError};

use crate::counter;
use crate::measure::{self, Way};
use crate::retry::asked;
use crate::scan_plan::{self, Scans};
use crate::schema::{self, SchemaDifference, Shape};
use crate::{FenceKind, ForkEvidence, KeyDisclosure, Limits, Look, NotSelected, Pair, Request, Selected, Settings};

/// Version of how rows are hashed, chunks are cut and journals are written. Results of two versions are never put together.
pub const ENCODING_VERSION: u32 = 1;

/// Key ranges of one collection: beyond that they grow instead.
const RANGES_MAX: u64 = 20_000;
/// Every bucket reads the whole collection once, so there are few and they are large.
const ROWS_PER_BUCKET: u64 = 1_000_000;
const BUCKETS_MAX: u32 = 64;

/// Everything that the comparison of one pair pins: the first frame of its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The run.
    pub run_id: String,
    /// Version of the tool that made it.
    pub tool_version: String,
    /// [`ENCODING_VERSION`] of that tool.
    pub encoding_version: u32,
    /// When it was made, microseconds since 1970 UTC.
    pub planned_at_us: i64,
    /// The stated writer's site.
    pub primary_site: String,
    /// The other site.
    pub secondary_site: String,
    /// What the primary said that it is.
    pub primary: Identity,
    /// What the secondary said.
    pub secondary: Identity,
    /// How they are related.
    pub relation: Relation,
    /// What proves that something is no longer in flight.
    pub fence: FenceKind,
    /// How keys may appear in output; chunk ranges follow it.
    pub disclosure: KeyDisclosure,
    /// Which secret hashes keys, without telling it: all shards must have the same. `None` unless keys are hashed.
    pub key_hash_id: Option<String>,
    /// Whether values may appear.
    pub include_values: bool,
    /// The bounds.
    pub limits: Limits,
    /// The fork, when the run belongs to an event.
    pub fork: Option<ForkEvidence>,
    /// What is looked at.
    #[serde(default)]
    pub look: Look,
    /// The selected collections.
    pub collections: Vec<PlannedCollection>,
    /// What was found besides.
    pub not_selected: Vec<NotSelected>,
}

/// One selected collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCollection {
    /// The name that evidence uses: the primary's, if it exists there.
    pub name: String,
    /// At the primary.
    pub primary: Option<Collection>,
    /// At the secondary.
    pub secondary: Option<Collection>,
    /// Its settings.
    pub settings: Settings,
    /// What of it is compared, in words; empty = all.
    pub scope: String,
    /// What the catalogs show differently.
    pub schema: Vec<SchemaDifference>,
    /// Why those could not be confirmed; empty = they are.
    pub schema_undecided: String,
    /// Columns that exist on both sides and are left out because they cannot be compared, with the reason.
    pub not_comparable: Vec<String>,
    /// What is done.
    pub work: Work,
}

impl PlannedCollection {
    /// How its rows are compared, if they are.
    pub fn rows(&self) -> Option<&RowPlan> {
        match &self.work {
            Work::Compare(rows) => Some(rows),
            _ => None,
        }
    }
}

/// What a run does with one collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Its rows are compared.
    Compare(Box<RowPlan>),
    /// It is a counter, and where it stands was compared when the plan was made.
    Counted,
    /// It exists on one side only, which is a divergence by itself.
    OnOneSide,
    /// It cannot be; the reason begins with a stable word.
    NotVerified(String),
    /// It is not meant to be; the reason.
    Skipped(String),
}

/// How rows are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowPlan {
    /// How they are hashed, at both ends.
    pub recipe: Recipe,
    /// What both ends gave for the fixed row.
    pub known_answer: u128,
    /// Into which parts the collection is cut, at both ends.
    pub cut: Cut,
    /// The column of change times, if both sides have it.
    pub changed_at: Option<String>,
}

/// How a collection is cut into parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Into key ranges at these boundaries: both ends order keys alike.
    Ranges(Vec<Key>),
    /// Into this many buckets of a hash of the key.
    Buckets(u32),
    /// Into buckets that are filled by passes over parts of each side.
    Scans(Scans),
}

impl Cut {
    /// The parts. Together they hold every key once.
    pub fn parts(&self) -> Vec<Part> {
        match self {
            Self::Ranges(boundaries) => KeyRange::ALL.cut(boundaries).into_iter().map(Part::Range).collect(),
            Self::Buckets(of) | Self::Scans(Scans { buckets: of, .. }) => {
                (0..*of).map(|index| Part::Bucket { index, of: *of }).collect()
            }
        }
    }

    /// Number of parts.
    pub fn len(&self) -> u64 {
        match self {
            Self::Ranges(boundaries) => u64::try_from(boundaries.len()).unwrap_or(u64::MAX).saturating_add(1),
            Self::Buckets(of) | Self::Scans(Scans { buckets: of, .. }) => u64::from(*of),
        }
    }

    /// Never: the open range, or one bucket, is there always.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is known of a pair before its collections are looked at.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) primary: Identity,
    pub(crate) secondary: Identity,
    pub(crate) is_logical: bool,
    /// Whether a counter's fence proves anything: why the link is not proved.
    pub(crate) link: Result<(), String>,
    /// Selected collections as the catalogs show them now, with the word on differences that could not be confirmed.
    pub(crate) selected: Vec<(Selected, String)>,
}

/// Plans every selected collection.
pub(crate) async fn plan(pair: &Pair, request: &Request, key_hash_id: Option<String>, facts: Facts) -> Plan {
    let mut collections = Vec::with_capacity(facts.selected.len());
    // By time alone, the secondary has to be the one that applies: of a standby of it nothing is told.
    let is_fit = match pair.fence {
        FenceKind::Canary => true,
        FenceKind::Time => facts.secondary.role == Role::Writable,
        FenceKind::Lsn | FenceKind::None => false,
    };
    for (selected, schema_undecided) in facts.selected {
        collections.push(
            collection(
                pair,
                &request.limits,
                ((facts.is_logical, is_fit), &facts.link),
                selected,
                schema_undecided,
            )
            .await,
        );
    }
    Plan {
        run_id: request.run_id.clone(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        encoding_version: ENCODING_VERSION,
        planned_at_us: crate::now_us(),
        primary_site: pair.primary.site.clone(),
        secondary_site: pair.secondary.site.clone(),
        primary: facts.primary,
        secondary: facts.secondary,
        relation: pair.relation,
        fence: pair.fence,
        disclosure: request.disclosure,
        key_hash_id,
        include_values: request.include_values,
        limits: request.limits.clone(),
        fork: request.fork.clone(),
        look: Look::All,
        collections,
        not_selected: request.not_selected.clone(),
    }
}

async fn collection(
    pair: &Pair,
    limits: &Limits,
    ((is_logical, is_fit), link): ((bool, bool), &Result<(), String>),
    mut selected: Selected,
    schema_undecided: String,
) -> PlannedCollection {
    for side in [&mut selected.primary, &mut selected.secondary].into_iter().flatten() {
        side.scope.clone_from(&selected.settings.scope);
    }
    let name = name(selected.primary.as_ref(), selected.secondary.as_ref());
    let shape = schema::shape(&pair.primary.site, &pair.secondary.site, &selected);
    let mut planned = PlannedCollection {
        name,
        scope: scope(&selected.settings, &shape),
        schema: shape.differences,
        schema_undecided,
        not_comparable: shape.not_comparable,
        work: Work::OnOneSide,
        primary: selected.primary,
        secondary: selected.secondary,
        settings: selected.settings,
    };
    let sides = [&planned.primary, &planned.secondary];
    planned.work = if sides
        .iter()
        .any(|side| side.as_ref().is_some_and(|side| side.is_canary))
    {
        planned.schema.clear();
        Work::Skipped("canaries: driftline's own rows are not compared".to_owned())
    } else if let [Some(reason), Some(_)] =
        sides.map(|side| side.as_ref().and_then(|side| side.not_replicated.as_ref()))
    {
        planned.schema.clear();
        Work::Skipped(format!("not_replicated: {reason}"))
    } else if is_logical && !is_fit {
        // Without the right fence, what is only in flight could be confirmed.
        planned.schema.clear();
        Work::NotVerified(
            "logical_copy: an end takes part in logical replication, and these two are not compared as publisher and subscriber".to_owned(),
        )
    } else if let (Some(primary), Some(secondary)) = (&planned.primary, &planned.secondary)
        && primary.is_counter
        && secondary.is_counter
    {
        let compared = match link {
            Ok(()) => counter::compare(pair, limits, primary, secondary).await,
            Err(reason) => Err(format!("link_not_proved: {reason}")),
        };
        match compared {
            Ok(differences) => {
                planned.schema.extend(differences);
                Work::Counted
            }
            Err(reason) => Work::NotVerified(reason),
        }
    } else if let (Some(primary), Some(secondary)) = (&planned.primary, &planned.secondary) {
        match rows(pair, limits, primary, secondary, &shape.common, &planned.settings).await {
            Ok((rows, said)) => {
                let scope = [planned.scope.as_str(), said.as_str()];
                planned.scope = scope
                    .into_iter()
                    .filter(|words| !words.is_empty())
                    .collect::<Vec<_>>()
                    .join("; ");
                Work::Compare(Box::new(rows))
            }
            Err(reason) => Work::NotVerified(reason),
        }
    } else {
        Work::OnOneSide
    };
    planned
}

/// The name that evidence uses.
pub(crate) fn name(primary: Option<&Collection>, secondary: Option<&Collection>) -> String {
    primary.or(secondary).map(|side| side.name.clone()).unwrap_or_default()
}

fn scope(settings: &Settings, shape: &Shape) -> String {
    let mut words = Vec::new();
    if !shape.excluded.is_empty() {
        words.push(format!("excluded columns: {}", shape.excluded.join(", ")));
    }
    if !shape.differing.is_empty() {
        words.push(format!(
            "columns that differ in the schema: {}",
            shape.differing.join(", ")
        ));
    }
    if let Some(filter) = &settings.scope.filter {
        words.push(format!("only rows where {filter}"));
    }
    if !settings.scope.semantic.is_empty() {
        words.push(format!(
            "equal in any form of the same value: {}",
            settings.scope.semantic.join(", ")
        ));
    }
    if let Some(column) = &settings.changed_at {
        let is_common = shape.changed_at.is_some();
        words.push(format!(
            "change times: {column}{}",
            if is_common {
                ""
            } else {
                " (not a column of both sides: no evidence)"
            }
        ));
    }
    words.join("; ")
}

/// Plans the comparison of rows, with what is to be said of it, or says why there can be none.
async fn rows(
    pair: &Pair,
    limits: &Limits,
    primary: &Collection,
    secondary: &Collection,
    common: &[String],
    settings: &Settings,
) -> Result<(RowPlan, String), String> {
    for (end, side) in [(&pair.primary, primary), (&pair.secondary, secondary)] {
        if let Some(reason) = &side.unreadable {
            return Err(format!("unreadable: site {}: {reason}", end.site));
        }
    }
    let key = agree_on_key(pair, primary, secondary, common);
    if let Some((keyed_by, said)) = scan_plan::keyed_by(pair, &key, common) {
        let rows = scan_plan::rows(pair, limits, (primary, secondary), common, settings, keyed_by).await?;
        return Ok((rows, said));
    }
    let orders_alike = key?;
    let (Some(at_primary), Some(_)) = (&pair.primary.ranged, &pair.secondary.ranged) else {
        return Err("unsupported: an end cannot digest".to_owned());
    };
    let seed = rand::random::<u64>();
    let recipe = asked(limits, &pair.primary.site, || at_primary.recipe(primary, common, seed))
        .await
        .0
        .map_err(failed)?;
    let ways = ways(pair, limits, (primary, secondary), &recipe).await?;
    let (mut cut, mut said) = (Cut::Buckets(buckets(primary, secondary)), String::new());
    let mut way = None;
    if orders_alike {
        let split = async |rows_per_chunk: u64| {
            let rows_per_chunk = rows_per_chunk.max(primary.rows_estimate.unwrap_or(0) / RANGES_MAX);
            let split = asked(limits, &pair.primary.site, || at_primary.split(primary, rows_per_chunk));
            split.await.0.map_err(failed)
        };
        let mut boundaries = split(limits.rows_per_chunk).await?;
        match unserved(pair, limits, (primary, secondary), &recipe, &boundaries).await? {
            Some(reason) => said = format!("by buckets of keys, for no index serves their ranges: {reason}"),
            None => {
                if primary.rows_estimate.unwrap_or(0) >= limits.pace.measured_rows_min && !boundaries.is_empty() {
                    let sides = (primary, secondary);
                    let (chosen, wanted) = measure::choose(pair, limits, sides, ways.clone(), &boundaries).await;
                    way = chosen;
                    if measure::is_other_size(limits.rows_per_chunk, wanted) {
                        boundaries = split(wanted).await?;
                    }
                }
                cut = Cut::Ranges(boundaries);
            }
        }
    }
    let Some(Way { recipe, known_answer }) = way.or_else(|| ways.into_iter().next()) else {
        return Err("unsupported: this store does not hash where it was asked to".to_owned());
    };
    let row_plan = RowPlan {
        recipe,
        known_answer,
        cut,
        changed_at: settings
            .changed_at
            .clone()
            .filter(|column| has_column(primary, column) && has_column(secondary, column)),
    };
    Ok((row_plan, said))
}

/// The ways of hashing that are wanted and that both ends do alike.
async fn ways(
    pair: &Pair,
    limits: &Limits,
    (primary, secondary): (&Collection, &Collection),
    recipe: &Recipe,
) -> Result<Vec<Way>, String> {
    let mut ways = Vec::new();
    let wanted = measure::modes(limits.pace.digest, recipe);
    let is_offered = !wanted.is_empty();
    for recipe in wanted {
        let known = known_answer(limits, &pair.primary, primary, &recipe).await?;
        let other = known_answer(limits, &pair.secondary, secondary, &recipe).await?;
        if known == other {
            ways.push(Way {
                recipe,
                known_answer: known,
            });
        }
    }
    if is_offered && ways.is_empty() {
        return Err(
            "digest_differs: both ends hash the same fixed row differently, so their digests cannot be compared"
                .to_owned(),
        );
    }
    Ok(ways)
}

async fn known_answer(limits: &Limits, end: &End, collection: &Collection, recipe: &Recipe) -> Result<u128, String> {
    let Some(ranged) = &end.ranged else {
        return Err("unsupported: an end cannot digest".to_owned());
    };
    let known = asked(limits, &end.site, || ranged.known_answer(collection, recipe))
        .await
        .0;
    known.map_err(failed)
}

/// Why ranges between these boundaries would each read the whole collection, at one end at least.
async fn unserved(
    pair: &Pair,
    limits: &Limits,
    (primary, secondary): (&Collection, &Collection),
    recipe: &Recipe,
    boundaries: &[Key],
) -> Result<Option<String>, String> {
    for (end, collection) in [(&pair.primary, primary), (&pair.secondary, secondary)] {
        let Some(ranged) = &end.ranged else { continue };
        match asked(limits, &end.site, || ranged.serves(collection, recipe, boundaries))
            .await
            .0
        {
            Ok(()) => {}
            Err(StoreError::Unsupported(trouble)) => return Ok(Some(trouble.to_string())),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(None)
}

pub(crate) fn has_column(collection: &Collection, name: &str) -> bool {
    collection.columns.iter().any(|column| column.name == name)
}

/// Whether both ends have the same usable key; if so, whether they order it alike.
///
/// The key must be usable at *both* ends: where it may be NULL, rows without one would be in no range at all.
fn agree_on_key(pair: &Pair, primary: &Collection, secondary: &Collection, common: &[String]) -> Result<bool, String> {
    let usable = |end: &End, side: &Collection| match &side.key {
        KeyShape::Usable {
            columns,
            order_identity,
        } => Ok((columns.clone(), order_identity.clone())),
        KeyShape::Unusable(reason) => Err(format!("no_usable_key: site {}: {reason}", end.site)),
    };
    let (columns, order) = usable(&pair.primary, primary)?;
    let (other_columns, other_order) = usable(&pair.secondary, secondary)?;
    if columns != other_columns {
        return Err(format!(
            "key_differs: site {} has the key ({}), site {} has ({})",
            pair.primary.site,
            columns.join(", "),
            pair.secondary.site,
            other_columns.join(", ")
        ));
    }
    if let Some(column) = columns.iter().find(|column| !common.contains(column)) {
        return Err(format!(
            "key_differs: column {column} of the key is not comparable on both sides"
        ));
    }
    Ok(order.is_some() && order == other_order)
}

fn buckets(primary: &Collection, secondary: &Collection) -> u32 {
    let rows = primary.rows_estimate.max(secondary.rows_estimate).unwrap_or(0);
    u32::try_from(rows.div_ceil(ROWS_PER_BUCKET))
        .unwrap_or(u32::MAX)
        .clamp(1, BUCKETS_MAX)
}

pub(crate) fn failed(error: StoreError) -> String {
    format!("{}: {error}", error.kind())
}
