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

# Runs the models whose names begin so. Only this crate is built anew for a mutant: its `cfg` is given
# to the last compiler call alone.
models() {
    which=$1
    shift
    binary=$(RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$target" CARGO_PROFILE_TEST_OPT_LEVEL=2 \
        cargo rustc --quiet --lib --profile test --message-format=json -- "$@" 2>"$log" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    if [ -z "$binary" ]; then
        cat "$log"
        echo "the models do not compile with: $*" >&2
        exit 1
    fi
    LOOM_MAX_PREEMPTIONS=3 "$binary" "$which" >"$log" 2>&1
}

if ! models loom_; then
    cat "$log"
    echo "the models fail on the code as it is" >&2
    exit 1
fi
grep "test result" "$log"
[ "${1:-}" = --models-only ] && exit 0

survivors=0
# A file and what is weakened in it: only that file's own models are asked, which must notice by
# themselves.
for pair in solo_ring::loom_tests/solo_written solo_ring::loom_tests/solo_read \
    ring::loom_tests/writer_stamp ring::loom_tests/reader_stamp ring::loom_tests/claim \
    overflow::loom_tests/overflow_counted overflow::loom_tests/overflow_clear_last \
    streams::loom_tests/streams_counted streams::loom_tests/streams_clear_last \
    local::tests::loom/table_before_revision local::tests::loom/kept_under_announced \
    lender::loom_tests/call_went lender::loom_tests/call_back lender::loom_tests/take_back \
    lender::loom_tests/take_went lender::loom_tests/shut_first_only \
    lender::loom_tests/bulkhead_enter lender::loom_tests/bulkhead_leave \
    lender::loom_tests/bulkhead_admits_all ownership::loom_tests/stopped_after_word \
    ownership::loom_tests/stopped_ignored ownership::loom_tests/home_without_lock; do
    mutant=${pair#*/}
    if models "::${pair%/*}" --cfg "pilotage_mutant=\"$mutant\""; then
        echo "SURVIVED  $mutant"
        survivors=1
    else
        echo "caught    $mutant: $(sed -n 's/^    \([a-z_]*::.*loom_.*\)/\1/p' "$log" | head -n 1)"
    fi
done
exit $survivors
