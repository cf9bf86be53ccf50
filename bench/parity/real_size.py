"""Models of the paper's size with random weights: loading, steps of every method, memory, beside peft on the same work."""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import FIXTURES, RANKBENCH, ROOT, Failed, data_flags, rankbench, read_csv, read_lines, tokenizer_dir

BATCH, LENGTH, STEPS, WARMUP = 8, 128, 4, 1
RECIPE = ROOT / "bench/parity/real_size.toml"


def deberta_base(directory):
    import transformers

    spm = tokenizer_dir("deberta-v3-base") or FIXTURES / "e1_tokenizer_small_unigram"
    config = transformers.DebertaV2Config(
        vocab_size=128100, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
        max_position_embeddings=512, type_vocab_size=0, relative_attention=True, position_buckets=256,
        norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False,
        max_relative_positions=-1, layer_norm_eps=1e-7,
    )
    save(transformers.DebertaV2Model(config), directory, [spm / "spm.model"])


def roberta_large(directory):
    import transformers

    config = transformers.RobertaConfig(
        vocab_size=50265, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5,
    )
    files = tokenizer_dir("roberta-base")
    model = transformers.RobertaModel(config, add_pooling_layer=False)
    save(model, directory, [files / "vocab.json", files / "merges.txt"])


def save(model, directory, files):
    model.save_pretrained(directory)
    for file in files:
        (directory / file.name).write_bytes(file.read_bytes())


def measured(command, **options):
    """Runs a command; gives its stdout and stderr, and its peak resident memory in MiB."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as child:
        out, err = child.stdout.read(), child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} ended with {child.returncode}:\n{err}")
    return out, err, usage.ru_maxrss / 1024


def check(out):
    models = {"DeBERTaV3-base": deberta_base}
    if tokenizer_dir("roberta-base"):
        models["RoBERTa-large"] = roberta_large
    lines = []
    for name, make in models.items():
        directory = out / name
        directory.mkdir()
        subprocess.run([sys.executable, __file__, "make", make.__name__, str(directory)], check=True)
        size = (directory / "model.safetensors").stat().st_size / 2**20
        lines += ours(name, directory, size, out) + peers(name, directory, out)
    return lines


def say(line):
    print(line, flush=True)
    return line


def ours(name, directory, size, out):
    text, _, _ = measured([RANKBENCH, "doctor", "--backbone", directory])
    lines = [say(f"{name} ({size:.0f} MiB): {text.strip().splitlines()[-1]}")]
    seconds, factor = (float(found) for found in re.search(r"in ([\d.]+) s.* ([\d.]+) times", text).groups())
    if name == "DeBERTaV3-base" and (seconds > 3 or factor > 1.3):
        raise Failed(lines[-1])
    results = out / f"timings-{name}"
    flags = ["--recipe", RECIPE, "--backbone", directory, *data_flags(), "--device", "cpu", "--out", results]
    measured([RANKBENCH, "efficiency", *map(str, flags)])
    for method in ("lora", "adalora", "sora"):
        rows = [row for row in read_csv(results / "timings.csv") if row["method"] == method]
        step = statistics.median(float(row["seconds"]) / int(row["steps"]) for row in rows)
        peak = max(float(row["peak_resident_mib"]) for row in rows)
        lines.append(say(f"{name} {method}: ours {step:.2f} s a step, peak {peak:.0f} MiB"))
    return lines


def peers(name, directory, out):
    rows = out / "rows.jsonl"
    flags = ["--backbone", directory, "--tasks", "rte", "--max-length", LENGTH, *data_flags()]
    rankbench("tokenize", *flags, "--out", rows)
    lines = []
    for method in ("lora", "adalora"):
        text, _, peak = measured([sys.executable, __file__, "step", method, str(directory), str(rows)])
        seconds = json.loads(text)["seconds"]
        lines.append(say(f"{name} {method}: peft {seconds:.2f} s a step, peak {peak:.0f} MiB"))
    return lines


def peft_step(method, directory, rows):
    """Median seconds of a training step of peft on the rows' ids."""
    import peft
    import torch
    import transformers

    from adapters import SITES

    pad = 1 if "RoBERTa" in directory else 0
    found = [row["ids"] for row in read_lines(rows) if row["set"] == "train"][: BATCH * (WARMUP + STEPS)]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2)
    common = dict(task_type="SEQ_CLS", target_modules=SITES, modules_to_save=["classifier", "pooler"], lora_alpha=16)
    config = {
        "lora": lambda: peft.LoraConfig(r=8, **common),
        "adalora": lambda: peft.AdaLoraConfig(init_r=12, target_r=8, total_step=100, tinit=0, tfinal=50, **common),
    }[method]()
    model = peft.get_peft_model(model, config).train()
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
    seconds = []
    for step in range(WARMUP + STEPS):
        part = found[step * BATCH : (step + 1) * BATCH]
        ids = torch.tensor([row + [pad] * (LENGTH - len(row)) for row in part])
        mask = torch.tensor([[1] * len(row) + [0] * (LENGTH - len(row)) for row in part])
        started = time.perf_counter()
        loss = model(input_ids=ids, attention_mask=mask, labels=torch.zeros(len(part), dtype=torch.long)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if method == "adalora":
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": statistics.median(seconds[WARMUP:])}))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        {"deberta_base": deberta_base, "roberta_large": roberta_large}[sys.argv[2]](Path(sys.argv[3]))
    else:
        peft_step(*sys.argv[2:])
