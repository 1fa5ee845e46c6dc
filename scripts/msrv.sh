#!/usr/bin/env bash
# Builds the crate with the oldest Rust it claims to support (`rust-version` in Cargo.toml).
#
# Uses that toolchain where rustup has it; else, on a Debian machine, unpacks Debian's own build of
# it into a temporary folder. Where neither is to be had it says so and exits 0 after the checks
# that need no old compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
echo "msrv: the crate claims Rust $msrv"

# No dependency may ask for more than we claim.
cargo metadata --format-version 1 --no-deps >/dev/null
asked=$(cargo metadata --format-version 1 | python3 -c '
import json, sys
msrv = tuple(int(n) for n in sys.argv[1].split("."))
data = json.load(sys.stdin)
packages = {p["id"]: p for p in data["packages"]}
nodes = {n["id"]: n for n in data["resolve"]["nodes"]}
root = next(p["id"] for p in data["packages"] if p["name"] == "pilotage")
todo, seen = [root], set()
while todo:
    at = todo.pop()
    if at in seen:
        continue
    seen.add(at)
    for dep in nodes[at]["deps"]:
        if any(k["kind"] is None for k in dep["dep_kinds"]):
            todo.append(dep["pkg"])
for at in seen:
    p = packages[at]
    need = p.get("rust_version")
    if need and tuple(int(n) for n in need.split("."))[:2] > msrv[:2]:
        print(p["name"], p["version"], "asks for Rust", need)
' "$msrv")
if [ -n "$asked" ]; then echo "msrv: FAILED"; echo "$asked"; exit 1; fi
echo "msrv: no dependency asks for more"

if rustup run "$msrv" rustc --version >/dev/null 2>&1; then
  CARGO_TARGET_DIR=target/msrv rustup run "$msrv" cargo check --lib --all-features
elif command -v apt-get >/dev/null && [ "$(uname -m)" = x86_64 ]; then
  # Debian keeps some older compilers as packages of their own, with versioned runtime libraries.
  folder=$PWD/target/msrv-toolchain
  mkdir -p "$folder"
  version=$(apt-cache madison rustc-web 2>/dev/null | awk -v v="$msrv." 'index($3, v) == 1 {print $3; exit}')
  if [ -z "$version" ]; then
    echo "msrv: SKIPPED building: Rust $msrv is neither in rustup nor in Debian's packages here"
    exit 0
  fi
  root=$folder/usr
  libs=$root/lib/x86_64-linux-gnu:$root/lib/llvm-19/lib:$root/lib
  if ! LD_LIBRARY_PATH=$libs "$root/bin/rustc" --version >/dev/null 2>&1; then
    (cd "$folder" && apt-get download -q "rustc-web=$version" "libstd-rust-web-dev=$version" \
      "libstd-rust-web-$msrv" libllvm19 >/dev/null 2>&1 || true
      for deb in *.deb; do dpkg -x "$deb" .; rm "$deb"; done)
  fi
  if ! LD_LIBRARY_PATH=$libs "$root/bin/rustc" --version; then
    echo "msrv: SKIPPED building: Debian's Rust $msrv does not run on this machine"
    exit 0
  fi
  LD_LIBRARY_PATH=$libs RUSTC=$root/bin/rustc CARGO_TARGET_DIR=target/msrv \
    cargo check --lib --ignore-rust-version
else
  echo "msrv: SKIPPED building: no Rust $msrv on this machine"
fi
