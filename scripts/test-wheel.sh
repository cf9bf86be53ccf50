#!/usr/bin/env bash
# Installs the wheel into a clean virtual environment of every Python 3.10 to 3.13 at hand, on PATH or among pyenv's, says which it
# found, and runs the quickstart there. `test-wheel.sh [--full] [QUICKSTART FLAGS]`
#
# The environments borrow torch and the small backbone of .venv by a path file, so nothing large is fetched; only a Python of .venv's
# own version can load torch itself, which the program does not need. With --full pip installs what the wheel asks for, as a user's
# does: several GB an environment, one at a time, each deleted after its test. RANKBENCH_PYTHONS="3.12 3.13" tests those alone.
set -euo pipefail
cd "$(dirname "$0")/.."
full=false
if [ "${1:-}" = --full ]; then full=true; shift; fi
wheel=$(realpath "$(ls target/wheels/rankbench-*.whl)")
packages=$(realpath .venv/lib/python3*/site-packages)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "wheel: $1" >&2; exit 1; }

# The first of a version's Pythons that can make environments. Shims of pyenv are on PATH for versions that are not chosen, too.
find_python() {
    local candidate
    for candidate in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1"; do
        if [ -x "$candidate" ] && "$candidate" -c 'import venv, ensurepip' 2> /dev/null; then echo "$candidate"; return; fi
    done
}

# A command of the installed program that must end with 7 and say a part of a message.
refuses() {
    local code=0 message
    message=$(cd "$scratch" && run --version 2>&1) || code=$?
    [ $code = 7 ] || fail "$version: expected exit code 7, got $code: $message"
    grep -q "$1" <<< "$message" || fail "$version: expected '$1', got: $message"
}

tested=()
for version in ${RANKBENCH_PYTHONS:-3.10 3.11 3.12 3.13}; do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "wheel: skipped: no python$version with venv on PATH or among pyenv's"
        continue
    fi
    echo "wheel: found $("$python" --version) at $python"
    env=$scratch/$version
    "$python" -m venv "$env"
    pip() { "$env/bin/python" -m pip --disable-pip-version-check install --quiet "$@"; }
    run() { env -u LD_LIBRARY_PATH -u RANKBENCH_HOME -u LIBTORCH "$env/bin/rankbench" "$@"; }
    pip --no-deps "$wheel"
    # Without torch, and with a wrong one, it says so and ends with 7.
    refuses "torch is not installed"
    site=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir "$site/torch"; touch "$site/torch/__init__.py"; echo "__version__ = '2.9.1+cpu'" > "$site/torch/version.py"
    refuses "torch 2.9.1+cpu is installed"
    rm -r "$site/torch"
    if $full; then
        pip "$wheel"
        torch=$("$env/bin/python" -c 'import torch; print(torch.__version__)')
    else
        echo "$packages" > "$site/borrowed.pth"
        torch="that of .venv"
    fi
    (cd "$scratch" && run --version && run quickstart --out "$scratch/out-$version" "$@" > "$scratch/log-$version" 2>&1) ||
        { tail -20 "$scratch/log-$version"; exit 1; }
    # A script for a cluster starts the launcher: the binary alone does not find libtorch.
    (cd "$scratch" && run run quick --tasks rte --write-plan plan.jsonl && run submit slurm --plan plan.jsonl --dry-run) > /dev/null 2>&1
    grep -q "^$env/bin/rankbench run --plan" "$scratch/slurm/plan.sh" || fail "$version: the script for Slurm starts another program"
    grep -q "Table 1: SYNTHETIC" "$scratch/log-$version" || fail "$version: the quickstart printed no Table 1"
    tested+=("$version")
    echo "wheel: installed and run with Python $version, torch $torch, $(du -sh "$env" | cut -f1)"
    rm -rf "$env" "$scratch/out-$version"
done
[ ${#tested[@]} -gt 0 ] || { echo "wheel: skipped: none of Python 3.10 to 3.13 was found"; exit 0; }
echo "wheel: tested with Python ${tested[*]}"
