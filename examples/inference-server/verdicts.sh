#!/bin/sh
# The same pair with other seeds gives the same verdict: tells the three stories with so many
# seeds and counts how each ended. Takes about a minute and a half a seed on two quiet cores.
#
#     examples/inference-server/verdicts.sh [seeds, 20 by default]
set -eu
seeds=${1:-20}
cargo build --release -p inference-server
program=${CARGO_TARGET_DIR:-target}/release/inference-server
results=$(mktemp -d)
trap 'rm -r "$results"' EXIT
story() {
    name=$1
    shift
    for seed in $(seq "$seeds"); do
        "$program" demo --baseline standard_v2_1 "$@" --seed "$seed" --json "$results/one.json" \
            >/dev/null 2>&1 || true
        grep -o '"outcome": "[a-z_]*"' "$results/one.json" || echo '"outcome": "failed"'
        rm -f "$results/one.json"
    done | sort | uniq -c | sed "s/^/$name /"
}
story "worse and faster:    " --candidate standard_v3_1
story "as good and faster:  " --candidate standard_v3_3
story "fails in the canary: " --candidate standard_v3_3 --fault errors:0.2
