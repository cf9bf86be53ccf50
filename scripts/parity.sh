#!/usr/bin/env bash
# Compares this program with the real transformers and peft: token ids of every row, adapters in both directions, merged
# checkpoints, and with real-size two models of the paper's size.
#
#   GLUE_DIR        directory with real GLUE (without it the rows are the synthetic ones)
#   PARITY_PYTHON_5 a Python with transformers 5, to count the directories of the matrix in which it gives other ids
#   TOKENIZER_DIR   a folder for every checkpoint's tokenizer files (without it only MiniLM's and a small DeBERTa's)
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(scripts/peers-venv.sh)
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true TRANSFORMERS_VERBOSITY=error OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
exec "$python" bench/parity/main.py "$@"
