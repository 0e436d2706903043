//! The truth tables of the verdict. Each was seen to fail with the rule that it names broken.

use reconcile::{CoverageState, Origin};

use super::super::blocks::MeasuredRoute;
use super::super::evidence::{Evidence, InventoryItem};
use super::super::fixture::{
    Canary, MONDAY_US, blocks, collect, covered, event, evidence, minute, only, policy, reconciliation, request, rpo,
    run,
};
use super::super::policy::Bounds;
use super::super::report::{CriterionResult, GateReport, Standing, Unit, Verdict};
use super::super::supplied::Supplied;
use super::{judge, two_ended};
use crate::EventKind;

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;
/// The end of Monday: evidence of that day is in the window.
const NOW_US: i64 = MONDAY_US + DAY_US;

fn ms(value: u64) -> u64 {
    value * 1_000
}

fn lag(intervals: Vec<super::super::SourcedInterval>) -> GateReport {
    run(evidence(&policy(), intervals), &Supplied::default(), NOW_US)
}

fn steady(intervals: Vec<super::super::SourcedInterval>) -> CriterionResult {
    only(&lag(intervals), "aurora-steady-lag").clone()
}

fn bounds(text: &str) -> Bounds {
    toml::from_str(text).unwrap()
}

#[test]
fn two_ends_two_uses() {
    let bounds = bounds("go='<= 200 ms'\ninvestigate='> 200 ms'\nno_go='> 500 ms'");
    let table = [
        (40, Some(90), Verdict::Go),
        (40, Some(200), Verdict::Go),
        (40, Some(201), Verdict::Inconclusive),
        (200, Some(260), Verdict::Inconclusive),
        (201, Some(260), Verdict::Investigate),
        (450, Some(510), Verdict::Investigate),
        (500, Some(510), Verdict::Investigate),
        (501, Some(510), Verdict::NoGo),
        (40, None, Verdict::Inconclusive),
        (300, None, Verdict::Investigate),
        (600, None, Verdict::NoGo),
    ];
    for (low, high, expected) in table {
        let verdict = two_ended(low * 1_000, high.map(|high: i64| high * 1_000), &bounds);
        assert_eq!(verdict, expected, "[{low}, {high:?}] ms");
    }
}

#[test]
fn a_true_470_ms_over_a_65_ms_round_trip_is_inconclusive_at_500_ms() {
    let text = super::super::NINETY_DAY.replacen(
        "bounds = { go = \"<= 200 ms\", remark = \"<= 100 ms\", investigate = \"> 200 ms\", no_go = \"> 500 ms\" }",
        "bounds = { go = \"<= 500 ms\", no_go = \"> 500 ms\" }",
        1,
    );
    let policy = super::super::Policy::parse("p.toml", &text).unwrap();
    let intervals = blocks(MONDAY_US, 60, |_, _| Canary::Seen(ms(449), ms(514)));
    let report = judge(
        &policy,
        &Supplied::default(),
        evidence(&policy, intervals),
        &request(NOW_US),
    );
    let result = only(&report, "aurora-steady-lag");
    assert_eq!(result.verdict, Verdict::Inconclusive, "{}", result.reason);
    assert!(
        result.reason.contains("hold the bound inside their reading"),
        "{}",
        result.reason
    );
    assert!(
        result.next.starts_with("readings narrower than about 18."),
        "{}",
        result.next
    );
}

#[test]
fn steady_lag_within_the_bound_is_go_with_its_remark() {
    let result = steady(blocks(MONDAY_US, 40, |_, _| Canary::Seen(ms(20), ms(60))));
    assert_eq!((result.verdict, result.samples), (Verdict::Go, 40), "{}", result.reason);
    assert_eq!(result.unit, Unit::Us);
    assert!(!result.remark.contains("not <= 100 ms"), "{}", result.remark);

    let result = steady(blocks(MONDAY_US, 40, |block, _| {
        Canary::Seen(ms(20), if block < 3 { ms(150) } else { ms(60) })
    }));
    assert_eq!(result.verdict, Verdict::Go, "{}", result.reason);
    assert!(
        result.remark.contains("3 of 40 blocks are not <= 100 ms"),
        "{}",
        result.remark
    );
}

