#!/usr/bin/env bash
# Makes a directory that runs on a GPU node with neither network nor cargo: binary, recipes, backbones, GLUE where it is asked for, and
# a launcher that finds a libtorch of the right version there, or brings one.
#
#   scripts/bundle.sh OUT [--backbone DIR|NAME|OWNER/NAME]... [--recipe RECIPE] [--glue DIR] [--dtype fp32|bf16] [--with-libtorch]
#
# A backbone is a directory, one below .cache/backbones, or a repository on the Hub, taken from the cache or fetched. --recipe takes the
# backbone and the data of a recipe in the same way.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
rankbench=$root/target/release/rankbench
usage="usage: scripts/bundle.sh OUT [--backbone DIR|NAME|OWNER/NAME]... [--recipe RECIPE] [--glue DIR] [--dtype fp32|bf16] [--with-libtorch]"
fail() { echo "bundle: $1" >&2; echo "        $2" >&2; exit 2; }

[ $# -ge 1 ] && [ "${1#--}" = "$1" ] || fail "no directory to write to" "$usage"
target=$1; shift
backbones=() recipe="" glue="" dtype=fp32 with_libtorch=no
while [ $# -gt 0 ]; do
    if [ "$1" = --with-libtorch ]; then with_libtorch=yes; shift; continue; fi
    [ $# -ge 2 ] || fail "$1 wants a value" "$usage"
    case $1 in
        --backbone) backbones+=("$2") ;;
        --recipe) recipe=$2 ;;
        --glue) glue=$2 ;;
        --dtype) dtype=$2 ;;
        *) fail "unknown option $1" "$usage" ;;
    esac
    shift 2
done
[ "$dtype" = fp32 ] || [ "$dtype" = bf16 ] || fail "dtype is $dtype" "expected fp32 or bf16"
[ -z "$glue" ] || [ -d "$glue" ] || fail "$glue is no directory" "give the folder with GLUE's files"
[ ${#backbones[@]} -gt 0 ] || [ -n "$recipe" ] || backbones=(all-MiniLM-L6-v2)
[ -x "$rankbench" ] || fail "target/release/rankbench is not built" "run ./justw build"
[ ! -e "$target" ] || fail "$target exists" "give a new directory, or delete it"

# Everything is made beside the target and takes its name at the end: a failure leaves nothing.
mkdir -p "$(dirname "$target")"
out=$(mktemp -d "$target.partial.XXXXXX")
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$out"

# Copies what is read of a backbone's directory, its weights in the kind asked for.
copy_backbone() {
    local from=$1 to=$2 file
    mkdir -p "$to"
    for file in config.json spm.model tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt vocab.json merges.txt; do
        [ ! -f "$from/$file" ] || cp -L "$from/$file" "$to/"
    done
    if [ -f "$from/model.safetensors" ]; then
        "$root/.venv/bin/python" "$root/scripts/convert.py" "$from/model.safetensors" "$to/model.safetensors" "$dtype"
        return
    fi
    [ "$dtype" = fp32 ] || fail "$from has no model.safetensors, and only that is converted to bf16" "leave --dtype out for it"
    if [ -f "$from/model.safetensors.index.json" ]; then
        cp -L "$from"/model*.safetensors "$from/model.safetensors.index.json" "$to/"
    else
        cp -L "$from/pytorch_model.bin" "$to/"
    fi
}

mkdir -p "$out/.cache/backbones"
cp "$rankbench" "$out/rankbench.bin"
cp -r "$root/recipes" "$out/recipes"
if [ -n "$recipe" ]; then
    backbones+=("$("$rankbench" recipe "$recipe" | sed -n 's/^backbone = "\(.*\)"$/\1/p')")
    if [ -z "$glue" ] && "$rankbench" recipe "$recipe" | grep -q '^source = "glue"'; then
        "$rankbench" fetch "$recipe" | sed -n 's/^data: //p' > "$out/.data"
        mkdir "$out/glue"
        while read -r dir; do cp -rL "$dir/." "$out/glue/"; done < "$out/.data"
        rm "$out/.data"
    fi
fi
for backbone in "${backbones[@]}"; do
    # The program finds it, in the cache or on the Hub, and says what is wrong where it does not.
    from=$("$rankbench" fetch quick --backbone "$backbone" | sed -n 's/^backbone [^:]*: //p')
    to=$out/.cache/backbones/$(basename "${backbone%@*}")
    copy_backbone "$from" "$to"
    # A directory vouches for owner/name only where it says so.
    if [ -f "$from.repository" ]; then
        cp "$from.repository" "$to.repository"
    elif [ ! -d "$backbone" ] && [ "${backbone#*/}" != "$backbone" ]; then
        echo "$backbone" > "$to.repository"
    fi
done
[ -z "$glue" ] || cp -rL "$glue" "$out/glue"
if [ $with_libtorch = yes ]; then
    torch=$(realpath "$root/.venv/libtorch")
    mkdir -p "$out/libtorch"
    cp -rL "$torch/lib" "$torch/version.py" "$out/libtorch/"
    # A libtorch for GPUs looks for CUDA's libraries two folders above its own.
    [ ! -d "$torch/../nvidia" ] || cp -rL "$torch/../nvidia" "$out/nvidia"
fi
cp "$root/scripts/launch.sh" "$out/rankbench"
"$rankbench" --version > "$out/VERSION"
# What `rankbench doctor` holds a copy of the bundle against.
(cd "$out" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum > "$out.sums")
mv "$out.sums" "$out/SHA256SUMS"
mv "$out" "$target"
du -sh "$target" | sed 's/^/bundle: /'
echo "bundle: $(cat "$target/VERSION"); copy $target to the node and run, e.g.: $(basename "$target")/rankbench doctor"
