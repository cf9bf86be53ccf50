"""`just compare-peers`: a training step of ours beside transformers with peft, and SoRA in its authors' form.

Same architecture and sizes (DeBERTaV3-base with random weights), batch, length and precision; ours and the peer's take
turns, setting by setting, in one run on one device.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RANKBENCH = ROOT / "target/release/rankbench"
METHODS = ["lora", "adalora", "sora"]
# Batch and length of the steps.
SHAPES = {"cuda": [(8, 128), (32, 128), (32, 32)], "cpu": [(8, 128)]}


def make_model(directory):
    import transformers

    config = transformers.DebertaV2Config(
        vocab_size=128100, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
        max_position_embeddings=512, type_vocab_size=0, relative_attention=True, position_buckets=256,
        norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False,
        max_relative_positions=-1, layer_norm_eps=1e-7,
    )
    transformers.DebertaV2Model(config).save_pretrained(directory)
    spm = ROOT / "tests/fixtures/parity/e1_tokenizer_small_unigram/spm.model"
    (directory / "spm.model").write_bytes(spm.read_bytes())
    # Written by other versions under other names; only what the architecture computes counts here.
    config = json.loads((directory / "config.json").read_text())
    for option in ("dtype", "transformers_version"):
        config.pop(option, None)
    (directory / "config.json").write_text(json.dumps(config))


RECIPE = """name = "peers"
tasks = ["rte"]
methods = ["lora", "adalora", "sora"]
seeds = [0]
backbone = "given"
[data]
source = "micro"
split = "official"
train_limit = {rows}
[train]
epochs = 50
batch_size = {batch}
lr = 1e-3
warmup_ratio = 0.06
weight_decay = 0.01
decay_order = "before"
max_grad_norm = 1.0
max_length = {length}
padding = "max_length"
order = "random"
evaluate = {{ epochs = 1 }}
train_head = true
precision = "{precision}"
[[override]]
methods = ["sora"]
options = {{ lambda = 10.0, xi = 1e-4 }}
[timing]
rounds = {rounds}
"""


def ours(model, device, precision, batch, length, given, extra=()):
    """Seconds a step and peak memory by method."""
    with tempfile.TemporaryDirectory() as out:
        recipe = Path(out) / "peers.toml"
        rows = given.steps * batch
        recipe.write_text(RECIPE.format(rows=rows, batch=batch, length=length, precision=precision, rounds=given.rounds))
        flags = ["--recipe", recipe, "--backbone", model, "--micro", "--device", device, "--out", Path(out) / "t", *extra]
        done = subprocess.run([RANKBENCH, "efficiency", *map(str, flags)], cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            return {"error": done.stderr.strip()[-600:]}
        with open(Path(out) / "t/timings.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    found = {}
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        seconds = statistics.median(float(row["seconds"]) / int(row["steps"]) for row in mine)
        found[method] = {"seconds": seconds, "peak_mib": max(float(row["peak_memory_mib"]) for row in mine)}
    return found


def peer(method, model, device, precision, batch, length, given):
    flags = ["--model", model, "--device", device, "--precision", precision, "--batch", batch, "--length", length]
    command = [sys.executable, Path(__file__).with_name("peer.py"), method, *flags, "--steps", given.steps]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip()[-600:]}


def main():
    parser = argparse.ArgumentParser(prog="just compare-peers", description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--precisions", default="bf16,fp32")
    parser.add_argument("--shapes", help="batch x length, e.g. 8x128,32x128")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS), help="peers that are run")
    parser.add_argument("--out", type=Path, default=ROOT / "results/peers")
    given = parser.parse_args()
    shapes = [tuple(map(int, shape.split("x"))) for shape in given.shapes.split(",")] if given.shapes else SHAPES[given.device]
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "deberta-v3-base"
        make_model(model)
        for precision in given.precisions.split(","):
            for batch, length in shapes:
                mine = ours(model, given.device, precision, batch, length, given)
                plain = ours(model, given.device, precision, batch, length, given, ["--graphs", "off"])
                for method in given.methods.split(","):
                    theirs = peer(method, model, given.device, precision, batch, length, given)
                    row = {"precision": precision, "batch": batch, "length": length, "method": method}
                    row |= columns("ours", mine.get(method, mine)) | columns("ours_plain", plain.get(method, plain))
                    row |= columns("peer", theirs)
                    rows.append(row)
                    print(json.dumps(row), flush=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(given.out / "peers.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    print(table(rows))


def columns(who, found):
    if "error" in found:
        return {f"{who}_error": found["error"]}
    return {f"{who}_ms": round(1000 * found["seconds"], 2), f"{who}_mib": round(found["peak_mib"])}


def table(rows):
    lines = ["| precision | batch | method | ours, ms | without graphs, ms | peer, ms | times | ours, MiB | peer, MiB |", "|" + "---|" * 9]
    for row in rows:
        ours_ms, peer_ms = row.get("ours_ms"), row.get("peer_ms")
        times = f"{peer_ms / ours_ms:.1f}" if ours_ms and peer_ms else "-"
        cells = [row["precision"], f"{row['batch']} × {row['length']}", row["method"], ours_ms, row.get("ours_plain_ms"), peer_ms, times]
        cells += [row.get("ours_mib"), row.get("peer_mib")]
        lines.append("| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |")
    return "\n".join(lines)


main()
