"""What the parity checks share."""

import csv
import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RANKBENCH = ROOT / "target/release/rankbench"
MINILM = ROOT / ".cache/backbones/all-MiniLM-L6-v2"
FIXTURES = ROOT / "tests/fixtures/parity"


class Failed(Exception):
    """A check that does not hold."""


def rankbench(*arguments):
    """Runs the program and gives what it printed; its failure is ours."""
    command = [str(RANKBENCH), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def data_flags():
    """Real rows where they are at hand."""
    glue = os.environ.get("GLUE_DIR")
    return ["--glue", glue] if glue else ["--micro"]


def tokenizer_dir(name):
    """Folder of a checkpoint's tokenizer files, or None."""
    root = os.environ.get("TOKENIZER_DIR")
    return Path(root) / name if root else None


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
