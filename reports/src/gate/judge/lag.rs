//! Lag: blocks of five minutes and whole peak windows.

use std::collections::{BTreeMap, BTreeSet};

use super::super::blocks::{BLOCK_OBSERVED_US, Block, Figures, MeasuredRoute, RouteLag};
use super::super::calendar::{BLOCK_US, DAY_US, block_start, date_text, day_start, instant_text};
use super::super::evidence::Evidence;
use super::super::policy::{Criterion, LagRule, Policy, Quantile};
use super::super::quantity::{Bound, Quantity, to_f64};
use super::super::report::{CriterionResult, Unit, Verdict, Window};
use super::super::share::{fraction, share_milli_percent, upper_bound};
use super::{add_remark, undecided};

/// Confidence of the one-sided bound on the share of exceeding blocks.
const CONFIDENCE: f64 = 0.95;
/// Below this share of observed blocks a remark tells how much of the window was not observed.
const WELL_OBSERVED_MILLI_PERCENT: i64 = 90_000;

/// Whether a block that starts at this instant has a part in the window.
pub(super) fn is_in(window: Window, start_us: i64) -> bool {
    block_start(window.from_us) <= start_us && start_us < window.to_us
}

/// Judges every route of a store, and lists as unmeasured what should have one.
pub(super) fn judge(
    policy: &Policy,
    criterion: &Criterion,
    store: &str,
    evidence: &Evidence,
    window: Window,
    fill: impl Fn(&RouteLag, &mut CriterionResult),
) -> Vec<CriterionResult> {
    let mut results = Vec::new();
    let mut measured = BTreeSet::new();
    for lag in evidence.lag.iter().filter(|lag| lag.route.store == store) {
        let mut lag = lag.clone();
        lag.blocks.retain(|block| is_in(window, block.start_us));
        lag.peaks.retain(|peak| is_in(window, peak.start_us));
        if lag.blocks.is_empty() {
            continue;
        }
        let mut result = on_route(criterion, window, &lag.route);
        result.evidence_run_ids = lag.run_ids.iter().cloned().collect();
        fill(&lag, &mut result);
        remark_unobserved(policy, &lag, window, &mut result);
        measured.insert(lag.route.clone());
        results.push(result);
    }
    for route in expected(evidence, store).difference(&measured) {
        let mut result = on_route(criterion, window, route);
        result.reason = "unmeasured: no canary of this route in the window".to_owned();
        result.next = "run `driftline probe` for it until enough blocks are there".to_owned();
        results.push(result);
    }
    if results.is_empty() {
        let mut result = undecided(criterion, window);
        result.store = Some(store.to_owned());
        result.reason = format!("unmeasured: no {store} route has evidence in the window");
        result.next = format!(
            "run `driftline probe` on it, or state in the evidence file that `{}` does not apply",
            criterion.id
        );
        results.push(result);
    }
    results
}

fn on_route(criterion: &Criterion, window: Window, route: &MeasuredRoute) -> CriterionResult {
    let mut result = undecided(criterion, window);
    result.subject = route.to_string();
    result.dataset = Some(route.dataset.clone());
    result.store = Some(route.store.clone());
    result.primary_site = Some(route.primary_site.clone());
    result.secondary_site = Some(route.secondary_site.clone());
    result
}

/// Routes that should have evidence: as configured; without a configuration, those that were compared, in the direction in
/// which they are measured, or in the one in which they were compared.
fn expected(evidence: &Evidence, store: &str) -> BTreeSet<MeasuredRoute> {
    if !evidence.inventory.is_empty() {
        let items = evidence.inventory.iter().filter(|item| item.store == store);
        return items.map(super::super::InventoryItem::route).collect();
    }
    let measured: BTreeSet<&str> = evidence.lag.iter().map(|lag| lag.route.dataset.as_str()).collect();
    let collections = evidence.reconciliations.iter().flat_map(|run| &run.collections);
    collections
        .filter(|collection| collection.store == store && !measured.contains(collection.dataset.as_str()))
        .map(|collection| MeasuredRoute {
            dataset: collection.dataset.clone(),
            store: collection.store.clone(),
            primary_site: collection.primary_site.clone(),
            secondary_site: collection.secondary_site.clone(),
        })
        .collect()
}

