//! The two ends of a simulated pair.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use reconcile::Side;
use stores::*;

use crate::world::{Cell, Shared, World, hash, holds, int, lock, passing, row_digest, trouble};

#[derive(Debug, Clone)]
struct OneEnd {
    world: Shared,
    side: Side,
}

/// Everything that an end can do.
pub(crate) fn end(world: &Shared, side: Side) -> End {
    let one = Arc::new(OneEnd {
        world: world.clone(),
        side,
    });
    End {
        site: one.site().to_owned(),
        identify: one.clone(),
        catalog: Some(one.clone()),
        status: Some(one.clone()),
        canary_writer: Some(one.clone()),
        canary_reader: Some(one.clone()),
        ranged: Some(one.clone()),
        scanned: None,
        reread: Some(one.clone()),
        fence: Some(one.clone()),
        compare: Some(Arc::new(ByDigest)),
        meter: None,
    }
}

impl OneEnd {
    fn site(&self) -> &'static str {
        match self.side {
            Side::Primary => "use1",
            Side::Secondary => "usw2",
        }
    }

    /// Whether this digest is one that is never answered.
    fn is_silent(&self) -> bool {
        let silent = &mut lock(&self.world).faults.secondary_digests_silent;
        let is_silent = self.is_secondary() && *silent > 0;
        *silent -= u32::from(is_silent);
        is_silent
    }

    fn is_secondary(&self) -> bool {
        self.side == Side::Secondary
    }

    fn rows<'a>(&self, world: &'a World) -> &'a BTreeMap<i64, Cell> {
        match self.side {
            Side::Primary => &world.primary.rows,
            Side::Secondary => &world.secondary.rows,
        }
    }

    fn instance(&self, world: &World) -> String {
        let since = |at: Option<u64>| at.is_some_and(|at| world.step >= at);
        if since(world.faults.same_data_from) {
            return "one".to_owned();
        }
        match self.side {
            Side::Primary => "primary".to_owned(),
            Side::Secondary if since(world.faults.instance_changes_at) => "secondary, restarted".to_owned(),
            Side::Secondary => "secondary".to_owned(),
        }
    }

    fn identity_now(&self, world: &World) -> Identity {
        Identity {
            store: "memory".to_owned(),
            version: "1".to_owned(),
            role: if self.is_secondary() && world.faults.promoted_from.is_none_or(|at| world.step < at) {
                Role::ReadOnly
            } else {
                Role::Writable
            },
            lineage: None,
            instance: self.instance(world),
            shares_storage_with: Vec::new(),
            facts: BTreeMap::new(),
        }
    }
}

#[async_trait]
impl Identify for OneEnd {
    async fn identity(&self) -> Result<Identity> {
        let mut world = lock(&self.world);
        world.tick();
        Ok(self.identity_now(&world))
    }
}

#[async_trait]
impl Catalog for OneEnd {
    async fn collections(&self) -> Result<Vec<Collection>> {
        let mut world = lock(&self.world);
        world.tick();
        let collection = match self.side {
            Side::Primary => {
                let now = world.primary_collection.clone();
                if let Some(later) = world.primary_collection_later.take() {
                    world.primary_collection = Some(later);
                }
                now
            }
            Side::Secondary => {
                if let Some(later) = world.secondary_collection_later.take() {
                    world.secondary_collection = Some(later);
                }
                world.secondary_collection.clone()
            }
        };
        Ok(collection.into_iter().collect())
    }
}

#[async_trait]
impl Status for OneEnd {
    async fn active_sessions(&self) -> Result<Option<u64>> {
        let mut world = lock(&self.world);
        world.load_asked += 1;
        Ok(world
            .active_sessions
            .map(|active| active(self.side(), world.load_asked)))
    }

    async fn status(&self) -> Result<NativeStatus> {
        let world = lock(&self.world);
        Ok(NativeStatus {
            identity: self.identity_now(&world),
            as_of_us: 0,
            lag_us: match self.side {
                Side::Primary => None,
                Side::Secondary => world.lag_us,
            },
            lag_as_of_us: None,
            pending_operations: None,
            not_collected: None,
            lag_bytes: None,
            position: None,
            link: None,
            longest_transaction_us: None,
            is_logical: world.faults.is_logical,
            collections: std::collections::BTreeMap::new(),
        })
    }

