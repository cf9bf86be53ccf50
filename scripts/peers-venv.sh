#!/usr/bin/env bash
# Makes .venv/parity, a virtual environment with transformers, peft and matplotlib that borrows the project's torch, and
# prints its python. Does nothing where it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv/parity
if ! cmp -s bench/parity/requirements.txt "$venv/installed.txt"; then
    echo "peers: making $venv (transformers, peft and matplotlib; once)" >&2
    python3 -m venv "$venv"
    site=$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
    (cd .venv/lib/python3*/site-packages && pwd) > "$site/torch.pth"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet -r bench/parity/requirements.txt >&2
    cp bench/parity/requirements.txt "$venv/installed.txt"
fi
echo "$venv/bin/python"
