#!/usr/bin/env bash
# Compares with a Triton server on this machine, in one run, alternating, and prints a table: Python
# models alone, batched, from the response cache, as an ensemble, as BLS (also several at a time, which
# Triton does not do), and with a picture of 6.2 MB; over HTTP, gRPC and system shared memory;
# concurrency 1 and 8; medians over the rounds.
#   TRITON_URL=localhost:8000 TRITON_GRPC=localhost:8001 scripts/bench.sh [ROUNDS] [FILTER]
# The Triton server must be serving tests/bench_models with --cache-config=local,size=100000000.
# FILTER picks rows: a pattern over "model protocol concurrency", e.g. 'identity_py http'.
# NEREID is the binary to measure; target/dist/nereid is what `cargo build --profile dist` makes.
# PERF_ANALYZER, PYTHON, PORT (and the next two), WINDOW (ms) are what they say.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${TRITON_URL:?the address of a Triton server that serves tests/bench_models}"
: "${TRITON_GRPC:?its address for gRPC}"
analyzer=${PERF_ANALYZER:-perf_analyzer}
rounds=${1:-5}
filter=${2:-.}
port=${PORT:-8600}

"${NEREID:-target/release/nereid}" serve --model-repository tests/bench_models --http-address 127.0.0.1 \
  --http-port "$port" --grpc-address 127.0.0.1 --grpc-port $((port + 1)) --metrics-port $((port + 2)) \
  --allow-client-shm=true --log-info=false --cache-config=local,size=100000000 \
  --backend-config=python,python="${PYTHON:-$PWD/.venv/bin/python}" > /dev/null &
server=$!
figures=$(mktemp)
trap 'kill $server; wait $server || true; rm -f "$figures"' EXIT
until curl -sf "127.0.0.1:$port/v2/health/ready"; do
  kill -0 $server
  sleep 0.05
done

measure() { # name model protocol concurrency url
  local shape=IN:16 how=(-i http)
  case $2 in
    bls3*) shape=IN:1,16 ;;
    image*) shape=IN:1080,1920,3 ;;
  esac
  case $3 in
    grpc) how=(-i grpc) ;;
    http+shm) how=(-i http --shared-memory system --output-shared-memory-size 6220800) ;;
    grpc+shm) how=(-i grpc --shared-memory system --output-shared-memory-size 6220800) ;;
  esac
  "$analyzer" -m "$2" -u "$5" "${how[@]}" --shape "$shape" --concurrency-range "$4" \
    --measurement-interval "${WINDOW:-1000}" --stability-percentage 50 --percentile 50 2>/dev/null \
    | awk -v row="$2 $3 $4" -v name="$1" '
        /Throughput:/ {throughput = $2} /p50 latency:/ {p50 = $3} /p99 latency:/ {p99 = $3}
        END {if (p50) print row, name, p50, p99, throughput}' >> "$figures" || true
}

for _ in $(seq "$rounds"); do
  for model in identity_py batching_py cached_py ensemble3 bls3 bls3_threads bls3_async image_py image_size_py; do
    protocols="http grpc"
    [[ $model != image* ]] || protocols="http grpc http+shm grpc+shm"
    for protocol in $protocols; do
      for concurrency in 1 8; do
        echo "$model $protocol $concurrency" | grep -qE "$filter" || continue
        triton=$TRITON_URL nereid=127.0.0.1:$port
        case $protocol in grpc*) triton=$TRITON_GRPC nereid=127.0.0.1:$((port + 1)) ;; esac
        measure triton $model $protocol $concurrency "$triton"
        measure nereid $model $protocol $concurrency "$nereid"
      done
    done
  done
done

"${PYTHON:-$PWD/.venv/bin/python}" - "$figures" <<'TABLE'
import statistics
import sys

rows = {}
for line in open(sys.argv[1]):
    model, protocol, concurrency, name, *numbers = line.split()
    row = rows.setdefault((model, protocol, concurrency), {})
    row.setdefault(name, []).append([float(number) for number in numbers])
print("| model | protocol | c | p50 µs Triton | Nereid | ratio | p99 Triton | Nereid | ratio "
      "| requests/s Triton | Nereid | ratio |")
print("|" + "---|" * 12)
for row, measured in rows.items():
    if len(measured) < 2:
        continue  # perf_analyzer did not get a stable figure of one of them.
    cells = list(row)
    for column in range(3):
        triton, nereid = (
            statistics.median(numbers[column] for numbers in measured[name])
            for name in ("triton", "nereid")
        )
        cells += ["%.0f" % triton, "%.0f" % nereid, "%.2f" % (nereid / triton)]
    print("| %s |" % " | ".join(cells))
TABLE
