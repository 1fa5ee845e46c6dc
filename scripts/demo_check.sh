#!/usr/bin/env bash
# Plays the demo's three stories and holds them to their verdicts.
#
#   scripts/demo_check.sh            once, with seed 1
#   scripts/demo_check.sh 1 20       with seeds 1 to 20, counting
set -euo pipefail
cd "$(dirname "$0")/.."
from=${1:-1}
to=${2:-$from}
cargo build --release --quiet -p inference-server
server=${CARGO_TARGET_DIR:-target}/release/inference-server
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
passed=0
for seed in $(seq "$from" "$to"); do
  if timeout 600 "$server" demo --seed "$seed" --json "$out/$seed.json" >"$out/$seed.txt" 2>&1 &&
    python3 - "$out/$seed.json" <<'PY'
import json, sys
stories = json.load(open(sys.argv[1]))
stories = stories["stories"] if isinstance(stories, dict) else stories
want = {"standard_v3_1": "refused", "standard_v3_3": "promoted"}
assert len(stories) == 3, f"{len(stories)} stories"
for story in stories:
    due = "rolled_back" if story["fault"] != "none" else want[story["candidate"]]
    print(f'  {story["baseline"]} -> {story["candidate"]}, fault {story["fault"]}: '
          f'{story["outcome"]} in stage {story["stage"]}')
    assert story["outcome"] == due, f'{due} was due: {story["reason"]}'
PY
  then
    passed=$((passed + 1))
    echo "seed $seed: as due"
  else
    echo "seed $seed: NOT as due"
    tail -n 20 "$out/$seed.txt"
  fi
done
count=$((to - from + 1))
echo "$passed of $count seeds gave the verdicts that were due"
[ "$passed" = "$count" ]