#[test]
fn too_few_blocks_are_counted_and_never_go() {
    let result = steady(blocks(MONDAY_US, 2, |_, _| Canary::Seen(ms(20), ms(60))));
    assert_eq!(result.verdict, Verdict::Inconclusive);
    assert!(result.reason.starts_with("2 of 30 blocks"), "{}", result.reason);

    let result = steady(blocks(MONDAY_US, 29, |_, _| Canary::Seen(ms(20), ms(60))));
    assert!(result.reason.starts_with("29 of 30 blocks"), "{}", result.reason);
    assert_eq!(
        steady(blocks(MONDAY_US, 30, |_, _| Canary::Seen(ms(20), ms(60)))).verdict,
        Verdict::Go
    );
}

#[test]
fn a_canary_in_every_block_is_not_five_minutes_of_evidence() {
    let intervals = (0..40).map(|block| {
        minute(
            "orders-db",
            MONDAY_US + block * 300_000_000,
            &[Canary::Seen(ms(20), ms(60))],
        )
    });
    let result = steady(intervals.collect());
    assert_eq!(result.verdict, Verdict::Inconclusive);
    assert!(result.reason.starts_with("0 of 30 blocks"), "{}", result.reason);
}

#[test]
fn one_block_beyond_by_its_high_end_forbids_go() {
    let result = steady(blocks(MONDAY_US, 60, |block, _| {
        Canary::Seen(ms(20), if block == 7 { ms(260) } else { ms(60) })
    }));
    assert_eq!(result.verdict, Verdict::Inconclusive);
    assert!(
        result.reason.contains("1 is not <= 200 ms by its high end"),
        "{}",
        result.reason
    );
}

#[test]
fn skipped_and_unseen_canaries_count_against_go_and_not_for_no_go() {
    for unseen in [Canary::Skipped, Canary::Pending(ms(90_000)), Canary::Lost(ms(90_000))] {
        // Six of ten in every block: the median is unbounded, and every low end that was proved is small.
        let result = steady(blocks(MONDAY_US, 100, |_, canary| {
            if canary < 6 {
                unseen
            } else {
                Canary::Seen(ms(20), ms(60))
            }
        }));
        assert_eq!(result.verdict, Verdict::Inconclusive, "{unseen:?}: {}", result.reason);
        assert_eq!(
            (result.observed_low, result.observed_high),
            (Some(0), None),
            "{unseen:?}"
        );
        assert!(result.reason.contains("unbounded"), "{}", result.reason);
    }
}

#[test]
fn readings_beyond_the_bound_of_two_clocks_are_counted_and_decide_nothing() {
    // A few of them leave the quantile to the others; of more than half of them nobody knows the lag, whatever the others say.
    for (unread, others, verdict) in [
        (4, Canary::Seen(ms(20), ms(60)), Verdict::Go),
        (6, Canary::Seen(ms(20), ms(60)), Verdict::Inconclusive),
        (6, Canary::Seen(ms(900), ms(950)), Verdict::Inconclusive),
        (10, Canary::Unread, Verdict::Inconclusive),
    ] {
        let result = steady(blocks(MONDAY_US, 40, |_, canary| {
            if canary < unread { Canary::Unread } else { others }
        }));
        assert_eq!(result.verdict, verdict, "{unread} of ten: {}", result.reason);
        if verdict == Verdict::Go {
            continue;
        }
        // A histogram knows no smaller value than 1 us.
        assert!(
            result.observed_low <= Some(1) && result.observed_high.is_none(),
            "{result:?}"
        );
        let counted = format!(
            "(0 canaries not seen, 0 of them skipped; {} arrived without a reading)",
            unread * 200
        );
        assert!(result.reason.contains(&counted), "{}", result.reason);
        assert!(
            result.next.contains("driftline_clock_bounds_violated_total"),
            "{}",
            result.next
        );
    }
}