/// Blocks outside of peak windows for GO; every block of a day for *consistently*.
pub(super) fn steady(policy: &Policy, rule: &LagRule, lag: &RouteLag, result: &mut CriterionResult) {
    result.unit = Unit::Us;
    let tests = [
        (Verdict::NoGo, rule.bounds.no_go.as_ref()),
        (Verdict::Investigate, rule.bounds.investigate.as_ref()),
    ];
    for (verdict, bound) in tests {
        let Some(bound) = bound.map(toml::Spanned::get_ref) else {
            continue;
        };
        let worst = worst_day(policy, rule.quantile, *bound, lag, result.window);
        let consistently = policy.blocks.consistently.get_ref();
        if worst.share() >= consistently.amount() {
            set_bound(result, *bound);
            set_observed(
                result,
                rule.quantile,
                lag.blocks.iter().filter(|b| day_start(b.start_us) == worst.day_us),
            );
            result.verdict = verdict;
            result.reason = format!(
                "on {} the {} was {bound}, by its low end, in {} of {} blocks ({}; consistently = {consistently})",
                date_text(worst.day_us),
                rule.quantile.word(),
                worst.exceeding,
                worst.blocks,
                Quantity::milli_percent(worst.share()),
            );
            result.next = "look at replication on that day: load, long transactions, instance size, network".to_owned();
            return;
        }
    }
    let blocks: Vec<&Block> = lag.blocks.iter().filter(|block| !block.in_peak).collect();
    go_by_blocks(
        policy,
        rule,
        &blocks,
        "outside of peak windows",
        |block| day_start(block.start_us),
        result,
    );
}

/// Blocks in peak windows for GO; whole peak windows for INVESTIGATE and NO-GO.
pub(super) fn peak(policy: &Policy, rule: &LagRule, lag: &RouteLag, result: &mut CriterionResult) {
    result.unit = Unit::Us;
    let tests = [
        (Verdict::NoGo, rule.bounds.no_go.as_ref()),
        (Verdict::Investigate, rule.bounds.investigate.as_ref()),
    ];
    for (verdict, bound) in tests {
        let Some(bound) = bound.map(toml::Spanned::get_ref) else {
            continue;
        };
        let beyond = |figures: &Figures| bound.holds(held(figures.low(rule.quantile)));
        let found: Vec<_> = lag.peaks.iter().filter(|peak| beyond(&peak.figures)).collect();
        if let Some(worst) = found.iter().max_by_key(|peak| peak.figures.low(rule.quantile)) {
            set_bound(result, *bound);
            result.verdict = verdict;
            result.samples = amount(lag.peaks.len());
            result.observed_low = Some(held(worst.figures.low(rule.quantile)));
            result.observed_high = worst.figures.high(rule.quantile).map(held);
            result.reason = format!(
                "the {} of {} of {} peak windows is {bound} by its low end; worst: {} of {}",
                rule.quantile.word(),
                found.len(),
                lag.peaks.len(),
                worst.peak,
                worst.date
            );
            result.next =
                "look at replication in that peak window: load, long transactions, instance size, network".to_owned();
            return;
        }
    }
    let blocks: Vec<&Block> = lag.blocks.iter().filter(|block| block.in_peak).collect();
    let starts: Vec<i64> = lag.peaks.iter().map(|peak| peak.start_us).collect();
    go_by_blocks(
        policy,
        rule,
        &blocks,
        "in peak windows",
        |block| {
            starts
                .iter()
                .rev()
                .find(|start| **start <= block.start_us)
                .copied()
                .unwrap_or(block.start_us)
        },
        result,
    );
}

