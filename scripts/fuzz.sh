#!/usr/bin/env bash
# Fuzzes one target, or each of them, with libFuzzer on the stable compiler.
#   scripts/fuzz.sh SECONDS [TARGET]     SECONDS 0: only what is in the corpus
# A finding is left in fuzz/artifacts; what is new goes to fuzz/target/corpus, beside the corpus.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:?how many seconds?}
targets=${2:-$(ls targets | sed -n 's/\.rs$//p' | grep -v '^lib$')}
coverage="-Cpasses=sancov-module -Ccodegen-units=1"
for argument in level=4 inline-8bit-counters pc-table trace-compares; do
  coverage="$coverage -Cllvm-args=-sanitizer-coverage-$argument"
done
export RUSTFLAGS="--cfg fuzzing $coverage"
host=$(rustc -vV | sed -n 's/^host: //p')
# Named, so that the flags are not for build scripts.
cargo build --release --target "$host" --bins
for target in $targets; do
  mkdir -p "artifacts/$target" "target/corpus/$target" "corpus/$target"
  limit=(-max_total_time="$seconds")
  [ "$seconds" = 0 ] && limit=(-runs=0)
  "target/$host/release/$target" "${limit[@]}" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="artifacts/$target/" -print_final_stats=1 \
    "target/corpus/$target" "corpus/$target"
done
