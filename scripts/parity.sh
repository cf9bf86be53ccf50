#!/usr/bin/env bash
# Compares this program with the real transformers and peft: token ids of every row, adapters in both directions, merged
# checkpoints, and with --real-size two models of the paper's size. They live in a virtual environment of their own that
# borrows the project's torch.
#
#   GLUE_DIR        directory with real GLUE (without it the rows are the synthetic ones)
#   TOKENIZER_DIR   a folder for every checkpoint's tokenizer files (without it only MiniLM's is compared)
set -euo pipefail
cd "$(dirname "$0")/.."
say() { echo "parity: $*" >&2; }

venv=.venv/parity
if ! cmp -s bench/parity/requirements.txt "$venv/installed.txt"; then
    say "making $venv (transformers and peft; once)"
    python3 -m venv "$venv"
    site=$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
    (cd .venv/lib/python3*/site-packages && pwd) > "$site/torch.pth"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet -r bench/parity/requirements.txt
    cp bench/parity/requirements.txt "$venv/installed.txt"
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true TRANSFORMERS_VERBOSITY=error OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
exec "$venv/bin/python" bench/parity/main.py "$@"
