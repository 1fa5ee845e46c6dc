#!/usr/bin/env bash
# The default crate pulls in no async runtime, no network client, and few direct dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."
tree=$(cargo tree -e normal --prefix none | sed 's/ .*//' | sort -u)
bad=$(grep -xE 'tokio|async-std|smol|async-executor|async-io|mio|futures-executor|hyper|reqwest|ureq|h2|rustls|openssl' <<<"$tree" || true)
if [ -n "$bad" ]; then echo "the default tree holds: $bad"; exit 1; fi
direct=$(cargo tree -e normal --depth 1 --prefix none | tail -n +2 | wc -l)
if [ "$direct" -gt 10 ]; then echo "$direct direct dependencies; at most 10"; exit 1; fi
echo "the default tree: $direct direct dependencies, $(wc -l <<<"$tree") crates, no runtime, no network"
