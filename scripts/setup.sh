#!/usr/bin/env bash
# Makes the environment of the tests: system packages, a virtual environment in .venv.
# May be run again at any time; does only what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '== %s\n' "$*"; }

missing=()
# libb64 is for perf_analyzer; Chromium for the tests of the page.
for package in g++ python3-venv libtorch-dev python3-torch redis-server libb64-0d libfaketime \
  chromium chromium-driver; do
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
want="$(cat scripts/requirements.txt scripts/setup.sh | sha256sum | cut -d' ' -f1)"
if [ "$(cat .venv/installed 2>/dev/null || true)" != "$want" ]; then
  say "installing Python packages into .venv"
  .venv/bin/python -m pip install -q --disable-pip-version-check -r scripts/requirements.txt
  # Beside the pinned client the newest one, and the oldest that Python 3.11 can run, with the
  # packages of its time: tests run with each of them.
  .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --upgrade \
    --target .venv/newest-client tritonclient==2.73.0 'protobuf>=6.33.5,<7' 'grpcio>=1.75'
  .venv/bin/python -m pip install -q --disable-pip-version-check --only-binary=:all: --upgrade \
    --target .venv/oldest-client 'tritonclient[grpc,http]==2.3.0' 'numpy<1.24' 'protobuf<3.21'
  # The last perf_analyzer that runs on glibc 2.36 is in this client's wheel.
  .venv/bin/python -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
    -d .venv/wheels tritonclient==2.48.0 nvidia-cuda-runtime-cu12==12.6.77
  mkdir -p .venv/perf_analyzer
  for wheel in .venv/wheels/*.whl; do
    /usr/bin/python3 - "$wheel" .venv/perf_analyzer <<'PY'
import os, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in wheel.namelist():
        file = os.path.join(sys.argv[2], os.path.basename(name))
        if os.path.basename(name).startswith(("perf_analyzer", "libcudart.so")):
            with open(file, "wb") as out:
                out.write(wheel.read(name))
            os.chmod(file, 0o755)
PY
  done
  printf '%s' "$want" > .venv/installed
fi
say "the environment is ready"
