#!/usr/bin/env python3
"""Reads a .hlog with PyPI's hdrhistogram and prints, as JSON, both ends of the bucket of each percentile by tag.

usage: read_hlog.py FILE
"""

import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

LOWEST_US = 1
HIGHEST_US = 24 * 3600 * 1_000_000
DIGITS = 3
PERCENTILES = ["50", "90", "95", "99", "99.9", "100"]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    reader = HistogramLogReader(sys.argv[1], HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS))
    sums, intervals = {}, {}
    while (interval := reader.get_next_interval_histogram()) is not None:
        tag = interval.get_tag()
        sums.setdefault(tag, HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)).add(interval)
        intervals[tag] = intervals.get(tag, 0) + 1
    tags = {}
    for tag, histogram in sums.items():
        told = {"count": histogram.get_total_count(), "intervals": intervals[tag]}
        for percentile in PERCENTILES:
            value = histogram.get_value_at_percentile(float(percentile))
            told[f"p{percentile}"] = {
                "low": histogram.get_lowest_equivalent_value(value),
                "high": histogram.get_highest_equivalent_value(value),
            }
        tags[tag] = told
    print(json.dumps({"start_seconds": int(reader.get_start_time_sec()), "tags": tags}))


if __name__ == "__main__":
    main()
