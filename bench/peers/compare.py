"""`just compare-peers`: a training step of ours beside transformers with peft, and SoRA in its authors' form.

Same backbone (DeBERTaV3-base with random weights, unless --backbone names another), batch and length; ours and the
peer's take turns, setting by setting, in one run on one device. On a CPU both follow OMP_NUM_THREADS.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

from common import METHODS, ROOT, backbone, both_precisions, names, ours, plot, shapes, write

# Batch and length of the steps.
SHAPES = {"cuda": "8x128,32x128,32x32", "cpu": "32x128"}
# Flags of ours by the name of its columns; graphs and kernels are a GPU's.
VARIANTS = {
    "cuda": {"ours": [], "ours_no_graphs": ["--graphs", "off"], "ours_no_kernels": ["--kernels", "plain"]},
    "cpu": {"ours": []},
}


def peer(method, model, device, precision, batch, length, given):
    flags = ["--model", model, "--device", device, "--precision", precision, "--batch", batch, "--length", length]
    command = [sys.executable, Path(__file__).with_name("peer.py"), method, *flags, "--steps", given.steps]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip()[-600:]}


def main():
    parser = argparse.ArgumentParser(prog="just compare-peers", description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--backbone", type=Path, metavar="DIR", help="a Hugging Face directory both sides can read")
    parser.add_argument("--precisions", type=names, default="bf16,fp32")
    parser.add_argument("--peer-precision", choices=["bf16", "fp32"], help="the peer's (default: the same as ours)")
    parser.add_argument("--shapes", type=shapes, help="batch x length, e.g. 8x128,32x128")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", type=names, default=",".join(METHODS))
    parser.add_argument("--out", type=Path, default=ROOT / "results/peers")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="only draw OUT/peers.csv")
    given = parser.parse_args()
    if given.plot:
        return plot("peers", given.plot)
    given.out.mkdir(parents=True, exist_ok=True)
    settings = itertools.product(given.precisions, given.shapes or shapes(SHAPES[given.device]))
    rows = []
    with backbone(given.backbone) as model:
        for precision, (batch, length) in settings:
            for row in compared(model, precision, batch, length, given):
                rows.append(row)
                print(json.dumps(row), flush=True)
                write(given.out / "peers.csv", rows)
    print(table(rows))
    plot("peers", given.out)


def compared(model, precision, batch, length, given):
    """A row for each method."""
    where = (batch, length, given)
    variants = VARIANTS[given.device].items()
    mine = {who: ours(model, given.device, precision, *where, flags, given.methods) for who, flags in variants}
    peer_precision = given.peer_precision or precision
    for method in given.methods:
        theirs = peer(method, model, given.device, peer_precision, *where)
        found = {who: runs.get(method, runs) for who, runs in mine.items()} | {"peer": theirs}
        device = found["ours"].get("device", given.device)
        row = {"backbone": model.name, "device": device, "precision": precision, "peer_precision": peer_precision}
        row |= {"batch": batch, "length": length, "method": method}
        for who, run in found.items():
            row |= columns(who, run, batch * length)
        if "ours_ms" in row and "peer_ms" in row:
            row["ratio"] = round(row["peer_ms"] / row["ours_ms"], 2)
        yield row


def columns(who, found, tokens):
    if "error" in found:
        return {f"{who}_error": found["error"]}
    seconds = found["seconds"]
    return {
        f"{who}_ms": round(1000 * seconds, 2),
        f"{who}_tokens_s": round(tokens / seconds),
        f"{who}_mib": round(found["peak_mib"]),
    }


def table(rows):
    header = "precision | batch | method | ours, ms | without graphs, ms | peer, ms | times | ours, MiB | peer, MiB"
    lines = [f"| {header} |", "|" + "---|" * 9]
    for row in rows:
        cells = [both_precisions(row), f"{row['batch']} × {row['length']}", row["method"]]
        cells += map(row.get, ["ours_ms", "ours_no_graphs_ms", "peer_ms", "ratio", "ours_mib", "peer_mib"])
        lines.append("| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |")
    return "\n".join(lines)


main()
