#!/usr/bin/env bash
# Fuzzes one reader for so many seconds, from the inputs in tests/fixtures/fuzz and what earlier runs found interesting.
#
#   scripts/fuzz.sh TARGET [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "fuzz: $1" >&2; echo "      $2" >&2; exit "$3"; }

target=${1:-} seconds=${2:-600}
case $target in
    tsv | parquet | spm | tokenizer_json) features=() ;;
    config | safetensors | pickle | adapter) features=(--features tensors) ;;
    recipe) features=(--features recipes) ;;
    *) fail "unknown target '$target'" "known: tsv parquet spm tokenizer_json config safetensors pickle adapter recipe" 2 ;;
esac
cargo fuzz --version >/dev/null 2>&1 || fail "cargo-fuzz is not installed" "run: cargo install cargo-fuzz" 7

# The workspace's own versions, so that what is fuzzed is what is built.
cp Cargo.lock fuzz/Cargo.lock
mkdir -p "fuzz/corpus/$target"
# Inputs are written to files: in memory where the machine has such a place.
memory=/dev/shm
[ -w "$memory" ] || memory=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d -p "$memory")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
# No sanitizer: so the stable toolchain will do, and the targets count memory themselves.
cargo fuzz run --fuzz-dir fuzz --sanitizer none "${features[@]}" "$target" "fuzz/corpus/$target" "tests/fixtures/fuzz/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1
