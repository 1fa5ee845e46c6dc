#!/bin/sh
# Counts the instructions of the request path by callgrind and compares them with their limits.
# Instructions do not depend on how busy the machine is, so this can guard against regressions
# where times cannot. The limits stand here and nowhere else.
set -eu
cd "$(dirname "$0")/.."

limits="predict:140 predict_async:140 begin_finish:140 record:50 split_and_hash:60"

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

worst=0
printf '%-16s %12s %8s\n' what instructions limit
for pair in $limits; do
    what=${pair%:*} limit=${pair#*:}
    few=$(count "$what" 10000) many=$(count "$what" 30000)
    each=$(((many - few) / 20000))
    verdict=
    if [ "$each" -gt "$limit" ]; then
        verdict="over the limit"
        worst=1
    fi
    printf '%-16s %12s %8s  %s\n' "$what" "$each" "$limit" "$verdict"
done
exit $worst
