#!/usr/bin/env bash
# Compares with a Triton server on this machine, in one run, alternating: a Python identity model,
# FP32[16], perf_analyzer over HTTP, concurrency 1 and 8.
#   TRITON_URL=localhost:8000 PERF_ANALYZER=perf_analyzer scripts/bench.sh [ROUNDS]
# NEREID is the binary to measure; target/dist/nereid is what `cargo build --profile dist` makes.
# The Triton server must be serving tests/bench_models.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${TRITON_URL:?the address of a Triton server that serves tests/bench_models}"
analyzer=${PERF_ANALYZER:-perf_analyzer}
rounds=${1:-5}
port=${PORT:-8600}

"${NEREID:-target/release/nereid}" serve --model-repository tests/bench_models --http-address 127.0.0.1 \
  --http-port "$port" --allow-grpc=false --log-info=false \
  --backend-config=python,python="${PYTHON:-$PWD/.venv/bin/python}" > /dev/null &
server=$!
trap 'kill $server; wait $server || true' EXIT
until curl -sf "127.0.0.1:$port/v2/health/ready"; do
  kill -0 $server
  sleep 0.05
done

measure() { # name url concurrency
  "$analyzer" -m identity_py -u "$2" -i http --shape IN:16 --concurrency-range "$3" \
    --measurement-interval 1000 --stability-percentage 30 --percentile 50 2>/dev/null \
    | awk -v name="$1" -v c="$3" '
        /Throughput:/ {throughput = $2} /p50 latency:/ {p50 = $3}
        END {printf "c=%s %-7s p50 %s us  %s requests/s\n", c, name, p50, throughput}'
}

for concurrency in 1 8; do
  for _ in $(seq "$rounds"); do
    measure triton "$TRITON_URL" "$concurrency"
    measure nereid "127.0.0.1:$port" "$concurrency"
  done
done
