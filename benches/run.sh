#!/usr/bin/env bash
# Measures, and records what it measured in benches/results. Installs what is missing, and says so.
#   benches/run.sh             all benchmarks, about half an hour with the build
#   benches/run.sh reconcile   one of them
# DRIFTLINE_BENCH_PROFILE=dev tries the benchmarks themselves: nothing is recorded then.
set -euo pipefail
cd "$(dirname "$0")/.."

RELADIFF='reladiff[postgresql]==0.6.0'
DRIVER='psycopg2-binary==2.9.13'
python=${XDG_CACHE_HOME:-$HOME/.cache}/driftline/reladiff
profile=${DRIFTLINE_BENCH_PROFILE:-release}

scripts/install.sh bench
if [ ! -e "$python/installed" ]; then
    echo "setup: pip install $RELADIFF $DRIVER (into $python)"
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/pip" install -q --disable-pip-version-check "$RELADIFF" "$DRIVER"
    touch "$python/installed"
fi
export DRIFTLINE_BENCH_RELADIFF=$python/bin/reladiff
export DRIFTLINE_BENCH_PG_COMPARATOR=/usr/bin/pg_comparator # of Debian's package

# What is measured is built for release; what measures it, as the tests are.
cargo build --locked --profile "$profile" --bin driftline
folder=$profile
[ "$folder" = dev ] && folder=debug
target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
export DRIFTLINE_BENCH_BINARY=$target/$folder/driftline
# What was built: earlier results alone may differ from the commit.
DRIFTLINE_BENCH_COMMIT=$(git rev-parse --short=12 HEAD)
[ -z "$(git status --porcelain --untracked-files=no -- . ':(exclude)benches/results')" ] || DRIFTLINE_BENCH_COMMIT+=-dirty
export DRIFTLINE_BENCH_COMMIT

[ $# -gt 0 ] || set -- reconcile extent harm probe four_stores rates freeze accuracy
for bench in "$@"; do
    cargo bench --locked --workspace --profile dev --bench "$bench"
done
