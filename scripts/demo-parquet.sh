#!/usr/bin/env bash
# Runs the demo and reads its Parquet back with DuckDB, pyarrow and Polars against the written contract.
set -euo pipefail
driftline=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$driftline" demo --folder "$folder/demo"
"${XDG_CACHE_HOME:-$HOME/.cache}/driftline/python/bin/python" tests/parquet/check_contract.py docs/parquet.json "$folder/demo/out"
