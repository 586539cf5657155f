#!/usr/bin/env bash
# Builds the server and lets it read the number plates on a photo. Takes the flags of `nereid demo`:
#   scripts/demo.sh [--once] [--image FILE|FOLDER] ...
set -euo pipefail
cd "$(dirname "$0")/.."

if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
  echo "== installing python3-venv"
  apt-get update -qq && apt-get install -y -qq python3-venv
fi
echo "== building the server (a few minutes the first time)"
cargo build --release
exec target/release/nereid demo "$@"
