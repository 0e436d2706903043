#!/usr/bin/env bash
# Runs the demo, and reads its Parquet, and a specimen of every table, back with DuckDB, pyarrow and Polars against the written contract.
set -euo pipefail
driftline=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=${XDG_CACHE_HOME:-$HOME/.cache}/driftline/python/bin/python
"$driftline" demo --folder "$folder/demo"
cargo run --quiet --locked -p reports --example parquet_contract -- "$folder/specimens"
"$python" tests/parquet/check_contract.py "$folder/specimens/contract.json" "$folder/specimens/output" recipes
"$python" tests/parquet/check_contract.py "$folder/specimens/contract.json" "$folder/demo/out" recipes
