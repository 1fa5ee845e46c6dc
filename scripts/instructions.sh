#!/bin/sh
# Counts the instructions of the request path by callgrind and compares them with their limits.
# Instructions do not depend on how busy the machine is, so this can guard against regressions
# where times cannot. The limits stand here and nowhere else.
set -eu
cd "$(dirname "$0")/.."

# What: the limit no change may pass, and after the slash what the design asks for. Where the two
# differ the design is not met yet.
limits="predict:140/140 predict_bounded:425/400 predict_async:195/140 begin_finish:145/140 record:50/50 split_and_hash:52/60"

if ! command -v valgrind >/dev/null 2>&1; then
    echo "skipped: valgrind is not installed, so instructions cannot be counted"
    exit 0
fi

binary=$(cargo bench --bench instructions --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -n "$binary" ] || { echo "the benchmark does not compile" >&2; exit 1; }

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : *\([0-9]*\).*/\1/p'
}

# What one repetition costs, without the loop around it.
each() {
    few=$(count "$1" 10000) many=$(count "$1" 30000)
    echo $(((many - few) / 20000 - ${2:-0}))
}

worst=0
around=$(each loop)
printf '%-16s %12s %8s %8s\n' what instructions limit design
for pair in $limits; do
    what=${pair%:*} limit=${pair#*:}
    design=${limit#*/} limit=${limit%/*}
    # `record` has no request to make in its loop.
    if [ "$what" = record ]; then each=$(each "$what"); else each=$(each "$what" "$around"); fi
    verdict=
    if [ "$each" -gt "$limit" ]; then
        verdict="over the limit"
        worst=1
    fi
    printf '%-16s %12s %8s %8s  %s\n' "$what" "$each" "$limit" "$design" "$verdict"
done
exit $worst
