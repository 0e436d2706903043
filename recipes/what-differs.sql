-- What differs now, by collection, class and origin. `new_write` is what the promoted side wrote since: not a loss.
-- Run views.sql first.
SELECT dataset, collection, class, state, origin, count(*) AS keys, min(key) AS for_example
FROM open_divergences
GROUP BY ALL
ORDER BY keys DESC;
