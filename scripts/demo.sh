#!/usr/bin/env bash
# Builds the server, serves the example repository, asks it something, shows the answer.
#   scripts/demo.sh [--keep]     --keep leaves the server running
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

if [ ! -x .venv-demo/bin/python ]; then
  say "making a virtual environment with numpy and tritonclient in .venv-demo"
  python3 -m venv .venv-demo 2>/dev/null || {
    say "installing python3-venv"
    rm -rf .venv-demo
    apt-get update -qq && apt-get install -y -qq python3-venv
    python3 -m venv .venv-demo
  }
fi
.venv-demo/bin/python -m pip install -q --disable-pip-version-check 'numpy' 'tritonclient[http]==2.60.0'
say "building the server (a minute or two the first time)"
cargo build --release
say "starting it on examples/quickstart"
target/release/nereid serve --model-repository examples/quickstart --http-port "${PORT:-8000}" \
  --grpc-port "${GRPC_PORT:-8001}" \
  --backend-config=python,python="$PWD/.venv-demo/bin/python" &
server=$!
[ "${1:-}" = --keep ] || trap 'kill $server; wait $server || true' EXIT
say "asking a Python model that calls another one, and an ONNX model"
.venv-demo/bin/python examples/client.py "127.0.0.1:${PORT:-8000}"
