#!/usr/bin/env bash
# Builds the server for production, target/dist/nereid: the whole program is optimised at once and for what
# it does most, which a first build tells under load (profile-guided optimisation). Takes two builds of
# several minutes. Arguments go to cargo: `scripts/dist.sh --features cuda`.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

target=${CARGO_TARGET_DIR:-target}
host=$(rustc -vV | sed -n 's/^host: //p')
tools=$(rustc --print target-libdir)/../bin
mkdir -p "$target/notes"
notes=$(cd "$target/notes" && pwd)
rm -f "$notes"/*

if [ ! -x "$tools/llvm-profdata" ]; then
    say "adding llvm-profdata to the Rust toolchain"
    rustup component add llvm-tools
fi
scripts/setup.sh
say "building a server that takes notes"
RUSTFLAGS="-Cprofile-generate=$notes" \
    cargo build --profile dist --bin nereid --target "$host" --target-dir "$target/noting" "$@"
say "building a client"
cargo build --release -p nereid-grpc --example load
say "running it under load"
NEREID_BIN="$target/noting/$host/dist/nereid" .venv/bin/python scripts/typical_load.py
"$tools/llvm-profdata" merge -o "$notes/merged" "$notes"/*.profraw
say "building the server"
RUSTFLAGS="-Cprofile-use=$notes/merged" \
    cargo build --profile dist --bin nereid --target "$host" --target-dir "$target/noted" "$@"
mkdir -p "$target/dist"
cp "$target/noted/$host/dist/nereid" "$target/dist/nereid"
say "it is in $target/dist/nereid"
