-- Lag by route and hour: the worst minute's p99 by both ends, and how many canaries never arrived in time.
-- A minute whose p99 is unbounded (canaries unseen) makes the hour's upper end NULL: percentiles are never averaged.
-- Run views.sql first.
WITH revised AS (
  SELECT * FROM lag_intervals
  QUALIFY row_number() OVER (
    PARTITION BY dataset, store, primary_site, secondary_site, observer, epoch, interval_start
    ORDER BY revision DESC, run_id DESC) = 1
)
SELECT dataset, store, primary_site, secondary_site, date_trunc('hour', interval_start) AS hour,
  sum(planned) AS planned, sum(seen) AS seen, sum(lost) AS lost, sum(pending) AS pending, sum(skipped) AS skipped,
  max(low_p99_us) / 1e3 AS worst_low_p99_ms,
  CASE WHEN count(*) FILTER (high_p99_us IS NULL AND planned > skipped + write_failed) = 0
    THEN max(high_p99_us) / 1e3 END AS worst_high_p99_ms,
  sum(gap_us) / 1e6 AS not_observed_s
FROM revised
GROUP BY ALL
ORDER BY hour DESC, dataset;