#[test]
fn consistently_is_a_fifth_of_the_blocks_of_a_day() {
    // The window takes in 100 blocks of Monday; 20 of them are a fifth.
    let judged = |bad: i64, low: u64| {
        let policy = policy();
        let intervals = blocks(MONDAY_US, 100, |block, _| {
            if block < bad {
                Canary::Seen(ms(low), ms(low + 30))
            } else {
                Canary::Seen(ms(20), ms(60))
            }
        });
        let mut request = request(MONDAY_US + 100 * 300_000_000);
        request.from_us = Some(MONDAY_US);
        let report = judge(&policy, &Supplied::default(), evidence(&policy, intervals), &request);
        only(&report, "aurora-steady-lag").clone()
    };
    assert_eq!(judged(19, 600).verdict, Verdict::Inconclusive);
    assert_eq!(judged(20, 600).verdict, Verdict::NoGo);
    assert_eq!(judged(20, 300).verdict, Verdict::Investigate);
    // Beyond by the high end alone proves nothing.
    assert_eq!(judged(100, 190).verdict, Verdict::Inconclusive);
    let result = judged(25, 600);
    assert!(result.reason.contains("in 25 of 100 blocks (25 %"), "{}", result.reason);
}

#[test]
fn two_bad_blocks_are_no_day() {
    let intervals = blocks(MONDAY_US, 2, |_, _| Canary::Seen(ms(900), ms(950)));
    let mut request = request(MONDAY_US + 600_000_000);
    request.from_us = Some(MONDAY_US);
    let report = judge(
        &policy(),
        &Supplied::default(),
        evidence(&policy(), intervals),
        &request,
    );
    let result = only(&report, "aurora-steady-lag");
    assert_eq!(result.verdict, Verdict::Inconclusive, "{}", result.reason);
    assert!(result.reason.starts_with("2 of 30 blocks"), "{}", result.reason);
}

#[test]
fn many_days_may_hold_a_few_bad_blocks() {
    // 25 days of two hours each; one bad block a week. Then the same bad blocks on too few days.
    let days = |count: i64| {
        let policy = policy();
        let intervals: Vec<_> = (0..count)
            .flat_map(|day| {
                blocks(MONDAY_US + day * DAY_US, 24, move |block, _| {
                    Canary::Seen(ms(20), if block == 3 && day % 7 == 0 { ms(260) } else { ms(60) })
                })
            })
            .collect();
        let mut request = request(MONDAY_US + count * DAY_US);
        request.from_us = Some(MONDAY_US);
        let report = judge(&policy, &Supplied::default(), evidence(&policy, intervals), &request);
        only(&report, "aurora-steady-lag").clone()
    };
    let enough = days(25);
    assert_eq!(enough.verdict, Verdict::Go, "{}", enough.reason);
    assert!(
        enough
            .reason
            .contains("in 25 episodes: with 95 % confidence less than 17.6 %"),
        "{}",
        enough.reason
    );
    assert_eq!(days(19).verdict, Verdict::Inconclusive);
    // At 20 days one hit in 20 has the bound 21.6 %, which is more than the policy allows.
    assert_eq!(days(20).verdict, Verdict::Inconclusive);
}

#[test]
fn too_few_episodes_do_not_help_however_generous_the_policy() {
    let text = super::super::NINETY_DAY.replacen("exceeding_share = \"20 %\"", "exceeding_share = \"50 %\"", 1);
    let policy = super::super::Policy::parse("p.toml", &text).unwrap();
    for (days, expected) in [(19, Verdict::Inconclusive), (20, Verdict::Go)] {
        let one_day = |day: i64| {
            blocks(MONDAY_US + day * DAY_US, 3, move |block, _| {
                Canary::Seen(ms(20), if day == 0 && block == 0 { ms(260) } else { ms(60) })
            })
        };
        let mut request = request(MONDAY_US + days * DAY_US);
        request.from_us = Some(MONDAY_US);
        let found = evidence(&policy, (0..days).flat_map(one_day).collect());
        let report = judge(&policy, &Supplied::default(), found, &request);
        let result = only(&report, "aurora-steady-lag");
        assert_eq!(result.verdict, expected, "{days} days: {}", result.reason);
    }
}

