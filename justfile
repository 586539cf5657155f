# What a contributor runs; `.ci/run` runs the same commands.

build:
    cargo build --release

test:
    scripts/test.sh

lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

fmt:
    cargo fmt --all

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

demo:
    scripts/demo.sh

deny:
    cargo deny check
