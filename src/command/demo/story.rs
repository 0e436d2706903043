//! The story, act by act.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use lab::{Pattern, Side, Touches, Workload, WorkloadOptions};
use probes::Rpo;
use tokio_util::sync::CancellationToken;

use super::running::RunningProbe;
use super::teller::Teller;
use super::{AFTERWARDS, CUT, Exit, Failure, NEW_SITE, OLD_SITE, Outcome, STEADY, Stage, truth};
use crate::cli::{
    EventEndArgs, EventKindArg, EventMarkArgs, EventStartArgs, GateArgs, Mark, ReconcileArgs, SelectArgs,
};
use crate::command::lab::DATABASE;
use crate::command::{Context, event, gate, lab as lab_command, reconcile, rpo};

/// What fails over. The other stores are probed all the while.
const DATASET: &str = "shop";
/// The connection that it lies on.
const CONNECTION: &str = "shop-db";
/// Rows that both sides change after they part.
const CONFLICTS: std::ops::RangeInclusive<i64> = 101..=107;

/// Plays the story and tells it. `Fine`: what was found is exactly what was planted. `Found`: it is not.
pub(super) async fn play(folder: &Path, begun: Instant) -> Outcome {
    let told = Teller { begun };
    told.line(
        "driftline demo: lag, a failover, what it lost, what differs, and a verdict; on PostgreSQL servers of its own, and stand-ins of DynamoDB, S3 and Kafka",
    )?;

    told.act("1. Two sites")?;
    let stage = lab_command::stage(folder, lab::demo::ROWS)
        .await
        .map_err(Failure::cannot_tell)?;
    told.line(&format!(
        "   PostgreSQL: {OLD_SITE} takes writes, {NEW_SITE} follows; {} rows in {}\n   and in this process a DynamoDB table, a bucket and Kafka topics that are copied from {OLD_SITE} to {NEW_SITE}",
        lab::demo::ROWS,
        lab::demo::TABLES.join(", ")
    ))?;

    let story = Story { stage, told };
    let matched = story.play().await;
    let Story { stage, told } = story;
    let pages = (stage.config_file.clone(), stage.context.output.clone());
    stage.pair.shutdown().await;
    let matched = matched?;
    told.files(&pages.0, &pages.1)?;
    told.line(&format!(
        "\ndone in {:.0} s: planted and found {}",
        begun.elapsed().as_secs_f64(),
        if matched { "agree" } else { "DIFFER" }
    ))?;
    Ok(if matched { Exit::Fine } else { Exit::Found })
}

struct Story {
    stage: Stage,
    told: Teller,
}

impl Story {
    async fn play(&self) -> Result<bool, Failure> {
        let context = &self.stage.context;
        self.steady().await?;
        let probe = RunningProbe::start(context).await?;
        probe.sees_canaries().await?;
        event::start(
            context,
            &EventStartArgs {
                kind: EventKindArg::Failover,
                from: OLD_SITE.to_owned(),
                to: NEW_SITE.to_owned(),
                exercise: true,
                scenario: Some("replication is cut, then the standby is promoted".to_owned()),
                dataset: vec![DATASET.to_owned()],
                at: None,
                notes: String::new(),
            },
        )?;
        let old = self.cut(&probe).await?;
        let new = self.promote().await?;
        let measured = probe.stop().await?;
        for route in measured
            .summary
            .routes
            .iter()
            .filter(|one| one.route.dataset == DATASET && !one.is_dormant)
        {
            let a = &route.accounting;
            self.told.line(&format!(
                "   the probe is stopped; {} -> {}: {} canaries planned, {} seen, {} not seen, {} not sent",
                route.route.primary_site,
                route.route.secondary_site,
                a.planned,
                a.seen,
                a.pending + a.lost,
                a.skipped
            ))?;
        }

        let after = promoted(context)?;
        let lost_is_right = self.prove_loss(&after).await?;
        let differences_are_right = self.reconcile(&after, old, new).await?;
        event::end(
            &after,
            &EventEndArgs {
                event: "latest".to_owned(),
                outcome: Some("drill over".to_owned()),
                at: None,
            },
        )?;
        self.judge(&after)?;
        Ok(lost_is_right && differences_are_right)
    }