    async fn fork(&self) -> Result<Fork> {
        Err(StoreError::Unsupported(trouble(
            self.site(),
            "read the fork",
            "never promoted",
        )))
    }
}

#[async_trait]
impl CanaryWriter for OneEnd {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        let hangs = {
            let mut world = lock(&self.world);
            if world.faults.canaries_refused > 0 {
                world.faults.canaries_refused -= 1;
                return WriteOutcome::Failed(passing(self.site(), "write a canary"));
            }
            world.log.push(crate::world::Change::Canary(canary.clone()));
            world.links_proved += 1;
            world.tick();
            world.faults.canaries_hang
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        WriteOutcome::Acknowledged
    }

    async fn highest_sequence(&self, _: &str) -> Result<u64> {
        let world = lock(&self.world);
        Ok(world
            .primary
            .canaries
            .iter()
            .map(|canary| canary.sequence)
            .max()
            .unwrap_or(0))
    }

    fn ring_slots(&self) -> u64 {
        64
    }
}

#[async_trait]
impl CanaryReader for OneEnd {
    async fn poll(&self, _: &str, _: Sought<'_>) -> Result<Sighting> {
        let mut world = lock(&self.world);
        world.tick();
        let canaries = match self.side {
            Side::Primary => world.primary.canaries.clone(),
            Side::Secondary => world.secondary.canaries.clone(),
        };
        Ok(Sighting {
            canaries,
            instance: self.instance(&world),
            strong: true,
            covers: Covers::Ring,
            oddities: Oddities::default(),
        })
    }

    fn is_ordered(&self) -> bool {
        true
    }
}