#[test]
fn a_peak_window_is_judged_as_a_whole() {
    // 08:00 on Monday; 40 blocks of the peak window.
    let peak = |slow: i64| {
        let intervals = blocks(MONDAY_US + 8 * HOUR_US, 40, move |block, canary| {
            if block < slow && canary == 0 {
                Canary::Seen(ms(400), ms(450))
            } else {
                Canary::Seen(ms(20), ms(60))
            }
        });
        only(&lag(intervals), "aurora-peak-lag").clone()
    };
    assert_eq!(peak(0).verdict, Verdict::Go);
    // 5 of 2,000 canaries: the p99 of the window is fine, that of one block is not.
    assert_eq!(peak(1).verdict, Verdict::Inconclusive);
    // 25 of 2,000: more than 1 % of the whole window.
    let result = peak(5);
    assert_eq!(result.verdict, Verdict::Investigate, "{}", result.reason);
    assert!(result.reason.contains("working-day of 2026-11-16"), "{}", result.reason);
}

#[test]
fn peak_blocks_do_not_count_as_steady() {
    let report = lag(blocks(MONDAY_US + 8 * HOUR_US, 40, |_, _| Canary::Seen(ms(20), ms(60))));
    let result = only(&report, "aurora-steady-lag");
    assert!(result.reason.starts_with("0 of 30 blocks"), "{}", result.reason);
}

#[test]
fn the_highest_revision_counts_once() {
    let policy = policy();
    let first = minute(
        "orders-db",
        MONDAY_US,
        &[Canary::Pending(ms(100)), Canary::Seen(ms(20), ms(60))],
    );
    let mut second = minute(
        "orders-db",
        MONDAY_US,
        &[Canary::Seen(ms(20), ms(700)), Canary::Seen(ms(20), ms(60))],
    );
    second.interval.revision = 1;
    for order in [vec![first.clone(), second.clone()], vec![second, first]] {
        let (lag, problems) = collect(&policy, order);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            (lag[0].blocks[0].figures.planned, lag[0].blocks[0].figures.seen),
            (2, 2)
        );
    }
}

#[test]
fn evidence_that_does_not_add_up_is_never_go() {
    let mut intervals = blocks(MONDAY_US, 40, |_, _| Canary::Seen(ms(20), ms(60)));
    intervals[3].interval.planned += 1;
    let report = lag(intervals);
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert!(
        report.problems[0].contains("planned 11 canaries and accounts for 10"),
        "{:?}",
        report.problems
    );
    assert_ne!(report.verdict, Verdict::Go);
}

fn item(dataset: &str, unit: &str) -> InventoryItem {
    InventoryItem {
        dataset: dataset.to_owned(),
        unit: unit.to_owned(),
        store: "aurora".to_owned(),
        primary_site: "use1".to_owned(),
        secondary_site: "usw2".to_owned(),
    }
}

#[test]
fn what_no_canary_represents_is_unmeasured() {
    let mut found = evidence(&policy(), blocks(MONDAY_US, 40, |_, _| Canary::Seen(ms(20), ms(60))));
    found.inventory = vec![item("payments", "orders-db"), item("archive", "archive-db")];
    let report = run(found, &Supplied::default(), NOW_US);
    let results: Vec<(&str, Verdict)> = report
        .criteria
        .iter()
        .filter(|result| result.id == "aurora-steady-lag")
        .map(|result| (result.dataset.as_deref().unwrap_or_default(), result.verdict))
        .collect();
    assert_eq!(
        results,
        [("orders-db", Verdict::Go), ("archive-db", Verdict::Inconclusive)]
    );
    assert!(only(&report, "dynamodb-lag").reason.starts_with("unmeasured"));
}