/// Lag was seen at all in enough blocks.
pub(super) fn observed(policy: &Policy, lag: &RouteLag, result: &mut CriterionResult) {
    let seen = lag.blocks.iter().filter(|block| block.figures.seen > 0).count();
    let minimum = policy.blocks.minimum;
    result.unit = Unit::Blocks;
    result.observed_low = Some(i64::try_from(seen).unwrap_or(i64::MAX));
    result.observed_high = result.observed_low;
    result.bound = Some(i64::from(minimum));
    result.bound_text = format!(">= {minimum} blocks");
    result.samples = amount(lag.blocks.len());
    if u32::try_from(seen).unwrap_or(u32::MAX) >= minimum {
        result.verdict = Verdict::Go;
        result.reason = format!("lag was observed in {seen} blocks");
    } else {
        result.reason = format!("{seen} of {minimum} blocks");
        result.next = "let the probe run longer".to_owned();
    }
}

fn held(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

fn amount(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn set_bound(result: &mut CriterionResult, bound: Bound) {
    result.bound = Some(bound.value().amount());
    result.bound_text = bound.to_string();
}

/// The worst block by each end; an unbounded one leaves no high end.
fn set_observed<'a>(result: &mut CriterionResult, quantile: Quantile, blocks: impl Iterator<Item = &'a Block>) {
    let (mut low, mut high, mut count) = (0, Some(0), 0);
    for block in blocks {
        count += 1;
        low = low.max(block.figures.low(quantile));
        high = high.zip(block.figures.high(quantile)).map(|(a, b)| a.max(b));
    }
    if count > 0 {
        result.observed_low = Some(held(low));
        result.observed_high = high.map(held);
        result.samples = count;
    }
}

/// How many blocks of a day exceed.
#[derive(Debug, Clone, Copy)]
struct DayShare {
    day_us: i64,
    exceeding: u64,
    blocks: u64,
}

impl DayShare {
    fn share(&self) -> i64 {
        // Rounded down: a share is not consistent because of rounding.
        let exact = u128::from(self.exceeding) * 100_000 / u128::from(self.blocks.max(1));
        i64::try_from(exact).unwrap_or(i64::MAX)
    }
}

/// The day with the largest share of blocks that exceed by their low end. A share is of all blocks of the day in the window,
/// observed or not, and of the policy's minimum at least: one bad block of two proves nothing about a day.
fn worst_day(policy: &Policy, quantile: Quantile, bound: Bound, lag: &RouteLag, window: Window) -> DayShare {
    let mut exceeding: BTreeMap<i64, u64> = BTreeMap::new();
    for block in &lag.blocks {
        if bound.holds(held(block.figures.low(quantile))) {
            *exceeding.entry(day_start(block.start_us)).or_default() += 1;
        }
    }
    let shares = exceeding.into_iter().map(|(day_us, exceeding)| {
        let start = day_us.max(block_start(window.from_us));
        let end = day_us.saturating_add(DAY_US).min(window.to_us);
        let blocks = u64::try_from(end.saturating_sub(start))
            .unwrap_or(0)
            .div_ceil(BLOCK_US.unsigned_abs());
        DayShare {
            day_us,
            exceeding,
            blocks: blocks.max(u64::from(policy.blocks.minimum)),
        }
    });
    shares.max_by_key(DayShare::share).unwrap_or(DayShare {
        day_us: 0,
        exceeding: 0,
        blocks: 1,
    })
}

/// GO by the high end: enough blocks and none exceeds; or enough episodes and a small enough share.
fn go_by_blocks(
    policy: &Policy,
    rule: &LagRule,
    blocks: &[&Block],
    place: &str,
    episode: impl Fn(&Block) -> i64,
    result: &mut CriterionResult,
) {
    let (quantile, go) = (rule.quantile, *rule.bounds.go.get_ref());
    set_bound(result, go);
    set_observed(result, quantile, blocks.iter().copied());
    let minimum = usize::try_from(policy.blocks.minimum).unwrap_or(usize::MAX);
    let is_within =
        |block: &&Block, bound: Bound| block.figures.high(quantile).is_some_and(|high| bound.holds(held(high)));
    let exceeding: Vec<&Block> = blocks.iter().copied().filter(|block| !is_within(block, go)).collect();
    let whole = blocks
        .iter()
        .filter(|block| block.figures.observed_us >= BLOCK_OBSERVED_US)
        .count();

    if whole >= minimum && exceeding.is_empty() {
        result.verdict = Verdict::Go;
        result.reason = format!("{} blocks {place}, none exceeds {}", blocks.len(), go.value());
    } else if let Some(reason) = go_by_episodes(policy, blocks, &exceeding, whole >= minimum, &episode) {
        result.verdict = Verdict::Go;
        result.reason = reason;
    } else {
        result.reason = not_proved(blocks, whole, minimum, place);
        result.next = "let the probe run until enough blocks are there".to_owned();
        if !exceeding.is_empty() {
            explain_exceeding(quantile, go, &exceeding, whole >= minimum, result);
        }
        return;
    }
    if let Some(remark) = rule.bounds.remark.as_ref().map(|bound| *bound.get_ref()) {
        let above = blocks.iter().filter(|block| !is_within(block, remark)).count();
        if above > 0 {
            add_remark(result, &format!("{above} of {} blocks are not {remark}", blocks.len()));
        }
    }
}

fn not_proved(blocks: &[&Block], whole: usize, minimum: usize, place: &str) -> String {
    if blocks.is_empty() {
        format!("0 of {minimum} blocks {place}")
    } else if blocks.len() < minimum {
        format!("{} of {minimum} blocks {place}", blocks.len())
    } else if whole < minimum {
        format!("{whole} of {minimum} blocks {place} that were observed for 4 of their 5 minutes")
    } else {
        format!("{} blocks {place}", blocks.len())
    }
}

/// The second way to GO. Blocks of one episode are not independent, so episodes are the trials: the larger of the share over all
/// blocks and the mean of the episodes' shares, times the number of episodes, rounded up, counts as hits. (A mean of shares in
/// [0, 1] varies less than hits and misses of the same mean, so the Clopper-Pearson bound stays on the safe side.)
fn go_by_episodes(
    policy: &Policy,
    blocks: &[&Block],
    exceeding: &[&Block],
    has_enough_blocks: bool,
    episode: &impl Fn(&Block) -> i64,
) -> Option<String> {
    let mut episodes: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for block in blocks {
        episodes.entry(episode(block)).or_default().1 += 1;
    }
    for block in exceeding {
        episodes.entry(episode(block)).or_default().0 += 1;
    }
    let trials = u32::try_from(episodes.len()).ok()?;
    if trials < policy.blocks.episodes_minimum || !has_enough_blocks {
        return None;
    }
    let pooled = share_milli_percent(u64::try_from(exceeding.len()).ok()?, u64::try_from(blocks.len()).ok()?);
    let shares: i64 = episodes
        .values()
        .map(|(hits, all)| share_milli_percent(*hits, *all))
        .sum();
    let hits = shares
        .max(pooled.saturating_mul(i64::from(trials)))
        .unsigned_abs()
        .div_ceil(100_000);
    let bound = upper_bound(u32::try_from(hits).ok()?, trials, CONFIDENCE);
    let allowed = policy.blocks.exceeding_share.get_ref();
    (bound < fraction(allowed.amount())).then(|| {
        format!(
            "{} of {} blocks exceed, in {trials} episodes: with 95 % confidence less than {:.1} % of blocks (allowed: {allowed})",
            exceeding.len(),
            blocks.len(),
            bound * 100.0
        )
    })
}

/// Says why exceeding blocks leave it open, and what would decide it.
fn explain_exceeding(
    quantile: Quantile,
    go: Bound,
    exceeding: &[&Block],
    has_enough: bool,
    result: &mut CriterionResult,
) {
    let word = quantile.word();
    let unbounded: Vec<&&Block> = exceeding
        .iter()
        .filter(|block| block.figures.high(quantile).is_none())
        .collect();
    let straddling: Vec<&&Block> = exceeding
        .iter()
        .filter(|block| block.figures.high(quantile).is_some() && go.holds(held(block.figures.low(quantile))))
        .collect();
    let proved = exceeding.len() - unbounded.len() - straddling.len();
    let mut parts = vec![result.reason.clone()];
    parts.push(match exceeding.len() {
        1 => format!("1 is not {go} by its high end"),
        n => format!("{n} are not {go} by their high end"),
    });
    if proved > 0 {
        parts.push(format!("{proved} of them by the low end too"));
    }
    if !unbounded.is_empty() {
        let missing: u64 = unbounded.iter().map(|block| block.figures.unbounded()).sum();
        let skipped: u64 = unbounded.iter().map(|block| block.figures.skipped).sum();
        let unread: u64 = unbounded.iter().map(|block| block.figures.unread).sum();
        let arrived = match unread {
            0 => String::new(),
            _ => format!("; {unread} arrived without a reading"),
        };
        parts.push(format!(
            "in {} the {word} is unbounded ({missing} canaries not seen, {skipped} of them skipped{arrived})",
            unbounded.len()
        ));
        result.next = if unread > missing {
            "mend the clocks: canaries arrived and were not read, because nobody vouched for a clock or its bound was proved false \
             (driftline_clock_bounds_violated_total)"
        } else {
            "find out why canaries were not seen or not sent: replication stopped, or the probe could not keep up"
        }
        .to_owned();
    }
    if let Some(worst) = straddling.iter().max_by_key(|block| block.figures.high(quantile)) {
        let (low, high) = (
            held(worst.figures.low(quantile)),
            held(worst.figures.high(quantile).unwrap_or(0)),
        );
        let bound = go.value().amount();
        // A truth in the middle of the reading stands this far from the bound: a reading narrower than that cannot hold both.
        let resolution = (low + (high - low) / 2 - bound).abs().max(1);
        parts.push(format!(
            "{} hold the bound inside their reading, e.g. [{}, {}] at {}",
            straddling.len(),
            Quantity::micros(low),
            Quantity::micros(high),
            instant_text(worst.start_us)
        ));
        result.next = format!(
            "readings narrower than about {} would decide it (now {}): put the watcher beside the secondary, or use two-clock mode",
            Quantity::micros(resolution),
            Quantity::micros(high - low)
        );
    } else if proved > 0 && unbounded.is_empty() && has_enough {
        result.next =
            "too often for GO and too seldom for INVESTIGATE: find the cause of these blocks, or measure more days"
                .to_owned();
    }
    result.reason = parts.join("; ");
}

fn remark_unobserved(policy: &Policy, lag: &RouteLag, window: Window, result: &mut CriterionResult) {
    let length = window.to_us.saturating_sub(block_start(window.from_us));
    let all = u64::try_from(length).unwrap_or(0).div_ceil(BLOCK_US.unsigned_abs());
    let held_blocks = amount(lag.blocks.len());
    if lag.blocks.len() >= usize::try_from(policy.blocks.minimum).unwrap_or(usize::MAX)
        && share_milli_percent(held_blocks, all) < WELL_OBSERVED_MILLI_PERCENT
    {
        let percent = to_f64(share_milli_percent(held_blocks, all)) / 1_000.0;
        add_remark(
            result,
            &format!("{held_blocks} of the {all} blocks of the window were observed ({percent:.0} %)"),
        );
    }
}
