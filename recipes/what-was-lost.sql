-- What the last events lost, as the canaries prove it: at least `lost`, at most `lost + unknown`, over a span between the two RPO ends.
-- Run views.sql first. A NULL upper end is unbounded.
WITH committed AS (
  SELECT DISTINCT run_id FROM runs WHERE kind = 'rpo' AND status <> 'running'
)
SELECT e.declared_at, e.kind, e.exercise, r.dataset, r.primary_site, r.secondary_site, r.acked, r.lost, r.unknown,
  r.rpo_low_us / 1e6 AS rpo_low_s, r.rpo_high_us / 1e6 AS rpo_high_s, r.shape, r.ledger_complete_until
FROM rpo r
JOIN committed USING (run_id)
LEFT JOIN (
  SELECT * FROM events QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY revision DESC) = 1
) e ON e.event_id = r.event_id
ORDER BY e.declared_at DESC, r.dataset;
