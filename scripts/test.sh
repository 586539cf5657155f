#!/usr/bin/env bash
# Runs all tests; sets up what they need first.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

scripts/setup.sh
# With everything that can be built in, so that it is tested.
say "building the server"
cargo build --release --features cloud,redis,cuda
say "unit tests"
cargo test --release --workspace --features nereid/cloud,nereid/redis,nereid/cuda
say "tests of the Python worker"
.venv/bin/python -m pytest -q backends/python/worker/tests
say "tests with stock clients"
# Most of a test is waiting, so two run at a time.
.venv/bin/python -m pytest -q -n 2 --dist loadfile tests
say "the client's tests again, with the newest client"
PYTHONPATH=.venv/newest-client .venv/bin/python -m pytest -q tests/test_client.py