/// Loss of one failover with these findings.
fn loss(change: impl Fn(&mut Evidence)) -> CriterionResult {
    let event = event(EventKind::Failover, MONDAY_US + HOUR_US);
    let mut found = Evidence {
        events: vec![event.clone()],
        rpo: vec![rpo(&event, 0)],
        reconciliations: vec![reconciliation(&event, &[(Some(Origin::NewWrite), 12)])],
        ..Evidence::default()
    };
    change(&mut found);
    only(&run(found, &Supplied::default(), NOW_US), "no-loss").clone()
}

#[test]
fn zero_loss_needs_a_complete_comparison_with_the_old_copy() {
    let whole = loss(|_| ());
    assert_eq!(whole.verdict, Verdict::Go, "{}", whole.reason);
    assert_eq!(
        (whole.observed_low, whole.observed_high, whole.unit),
        (Some(0), Some(0), Unit::Keys)
    );

    let canaries_alone = loss(|found| found.reconciliations.clear());
    assert_eq!(canaries_alone.verdict, Verdict::Inconclusive);
    assert_eq!(
        (canaries_alone.observed_high, canaries_alone.unit),
        (None, Unit::Canaries)
    );
    assert!(
        canaries_alone.reason.contains("does not prove zero loss"),
        "{}",
        canaries_alone.reason
    );

    let spoilers: [fn(&mut Evidence); 7] = [
        |found| found.reconciliations[0].complete = false,
        |found| found.reconciliations[0].relation = Some("replicating".to_owned()),
        |found| found.reconciliations[0].relation = None,
        |found| found.reconciliations[0].event_id = Some("another".to_owned()),
        |found| found.reconciliations[0].collections.clear(),
        |found| {
            found.reconciliations[0]
                .collections
                .push(covered("public.log", CoverageState::Partial, "no_usable_key", 0))
        },
        |found| found.events[0].datasets.push("billing".to_owned()),
    ];
    for (number, spoiler) in spoilers.into_iter().enumerate() {
        let result = loss(spoiler);
        assert_eq!(
            result.verdict,
            Verdict::Inconclusive,
            "spoiler {number}: {}",
            result.reason
        );
    }
}

#[test]
fn keys_of_unknown_origin_are_neither_loss_nor_its_absence() {
    for origin in [Some(Origin::Unknown), None] {
        let result = loss(|found| {
            let event = found.events[0].clone();
            found.reconciliations = vec![reconciliation(&event, &[(origin, 3)])];
        });
        assert_eq!(result.verdict, Verdict::Inconclusive, "{}", result.reason);
        assert_eq!((result.observed_low, result.observed_high), (Some(0), Some(3)));
    }
    // Counted by the coverage, listed nowhere.
    let result = loss(|found| found.reconciliations[0].collections[0].confirmed = 20);
    assert_eq!((result.verdict, result.observed_high), (Verdict::Inconclusive, Some(8)));
}

