#!/usr/bin/env bash
# Runs all tests; sets up what they need first.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

scripts/setup.sh
say "building the server"
cargo build --release --features cloud
say "unit tests"
cargo test --release --workspace --features nereid/cloud
cargo test --release -p nereid-cache --features redis --test redis
say "tests of the Python worker"
.venv/bin/python -m pytest -q backends/python/worker/tests
say "tests with stock clients"
.venv/bin/python -m pytest -q tests
say "the client's tests again, with the newest client"
PYTHONPATH=.venv/newest-client .venv/bin/python -m pytest -q tests/test_client.py
