-- Everything that the last reconciliation of each pair did not prove equal, with the reason. An empty answer is the good one.
-- Run views.sql first.
SELECT c.dataset, c.collection, c.primary_site, c.secondary_site, c.state, c.reason, c.confirmed, c.volatile, c.unverified,
  c.chunks_failed, c.finished_at
FROM coverage c
JOIN latest_run r ON r.run_id = c.run_id AND r.kind = 'reconcile'
WHERE c.state <> 'verified'
ORDER BY c.state, c.dataset, c.collection;
