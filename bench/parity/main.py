"""`just parity`: token ids, adapters, and models of the paper's size, against transformers and peft."""

import argparse
import sys
import tempfile
from pathlib import Path

from common import Failed


def main():
    parser = argparse.ArgumentParser(prog="just parity", description=__doc__)
    parser.add_argument("checks", nargs="*", choices=["tokens", "adapters", "real-size", []], help="default: tokens adapters")
    chosen = parser.parse_args().checks or ["tokens", "adapters"]
    summary = []
    try:
        with tempfile.TemporaryDirectory(prefix="rankbench-parity-") as out:
            for check in chosen:
                print(f"== {check}", flush=True)
                module = __import__(check.replace("-", "_"))
                summary += module.check(Path(out))
    except Failed as error:
        sys.exit(f"parity: FAILED: {error}")
    print(f"== parity holds: {len(summary)} comparisons")


main()
