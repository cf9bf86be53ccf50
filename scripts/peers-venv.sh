#!/usr/bin/env bash
# Makes .venv/parity, a virtual environment with transformers, peft and matplotlib (where there is an NVIDIA GPU, also the
# attention packages of bench/peers/requirements-gpu.txt) that borrows the project's torch, and prints its python. Does
# nothing where it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv/parity
wanted=(bench/parity/requirements.txt)
! command -v nvidia-smi >/dev/null || wanted+=(bench/peers/requirements-gpu.txt)
if ! cat "${wanted[@]}" | cmp -s - "$venv/installed.txt"; then
    echo "peers: making $venv (transformers, peft and matplotlib; once)" >&2
    python3 -m venv "$venv"
    site=$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
    (cd .venv/lib/python3*/site-packages && pwd) > "$site/torch.pth"
    install() { "$venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@" >&2; }
    install -r "${wanted[0]}"
    [ ${#wanted[@]} -eq 1 ] || install --no-deps -r "${wanted[1]}"
    cat "${wanted[@]}" > "$venv/installed.txt"
fi
echo "$venv/bin/python"
