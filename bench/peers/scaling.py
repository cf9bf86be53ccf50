"""`just scaling`: the time of a training step of ours against the tokens of a batch, and against the rank r.

On DeBERTaV3-base with random weights, unless --backbone names another.
"""

import argparse
import json
import sys
from pathlib import Path

from common import ROOT, backbone, names, ours, override, plot, shapes, write

# Batch and length of the steps.
SHAPES = {"cuda": "8x32,8x64,8x128,16x128,32x64,32x128,64x128,32x256", "cpu": "8x32,16x64,32x64,32x128"}
R = 8


def main():
    parser = argparse.ArgumentParser(prog="just scaling", description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--backbone", type=Path, metavar="DIR", help="a Hugging Face directory")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--shapes", type=shapes, help=f"batch x length at r = {R}, e.g. 8x128,32x128")
    parser.add_argument("--ranks", type=names, default="4,8,16,32,64")
    parser.add_argument("--rank-shape", type=shapes, default="32x128", help="batch x length of the ranks")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", type=names, default="lora")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds until a run is ended")
    parser.add_argument("--out", type=Path, default=ROOT / "results/scaling")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="only draw OUT/scaling.csv")
    given = parser.parse_args()
    if given.plot:
        return plot("scaling", given.plot)
    given.out.mkdir(parents=True, exist_ok=True)
    settings = [("tokens", *shape, R) for shape in given.shapes or shapes(SHAPES[given.device])]
    settings += [("rank", *shape, int(r)) for shape in given.rank_shape for r in given.ranks]
    rows = []
    with backbone(given.backbone) as model:
        for setting in settings:
            rows += timed(model, *setting, given)
            write(given.out / "scaling.csv", rows)
    plot("scaling", given.out)


def timed(model, what, batch, length, r, given):
    """A row for each method."""
    overrides = "".join(override(method, options(method, r)) for method in given.methods)
    found = ours(model, given.device, given.precision, batch, length, given, [], given.methods, overrides)
    setting = {"what": what, "batch": batch, "length": length, "r": r, "precision": given.precision}
    if "error" in found:
        print(json.dumps(setting | found), file=sys.stderr, flush=True)
        return []
    rows = []
    for method, run in found.items():
        costs = {"seconds": round(run["seconds"], 6), "peak_mib": round(run["peak_mib"])}
        rows.append(setting | costs | {"method": method, "backbone": model.name, "device": run["device"]})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def options(method, r):
    """A method's options for the rank `r`; AdaLoRA starts with it and ends with two thirds, as 12 and 8 by default."""
    if method == "adalora":
        return {"init_r": r, "target_r": max(1, 2 * r // 3), "alpha": 16.0}
    return {"r": r, "alpha": 16.0}


main()