    async fn steady(&self) -> Result<(), Failure> {
        self.told
            .act("2. Lag of four stores, measured by canaries while the shop sells (`driftline probe`)")?;
        let probe = RunningProbe::start(&self.stage.context).await?;
        let workload = self
            .workload(self.stage.pair.primary(), WorkloadOptions::new(DATABASE, "payments"))
            .await?;
        tokio::time::sleep(STEADY).await;
        let written = workload.stop().await.map_err(Failure::cannot_tell)?;
        let measured = probe.stop().await?;
        self.told.line(&format!(
            "   {} writes to payments in {} s; the probe was stopped and drained",
            written.writes(),
            STEADY.as_secs()
        ))?;
        self.told.indented(&reports::render::lag_terminal(&measured.lag))
    }

    /// Replication is cut while the old primary goes on to take writes: nobody else will ever have them.
    async fn cut(&self, probe: &RunningProbe) -> Result<Touches, Failure> {
        self.told.act("3. Replication is cut; the old primary writes on")?;
        let pair = &self.stage.pair;
        pair.wait_replayed(CUT).await.map_err(Failure::cannot_tell)?;
        pair.cut();
        let workload = self
            .workload(pair.primary(), WorkloadOptions::new(DATABASE, "payments"))
            .await?;
        tokio::time::sleep(CUT).await;
        let mut touches = workload.stop().await.map_err(Failure::cannot_tell)?.touches;
        self.change_conflicting(pair.primary(), "by the old side", &mut touches)
            .await?;
        if let Some(age) = probe.oldest_unseen() {
            self.told
                .line(&format!("   the oldest unseen canary is {age:.1} s old and rising"))?;
        }
        Ok(touches)
    }

    async fn promote(&self) -> Result<Touches, Failure> {
        self.told
            .act(&format!("4. {NEW_SITE} is promoted and takes new writes"))?;
        let pair = &self.stage.pair;
        pair.promote().await.map_err(Failure::cannot_tell)?;
        let mark = |mark| EventMarkArgs {
            mark,
            event: "latest".to_owned(),
            at: None,
        };
        let marked = event::mark(&self.stage.context, &mark(Mark::Promoted)).await?;
        for fork in marked.forks.values() {
            let at = jiff::Timestamp::from_microsecond(fork.at_high_us).map_err(Failure::cannot_tell)?;
            self.told
                .line(&format!("   the copies parted after the commit of {at}"))?;
        }
        let workload = self
            .workload(pair.standby(), WorkloadOptions::new(DATABASE, "orders"))
            .await?;
        event::mark(&self.stage.context, &mark(Mark::TrafficShifted)).await?;
        tokio::time::sleep(AFTERWARDS).await;
        let mut touches = workload.stop().await.map_err(Failure::cannot_tell)?.touches;
        self.change_conflicting(pair.standby(), "by the new side", &mut touches)
            .await?;
        Ok(touches)
    }

    async fn workload(&self, server: &lab::PgServer, options: WorkloadOptions) -> Result<Workload, Failure> {
        let options = WorkloadOptions {
            pattern: Pattern::Mixed,
            ..options
        };
        Workload::start(server, options).await.map_err(Failure::cannot_tell)
    }

    async fn change_conflicting(
        &self,
        server: &lab::PgServer,
        note: &str,
        touches: &mut Touches,
    ) -> Result<(), Failure> {
        let sql = format!(
            "update public.customers set note = '{note}' where id between {} and {}",
            CONFLICTS.start(),
            CONFLICTS.end()
        );
        server.execute(DATABASE, &sql).await.map_err(Failure::cannot_tell)?;
        for id in CONFLICTS {
            touches.note("public.customers", &format!("{{\"id\":{id}}}"), true, true);
        }
        Ok(())
    }

