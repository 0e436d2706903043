#!/usr/bin/env bash
# Checks the alert rules, and replays what must and must not make each of them fire.
set -euo pipefail

cd "$(dirname "$0")/../deploy/prometheus"
command -v promtool >/dev/null || { echo "promtool is missing: scripts/install.sh rules" >&2; exit 1; }
promtool check rules driftline.rules.yml
promtool test rules tests/*.yml
