#!/usr/bin/env bash
# Installs the wheel into a clean virtual environment of every Python at hand (3.10 to 3.13) and runs the quickstart there. The
# environments borrow torch and the small backbone of .venv by a path file, so nothing large is fetched; only a Python of .venv's own
# version can load torch itself, which the program does not need.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=$(ls target/wheels/rankbench-*.whl)
packages=$(realpath .venv/lib/python3*/site-packages)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tested=0
for version in 3.10 3.11 3.12 3.13; do
    python=$(command -v "python$version" || true)
    if [ -z "$python" ] || ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "wheel: skipped: no python$version with venv on this machine"
        continue
    fi
    env=$scratch/$version
    "$python" -m venv "$env"
    "$env/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps "$wheel"
    run() { env -u LD_LIBRARY_PATH -u RANKBENCH_HOME -u LIBTORCH "$env/bin/rankbench" "$@"; }
    # Without torch, and with a wrong one, it says so and ends with 7.
    code=0; message=$(cd "$scratch" && run --version 2>&1) || code=$?
    [ $code = 7 ] && grep -q "torch is not installed" <<<"$message"
    site=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir "$site/torch"; touch "$site/torch/__init__.py"; echo "__version__ = '2.9.1+cpu'" > "$site/torch/version.py"
    code=0; message=$(cd "$scratch" && run --version 2>&1) || code=$?
    [ $code = 7 ] && grep -q "torch 2.9.1+cpu is installed" <<<"$message"
    rm -r "$site/torch"
    echo "$packages" > "$site/borrowed.pth"
    (cd "$scratch" && run --version && run quickstart --out "$scratch/out-$version" ${QUICKSTART_FLAGS:-} > "$scratch/log-$version" 2>&1) ||
        { tail -20 "$scratch/log-$version"; exit 1; }
    grep -q "Table 1: SYNTHETIC" "$scratch/log-$version"
    tested=$((tested + 1))
    echo "wheel: installed and run with Python $version"
done
[ $tested -gt 0 ] || echo "wheel: skipped: none of Python 3.10 to 3.13 was found"