impl OneEnd {
    fn side(&self) -> &'static str {
        if self.is_secondary() { "secondary" } else { "primary" }
    }

    /// The time that a look at a part takes.
    async fn works(&self, part: &Part, mode: DigestMode) {
        let pause = {
            let world = lock(&self.world);
            let rows = self.rows(&world).keys().filter(|key| holds(part, **key)).count();
            let rows = u32::try_from(rows).unwrap_or(u32::MAX);
            let is_cold = !world.looks.iter().any(|(side, _)| *side == self.side());
            let cold = if is_cold { world.cold_takes } else { Duration::ZERO };
            world.takes.map(|takes| takes(self.side(), mode) * rows + cold)
        };
        let at = usize::from(self.is_secondary());
        {
            let world = &mut lock(&self.world);
            world.reads_now[at] += 1;
            world.reads_at_once[at] = world.reads_at_once[at].max(world.reads_now[at]);
        }
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        lock(&self.world).reads_now[at] -= 1;
    }

    /// Remembers a look at a part, or cancels it.
    fn looked(&self, world: &mut World, part: &Part) -> Result<()> {
        world.looks.push((self.side(), part.clone()));
        let rows = self.rows(world).keys().filter(|key| holds(part, **key)).count();
        match world.faults.secondary_cancels_above {
            Some(most) if self.is_secondary() && rows > most => Err(passing(self.site(), "digest public.t")),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Ranged for OneEnd {
    async fn serves(&self, _: &Collection, _: &Recipe, _: &[Key]) -> Result<()> {
        if self.is_secondary() && lock(&self.world).faults.no_index_serves {
            let trouble = Trouble::new("usw2", "look at a range", "it reads the whole table");
            return Err(StoreError::Unsupported(trouble));
        }
        Ok(())
    }

    async fn recipe(&self, _: &Collection, columns: &[String], seed: u64) -> Result<Recipe> {
        lock(&self.world).seeds.insert(seed);
        Ok(Recipe {
            mode: DigestMode::Pushdown,
            columns: columns.to_vec(),
            key_columns: vec!["id".to_owned()],
            seed,
            expression: String::new(),
            column_expressions: Vec::new(),
            forms: if lock(&self.world).keeps {
                columns.to_vec()
            } else {
                Vec::new()
            },
        })
    }

    async fn known_answer(&self, _: &Collection, recipe: &Recipe) -> Result<u128> {
        let world = lock(&self.world);
        let other = self.is_secondary() && world.faults.known_answer_differs;
        Ok(u128::from(recipe.seed) + u128::from(other))
    }

    async fn split(&self, _: &Collection, rows_per_chunk: u64) -> Result<Vec<Key>> {
        let mut world = lock(&self.world);
        world.tick();
        let step = usize::try_from(rows_per_chunk).unwrap_or(usize::MAX);
        Ok(self
            .rows(&world)
            .keys()
            .step_by(step)
            .skip(1)
            .map(|key| Key::int(*key))
            .collect())
    }

    async fn moment(&self) -> Result<Option<String>> {
        let mut world = lock(&self.world);
        if !world.faults.tells_moments {
            return Ok(None);
        }
        world.tick();
        let applied = match self.side {
            Side::Primary => world.primary.applied,
            Side::Secondary => world.secondary.applied,
        };
        Ok(Some(applied.to_string()))
    }

    async fn digest(&self, _: &Collection, recipe: &Recipe, part: &Part) -> Result<ChunkDigest> {
        if self.is_silent() {
            std::future::pending::<()>().await;
        }
        self.works(part, recipe.mode).await;
        let mut world = lock(&self.world);
        world.tick();
        if self.is_secondary() && world.faults.secondary_digests_fail > 0 {
            world.faults.secondary_digests_fail -= 1;
            return Err(passing(self.site(), "digest public.t"));
        }
        self.looked(&mut world, part)?;
        let mut digest = ChunkDigest::default();
        for (key, cell) in self.rows(&world).iter().filter(|(key, _)| holds(part, **key)) {
            (0..cell.copies).for_each(|_| digest.add(row_digest(recipe.seed, *key, cell)));
        }
        Ok(digest)
    }

    async fn read(&self, collection: &Collection, recipe: &Recipe, part: &Part, bytes_max: usize) -> Result<Kept> {
        let digest = self.digest(collection, recipe, part).await?;
        let world = lock(&self.world);
        let mut rows = KeptRows::default();
        for (key, cell) in self.rows(&world).iter().filter(|(key, _)| holds(part, **key)) {
            for _ in 0..cell.copies {
                assert!(rows.push(&[KeyPart::Int(*key)], row_digest(recipe.seed, *key, cell)));
            }
        }
        let fits = world.keeps && rows.bytes() <= bytes_max;
        Ok(Kept {
            digest,
            rows: fits.then_some(rows),
        })
    }

    async fn cut(&self, _: &Collection, range: &KeyRange, pieces: u32) -> Result<Vec<Key>> {
        let world = lock(&self.world);
        let part = Part::Range(range.clone());
        let keys: Vec<i64> = self
            .rows(&world)
            .keys()
            .copied()
            .filter(|key| holds(&part, *key))
            .collect();
        let pieces = usize::try_from(pieces).unwrap().min(keys.len());
        Ok((1..pieces)
            .map(|piece| Key::int(keys[piece * keys.len() / pieces]))
            .collect())
    }

    async fn list(&self, _: &Collection, recipe: &Recipe, part: &Part) -> Result<Listing> {
        let mut world = lock(&self.world);
        world.tick();
        world.lists += 1;
        let unlisted = world.faults.unlisted;
        let mut rows: Vec<Result<(Key, RowDigest)>> = Vec::new();
        for (key, cell) in self
            .rows(&world)
            .iter()
            .filter(|(key, _)| holds(part, **key) && Some(**key) != unlisted)
        {
            for _ in 0..cell.copies {
                rows.push(Ok((Key::int(*key), row_digest(recipe.seed, *key, cell))));
            }
        }
        world.rows_listed += rows.len();
        if let (true, Some(after)) = (self.is_secondary(), world.faults.secondary_list_fails_after) {
            rows.truncate(after);
            rows.push(Err(passing(self.site(), "list public.t")));
        }
        if let (true, Some(after)) = (self.is_secondary(), world.faults.secondary_list_silent_after) {
            rows.truncate(after);
            return Ok(futures::stream::iter(rows).chain(futures::stream::pending()).boxed());
        }
        Ok(futures::stream::iter(rows).boxed())
    }
}

#[async_trait]
impl Reread for OneEnd {
    async fn read(&self, request: &ReadRequest<'_>) -> Result<Readings> {
        let mut world = lock(&self.world);
        world.tick();
        world.calls.push(if self.is_secondary() {
            "read secondary"
        } else {
            "read primary"
        });
        if self.is_secondary() && world.faults.secondary_reads_denied {
            return Err(StoreError::Denied(trouble(
                self.site(),
                "read keys of public.t",
                "permission denied",
            )));
        }
        let snapshot = (!self.is_secondary()).then(|| Snapshot {
            xmin: world.next_xid(),
            xmax: world.next_xid(),
            running: Vec::new(),
        });
        let position = self
            .is_secondary()
            .then(|| {
                Position(world.secondary.applied as u64)
                    .0
                    .saturating_sub(world.faults.position_behind)
            })
            .map(Position);
        let rows = request
            .keys
            .iter()
            .map(|key| self.reading(&world, request, int(key)))
            .collect();
        Ok(Readings {
            rows,
            position,
            snapshot,
            instance: self.instance(&world),
        })
    }
}

impl OneEnd {
    fn reading(&self, world: &World, request: &ReadRequest<'_>, key: i64) -> Reading {
        let Some(cell) = self.rows(world).get(&key) else {
            return Reading::Absent;
        };
        let values = vec![Some(key.to_string()), Some(cell.value.to_string())];
        Reading::Present(Row {
            version: cell.version.to_string(),
            digest: row_digest(request.recipe.seed, key, cell),
            columns: vec![Some(hash(key)), Some(hash(cell.value))],
            values: request.values.then_some(values),
            changed_at_us: cell.changed_at_us.filter(|_| request.changed_at.is_some()),
            copies: cell.copies,
            created_by: Some(cell.xid),
            ended_by: if self.is_secondary() { None } else { world.ending(key) },
            committed_at_us: None,
        })
    }
}

#[async_trait]
impl Fence for OneEnd {
    async fn point(&self) -> Result<Position> {
        let mut world = lock(&self.world);
        world.tick();
        world.calls.push("point");
        Ok(Position(world.log.len() as u64))
    }

    async fn wait(&self, point: Position, _: Duration) -> Result<bool> {
        let mut world = lock(&self.world);
        world.calls.push("wait");
        if world.faults.wait_lies {
            return Ok(true);
        }
        for _ in 0..world.wait_steps {
            world.tick();
            if world.secondary.applied as u64 >= point.0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Compares by digest, with the guard of a physical pair.
#[derive(Debug)]
pub(crate) struct ByDigest;

impl Compare for ByDigest {
    fn compare(&self, primary: &Reading, secondary: &Reading, columns: &[String]) -> Comparison {
        let differs = |class, columns| Comparison::Differs {
            class,
            detail: String::new(),
            columns,
        };
        match (primary, secondary) {
            (Reading::Absent, Reading::Absent) => Comparison::Equal,
            (Reading::Present(_), Reading::Absent) => differs(Class::MissingOnSecondary, Vec::new()),
            (Reading::Absent, Reading::Present(_)) => differs(Class::MissingOnPrimary, Vec::new()),
            (Reading::Present(a), Reading::Present(b)) if a.copies != b.copies => differs(Class::Duplicate, Vec::new()),
            (Reading::Present(a), Reading::Present(b)) if a.digest == b.digest => Comparison::Equal,
            (Reading::Present(a), Reading::Present(b)) => {
                let differing = columns
                    .iter()
                    .zip(a.columns.iter().zip(&b.columns))
                    .filter(|(_, (a, b))| a != b);
                differs(Class::Different, differing.map(|(name, _)| name.clone()).collect())
            }
        }
    }

    fn guard(
        &self,
        first: &Readings,
        secondary: &Readings,
        again: &Readings,
        index: usize,
    ) -> std::result::Result<(), String> {
        let Some(snapshot) = &first.snapshot else { return Ok(()) };
        match (&secondary.rows[index], &again.rows[index]) {
            (Reading::Present(row), _) if row.created_by.is_some_and(|xid| !snapshot.sees(xid)) => {
                Err("the secondary's row is newer than the primary's snapshot".to_owned())
            }
            (Reading::Absent, Reading::Present(row)) if row.ended_by.is_some_and(|xid| !snapshot.sees(xid)) => {
                Err("the primary's row is being deleted".to_owned())
            }
            _ => Ok(()),
        }
    }
}
