#!/bin/sh
# Shows that the concurrency tests are worth their time: first they pass, then each ordering they
# guard is weakened in turn, by a `cfg` the code knows, and a test must fail.
#
# Usage: scripts/mutants.sh [--models-only]
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}/loom
log=$target/log
mkdir -p "$target"

# Only this crate is built anew for a mutant: its `cfg` is given to the last compiler call alone.
models() {
    binary=$(RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$target" CARGO_PROFILE_TEST_OPT_LEVEL=2 \
        cargo rustc --quiet --lib --profile test --message-format=json -- "$@" 2>"$log" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    if [ -z "$binary" ]; then
        cat "$log"
        echo "the models do not compile with: $*" >&2
        exit 1
    fi
    LOOM_MAX_PREEMPTIONS=3 "$binary" loom_ >"$log" 2>&1
}

if ! models; then
    cat "$log"
    echo "the models fail on the code as it is" >&2
    exit 1
fi
grep "test result" "$log"
[ "${1:-}" = --models-only ] && exit 0

survivors=0
for mutant in solo_written solo_read writer_stamp reader_stamp claim overflow_counted overflow_clear_last \
    table_before_revision kept_under_announced call_went call_back take_back take_went; do
    if models --cfg "pilotage_mutant=\"$mutant\""; then
        echo "SURVIVED  $mutant"
        survivors=1
    else
        echo "caught    $mutant: $(sed -n 's/^    \([a-z_]*::.*loom_.*\)/\1/p' "$log" | head -n 1)"
    fi
done
exit $survivors
