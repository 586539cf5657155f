#!/usr/bin/env bash
# Makes the environment of the tests: system packages, a virtual environment in .venv.
# May be run again at any time; does only what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '== %s\n' "$*"; }

missing=()
for package in g++ python3-venv libtorch-dev python3-torch redis-server; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    say "please install: sudo apt-get install ${missing[*]}"
    exit 1
  fi
  say "installing system packages: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

# Made from Debian's interpreter, whose packages it sees: PyTorch without a GPU is among them.
if [ ! -x .venv/bin/python ]; then
  say "making the virtual environment .venv"
  /usr/bin/python3 -m venv --system-site-packages .venv
fi
want="$(sha256sum scripts/requirements.txt | cut -d' ' -f1)"
if [ "$(cat .venv/installed 2>/dev/null || true)" != "$want" ]; then
  say "installing Python packages into .venv"
  .venv/bin/python -m pip install -q --disable-pip-version-check -r scripts/requirements.txt
  # The newest client beside the pinned one: the tests run with both.
  .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --upgrade \
    --target .venv/newest-client tritonclient==2.73.0
  printf '%s' "$want" > .venv/installed
fi
say "the environment is ready"
