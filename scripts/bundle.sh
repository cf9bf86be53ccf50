#!/usr/bin/env bash
# Makes a directory that runs on a GPU node with neither network nor cargo: binary, recipes, published numbers, backbone,
# GLUE where it is at hand, and a launcher that finds a libtorch of the right version there.
#
#   scripts/bundle.sh OUT [--backbone DIR_OR_NAME]... [--glue DIR] [--dtype fp32|bf16]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
fail() { echo "bundle: $1" >&2; echo "        $2" >&2; exit 2; }

[ $# -ge 1 ] && [ "${1#--}" = "$1" ] || fail "no directory to write to" "usage: scripts/bundle.sh OUT [--backbone DIR]... [--glue DIR] [--dtype fp32|bf16]"
out=$1; shift
backbones=() glue="" dtype=fp32
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || fail "$1 wants a value" "see the head of scripts/bundle.sh"
    case $1 in
        --backbone) backbones+=("$2") ;;
        --glue) glue=$2 ;;
        --dtype) dtype=$2 ;;
        *) fail "unknown option $1" "known: --backbone, --glue, --dtype" ;;
    esac
    shift 2
done
[ "$dtype" = fp32 ] || [ "$dtype" = bf16 ] || fail "dtype is $dtype" "expected fp32 or bf16"
[ ${#backbones[@]} -gt 0 ] || backbones=(all-MiniLM-L6-v2)
[ -x "$root/target/release/rankbench" ] || fail "target/release/rankbench is not built" "run ./justw build"
[ ! -e "$out" ] || fail "$out exists" "give a new directory, or delete it"

mkdir -p "$out/.cache/backbones"
cp "$root/target/release/rankbench" "$out/rankbench.bin"
cp -r "$root/recipes" "$out/recipes"
for backbone in "${backbones[@]}"; do
    from=$backbone
    [ -d "$from" ] || from=$root/.cache/backbones/$backbone
    [ -d "$from" ] || fail "backbone $backbone is not here" "give a directory, or the name of one below .cache/backbones"
    to=$out/.cache/backbones/$(basename "$backbone")
    mkdir -p "$to"
    # A directory vouches for owner/name only where it says so.
    [ ! -f "$from.repository" ] || cp "$from.repository" "$to.repository"
    for file in config.json spm.model tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt vocab.json merges.txt; do
        [ ! -f "$from/$file" ] || cp -L "$from/$file" "$to/"
    done
    if [ -f "$from/model.safetensors" ]; then
        "$root/.venv/bin/python" "$root/scripts/convert.py" "$from/model.safetensors" "$to/model.safetensors" "$dtype"
    else
        [ "$dtype" = fp32 ] || fail "$backbone has no model.safetensors, and only that is converted to bf16" "leave --dtype out for it"
        cp -L "$from/pytorch_model.bin" "$to/"
    fi
done
[ -z "$glue" ] || cp -rL "$glue" "$out/glue"
cp "$root/scripts/launch.sh" "$out/rankbench"
"$root/target/release/rankbench" --version > "$out/VERSION"
# What `rankbench doctor` holds a copy of the bundle against.
(cd "$out" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum > ../.bundle-sums.$$ && mv ../.bundle-sums.$$ SHA256SUMS)
du -sh "$out" | sed 's/^/bundle: /'
echo "bundle: copy $out to the node and run, e.g.: $(basename "$out")/rankbench doctor"
