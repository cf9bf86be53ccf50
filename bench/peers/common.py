"""What compare.py and scaling.py share: the backbone, a timed run of ours, and files."""

import contextlib
import csv
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RANKBENCH = Path(os.environ.get("RANKBENCH", ROOT / "target/release/rankbench"))
METHODS = ["lora", "adalora", "sora"]
# Training rows of the synthetic RTE.
ROWS = 384

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
options = {{ l1_weight = 10.0, xi = 1e-4 }}
[timing]
rounds = {rounds}
"""


def names(text):
    return text.split(",")


def shapes(text):
    """Batch and length of each shape in e.g. `8x128,32x128`."""
    found = [tuple(map(int, shape.split("x"))) for shape in text.split(",")]
    if any(len(shape) != 2 for shape in found):
        raise ValueError(text)
    return found


@contextlib.contextmanager
def backbone(directory):
    """`directory`, or DeBERTaV3-base with random weights where there is none."""
    if directory:
        # Not resolved: a link's own name is the backbone's.
        yield directory.absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "deberta-v3-base"
        make_model(model)
        yield model


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


def override(method, options):
    """A recipe's section that sets options of one method."""
    values = ", ".join(f"{name} = {value}" for name, value in options.items())
    return f'[[override]]\nmethods = ["{method}"]\noptions = {{ {values} }}\n'


def ours(model, device, precision, batch, length, given, extra=(), methods=METHODS, overrides=""):
    """Seconds a step, peak memory and the device's name by method."""
    if batch > ROWS:
        return {"error": f"batch {batch}: there are only {ROWS} rows"}
    # Whole batches only: the time is a mean over the steps.
    rows = min(given.steps, ROWS // batch) * batch
    text = RECIPE.format(rows=rows, batch=batch, length=length, precision=precision, rounds=given.rounds) + overrides
    with tempfile.TemporaryDirectory() as out:
        recipe = Path(out) / "peers.toml"
        recipe.write_text(text)
        flags = ["--recipe", recipe, "--backbone", model, "--micro", "--device", device, "--out", Path(out) / "t"]
        command = [RANKBENCH, "efficiency", *flags, "--methods", ",".join(methods), *extra]
        try:
            done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=given.timeout)
        except subprocess.TimeoutExpired:
            return {"error": f"no end within {given.timeout:g} s"}
        if done.returncode != 0:
            return {"error": done.stderr.strip()[-600:]}
        timings = read(Path(out) / "t/timings.csv")
    return {method: summary([row for row in timings if row["method"] == method]) for method in methods}


def summary(timings):
    found = {
        "seconds": statistics.median(float(row["seconds"]) / int(row["steps"]) for row in timings),
        "peak_mib": max(float(row.get("peak_reserved_mib") or row["peak_resident_mib"]) for row in timings),
        "device": timings[0]["device"],
    }
    if timings[0].get("peak_allocated_mib"):
        found["allocated_mib"] = max(float(row["peak_allocated_mib"]) for row in timings)
    return found


def both_precisions(row):
    """Ours, and the peer's where it is another."""
    is_same = row["peer_precision"] == row["precision"]
    return row["precision"] if is_same else f"{row['precision']} (peer {row['peer_precision']})"


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def plot(name, out):
    """Draws `out`/`name`.csv as SVG and PNG."""
    try:
        import plots
    except ImportError as error:
        print(f"no figure ({error}); --plot {out} draws it where matplotlib is installed")
        return
    plots.FIGURES[name](read(out / f"{name}.csv"), out / name)
