#!/usr/bin/env bash
# Runs the tests of the Python worker on every CPython from 3.8 on that this machine has: python3.N
# of the PATH, and pyenv's. Each gets an environment of its own with numpy.
#   scripts/python_versions.sh [ARGUMENTS OF PYTEST...]
set -euo pipefail
cd "$(dirname "$0")/.."
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/nereid-python-versions

declare -A found
for python in "$HOME"/.pyenv/versions/3.*/bin/python $(for minor in $(seq 8 20); do command -v "python3.$minor" || true; done); do
  [ -x "$python" ] || continue
  # A shim of pyenv stands for a version that may not be chosen.
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  minor=${version#3.}
  [ "$minor" -ge 8 ] && found[$minor]=$python
done
[ ${#found[@]} -gt 0 ] || { echo "there is no CPython from 3.8 on"; exit 1; }

failed=0
for minor in $(printf '%s\n' "${!found[@]}" | sort -n); do
  environment=$CACHE/3.$minor
  if ! "$environment/bin/python" -c 'import numpy' 2>/dev/null; then
    "${found[$minor]}" -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check numpy
  fi
  about=$("$environment/bin/python" -c 'import platform, numpy; print("CPython %s, numpy %s" % (platform.python_version(), numpy.__version__))')
  echo "== $about"
  NEREID_TEST_PYTHON=$environment/bin/python .venv/bin/python -m pytest -q backends/python/worker/tests "$@" || failed=1
done
exit $failed
