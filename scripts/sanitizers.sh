#!/bin/sh
# Runs the stress test of the request path under ThreadSanitizer and AddressSanitizer, and the tests
# of the one file with `unsafe`, of the rings, the overflow and the models' slots under Miri. Needs a
# nightly compiler with `rust-src` and `miri`; says so where there is none.
#
# Usage: scripts/sanitizers.sh [thread|address|miri ...]      (all three without arguments)
set -eu
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-target}/sanitizers

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: there is no nightly compiler, which the sanitizers need"
    exit 0
fi

for what in ${*:-thread address miri}; do
    echo "== $what"
    case $what in
        miri)
            # Isolation off: the stress test counts on real threads taking turns.
            MIRIFLAGS="-Zmiri-disable-isolation" CARGO_TARGET_DIR="$target" \
                cargo +nightly miri test --lib -- observe::lender observe::ring observe::solo_ring \
                observe::overflow observe::thread_place serve::slots serve::catch
            ;;
        thread | address)
            # The standard library is instrumented too: its `Arc` fences count.
            RUSTFLAGS="-Zsanitizer=$what" CARGO_TARGET_DIR="$target/$what" \
                PILOTAGE_SOAK="${PILOTAGE_SOAK:-2000000}" \
                cargo +nightly test -Zbuild-std --target "$host" --release --test soak -- --nocapture
            ;;
        *)
            echo "unknown: $what; there are thread, address and miri" >&2
            exit 2
            ;;
    esac
done