#[test]
fn proved_loss_is_no_go_however_it_was_proved() {
    let changes: [fn(&mut Evidence); 3] = [
        |found| found.rpo = vec![rpo(&found.events[0], 37)],
        |found| found.reconciliations = vec![reconciliation(&found.events[0], &[(Some(Origin::LostWrite), 1)])],
        |found| {
            found.reconciliations = vec![reconciliation(&found.events[0], &[(Some(Origin::Conflict), 1)])];
            // Also when the run that saw it was not complete.
            found.reconciliations[0].complete = false;
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let result = loss(change);
        assert_eq!(result.verdict, Verdict::NoGo, "change {number}: {}", result.reason);
        assert!(result.reason.starts_with("proved loss"), "{}", result.reason);
    }
}

#[test]
fn a_repeated_comparison_counts_its_keys_once() {
    let result = loss(|found| {
        let run = reconciliation(&found.events[0], &[(Some(Origin::LostWrite), 5)]);
        found.reconciliations = vec![run.clone(), run];
    });
    assert_eq!(result.observed_low, Some(5));
}

#[test]
fn what_was_not_selected_is_said() {
    let result = loss(|found| {
        found.reconciliations[0]
            .collections
            .push(covered("public.tmp", CoverageState::Skipped, "not_selected", 0));
    });
    assert_eq!(result.verdict, Verdict::Go, "{}", result.reason);
    assert!(result.remark.contains("not selected (1)"), "{}", result.remark);
}

#[test]
fn promotions_are_judged_one_by_one() {
    let judged = |change: fn(&mut crate::Event)| {
        let mut failover = event(EventKind::Failover, MONDAY_US + HOUR_US);
        change(&mut failover);
        let found = Evidence {
            events: vec![failover],
            ..Evidence::default()
        };
        let report = run(found, &Supplied::default(), NOW_US);
        (only(&report, "promotion").verdict, only(&report, "demotion").verdict)
    };
    assert_eq!(judged(|_| ()), (Verdict::Go, Verdict::Inconclusive));
    assert_eq!(
        judged(|event| event.outcome = Some("failed: no quorum".to_owned())).0,
        Verdict::NoGo
    );
    assert_eq!(judged(|event| event.promoted_at_us = None).0, Verdict::Inconclusive);
    assert_eq!(
        judged(|event| event.kind = EventKind::Switchover),
        (Verdict::Go, Verdict::Go)
    );
}

fn supplied(text: &str) -> Supplied {
    Supplied::parse("evidence.toml", text, &policy()).unwrap()
}

fn figure(criterion: &str, value: &str, day: &str) -> String {
    format!(
        "[[figure]]\ncriterion = '{criterion}'\nvalue = '{value}'\nmeasured_on = '{day}'\nsupplied_by = 'R. Vogel'\nsource = 'drill 41'\n"
    )
}

#[test]
fn supplied_figures_have_sharp_bounds_and_an_age() {
    let cases = [
        ("restore-time", "14.9 min", "2026-11-15", Verdict::Go),
        ("restore-time", "15 min", "2026-11-15", Verdict::Investigate),
        ("secret-rotation", "59.9 s", "2026-11-15", Verdict::Go),
        ("cost", "-3 %", "2026-11-15", Verdict::Go),
        ("cost", "20 %", "2026-11-15", Verdict::Go),
        ("cost", "20.1 %", "2026-11-15", Verdict::Investigate),
        ("cost", "100 %", "2026-11-15", Verdict::NoGo),
        ("cost", "5 %", "2026-07-01", Verdict::Inconclusive),
        ("cost", "5 %", "2026-11-30", Verdict::Inconclusive),
    ];
    for (criterion, value, day, expected) in cases {
        let report = run(Evidence::default(), &supplied(&figure(criterion, value, day)), NOW_US);
        let result = only(&report, criterion);
        assert_eq!(
            result.verdict, expected,
            "{criterion} {value} of {day}: {}",
            result.reason
        );
    }
    let report = run(Evidence::default(), &Supplied::default(), NOW_US);
    assert!(only(&report, "cost").reason.starts_with("unmeasured"));
}

/// Everything that the policy wants, except DynamoDB.
fn all_well() -> (Evidence, String) {
    let mut intervals = blocks(MONDAY_US, 40, |_, _| Canary::Seen(ms(20), ms(60)));
    intervals.extend(blocks(MONDAY_US + 8 * HOUR_US, 40, |_, _| Canary::Seen(ms(20), ms(60))));
    let mut found = evidence(&policy(), intervals);
    let switchover = event(EventKind::Switchover, MONDAY_US + HOUR_US);
    found.reconciliations = vec![reconciliation(&switchover, &[])];
    found.events = vec![switchover];
    found.inventory = vec![item("shop", "orders-db")];
    let figures = [
        figure("restore-time", "12 min", "2026-11-16"),
        figure("secret-rotation", "31 s", "2026-11-16"),
        figure("cost", "4 %", "2026-11-16"),
    ];
    (found, figures.concat())
}

fn waiver(expires: &str) -> String {
    format!(
        "[[waiver]]\ncriterion = 'dynamodb-lag'\nreason = 'next quarter'\napprover = 'M. Okafor'\nexpires = '{expires}'\n"
    )
}

#[test]
fn the_whole_is_as_good_as_its_worst() {
    let (found, figures) = all_well();
    assert_eq!(
        run(found.clone(), &supplied(&figures), NOW_US).verdict,
        Verdict::Inconclusive
    );

    let not_applicable = "[[not_applicable]]\ncriterion = 'dynamodb-lag'\nreason = 'none'\nstated_by = 'R. Vogel'\n";
    let report = run(found.clone(), &supplied(&format!("{figures}{not_applicable}")), NOW_US);
    assert_eq!(
        (report.verdict, report.exit_code(), report.verdict_text().as_str()),
        (Verdict::Go, 0, "GO"),
        "{:#?}",
        report.criteria
    );

    let worse = figures.replace("4 %", "30 %");
    let report = run(found.clone(), &supplied(&worse), NOW_US);
    assert_eq!((report.verdict, report.exit_code()), (Verdict::Investigate, 1));

    let mut lossy = found;
    lossy.rpo = vec![rpo(&lossy.events[0], 1)];
    let report = run(lossy, &supplied(&worse), NOW_US);
    assert_eq!((report.verdict, report.exit_code()), (Verdict::NoGo, 1));
    assert_eq!(run(Evidence::default(), &Supplied::default(), NOW_US).exit_code(), 3);
}

#[test]
fn a_waiver_is_counted_printed_and_expires() {
    let (found, figures) = all_well();
    // Valid until the end of its day: NOW is the first instant of the 17th.
    let report = run(
        found.clone(),
        &supplied(&format!("{figures}{}", waiver("2026-11-17"))),
        NOW_US,
    );
    assert_eq!(
        (report.verdict, report.verdict_text().as_str()),
        (Verdict::Go, "GO (1 waiver)")
    );
    let result = only(&report, "dynamodb-lag");
    assert_eq!(result.verdict, Verdict::Inconclusive);
    assert!(matches!(&result.standing, Standing::Waived(waiver) if waiver.approver == "M. Okafor"));

    let report = run(found, &supplied(&format!("{figures}{}", waiver("2026-11-16"))), NOW_US);
    assert_eq!(
        (report.verdict, report.expired_waivers.len()),
        (Verdict::Inconclusive, 1)
    );
}

#[test]
fn what_has_evidence_applies() {
    let (mut found, figures) = all_well();
    let mut dynamodb = found.lag[0].clone();
    dynamodb.route = MeasuredRoute {
        store: "dynamodb".to_owned(),
        ..dynamodb.route
    };
    dynamodb.blocks.truncate(3);
    found.lag.push(dynamodb);
    let text =
        format!("{figures}[[not_applicable]]\ncriterion = 'dynamodb-lag'\nreason = 'none'\nstated_by = 'R. Vogel'\n");
    let report = run(found, &supplied(&text), NOW_US);
    let result = only(&report, "dynamodb-lag");
    assert!(result.is_counted());
    assert!(
        result.remark.contains("there is evidence, so it counts"),
        "{}",
        result.remark
    );
    assert_eq!(report.verdict, Verdict::Inconclusive);
}

#[test]
fn evidence_that_cannot_be_used_forbids_go() {
    let (mut found, figures) = all_well();
    found.problems.push("lag_intervals: a file cannot be read".to_owned());
    let report = run(found, &supplied(&format!("{figures}{}", waiver("2027-01-01"))), NOW_US);
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert!(report.headline.contains("cannot be used"), "{}", report.headline);
}