    /// The ledger against the promoted end; and, since the old primary is still there in a demo, against its ring.
    async fn prove_loss(&self, after: &Context) -> Result<bool, Failure> {
        self.told
            .act("5. How much was lost? The ledger against the promoted server (`driftline rpo`)")?;
        let loss = rpo::prove(after, "latest", &after.config.ledger.path).await?;
        self.told.indented(&loss.terminal())?;
        let mut right = true;
        for rpo in &loss.results {
            let planted = self
                .canaries_only_at_the_old_primary(rpo)
                .await
                .map_err(Failure::cannot_tell)?;
            right &= planted == rpo.lost;
            self.told.line(&format!(
                "   canaries only at the old primary: {planted}; found lost: {}",
                rpo.lost
            ))?;
        }
        Ok(right)
    }

    async fn canaries_only_at_the_old_primary(&self, rpo: &Rpo) -> Result<u64> {
        let newest = format!(
            "select coalesce(max(seq), 0)::text from driftline.canary where epoch = '{}'",
            rpo.epoch
        );
        let survivor = self
            .stage
            .pair
            .standby()
            .value("driftline", &newest)
            .await?
            .unwrap_or_default();
        let count = format!(
            "select count(*)::text from driftline.canary where epoch = '{}' and seq > {survivor}",
            rpo.epoch
        );
        let lost = self
            .stage
            .pair
            .primary()
            .value("driftline", &count)
            .await?
            .unwrap_or_default();
        lost.parse().context("count the canaries of the old primary")
    }

    async fn reconcile(&self, after: &Context, old: Touches, new: Touches) -> Result<bool, Failure> {
        self.told
            .act("6. The old primary is back, independent. What differs? (`driftline reconcile run`)")?;
        let truth = Touches::truth(&old, &new, Side::New);
        let file = after.output.join("planted.json");
        std::fs::create_dir_all(&after.output).map_err(Failure::cannot_tell)?;
        truth.write(&file).map_err(Failure::cannot_tell)?;
        let args = ReconcileArgs {
            select: SelectArgs {
                dataset: vec![DATASET.to_owned()],
                event: Some("latest".to_owned()),
                relation: None,
                include_values: false,
            },
            resume: None,
            time_budget: None,
            estimate: false,
            recheck: None,
            against: None,
        };
        let compared = reconcile::compare(after, &args, CancellationToken::new()).await?;
        let mut right = compared.not_compared.is_empty();
        for findings in &compared.findings {
            self.told.indented(&findings.terminal())?;
            let found = truth::found(&after.output, findings).map_err(Failure::cannot_tell)?;
            let (table, mismatches) = truth::against(&truth, &found);
            self.told.indented(&table)?;
            self.told.indented(&mismatches.to_string())?;
            right &= mismatches.is_empty() && findings.complete;
        }
        Ok(right && !compared.findings.is_empty())
    }

    fn judge(&self, after: &Context) -> Result<(), Failure> {
        self.told.act("7. Go or no go? (`driftline gate run ninety-day`)")?;
        let args = GateArgs {
            policy: "ninety-day".to_owned(),
            from: None,
            to: None,
            event: Some("latest".to_owned()),
            evidence: None,
        };
        let report = gate::judge(after, &args)?;
        self.told.indented(&gate::words(&report))?;
        if Exit::from_code(report.exit_code()) != Exit::Found {
            return Err(Failure::cannot_tell(anyhow!(
                "the gate did not see the proved loss as NO-GO"
            )));
        }
        Ok(())
    }
}

/// The context of commands that come after the promotion: the new site writes.
fn promoted(context: &Context) -> Result<Context, Failure> {
    let mut after = context.clone();
    after
        .config
        .state_writers(&[format!("{CONNECTION}={NEW_SITE}")])
        .map_err(Failure::refused)?;
    Ok(after)
}
