"""Adapters in both directions and merged checkpoints, against the real peft and transformers."""

import json
import shutil

import numpy
import peft
import torch
import transformers

from common import FIXTURES, MINILM, Failed, rankbench, read_csv, read_lines, tokenizer_dir

TOLERANCE = 1e-5
TASK = "rte"
DATA = ["--micro"]
SITES = (
    r".*encoder\.layer\.\d+\.(attention\.self\.(query|key|value)(_proj)?|attention\.output\.dense"
    r"|intermediate\.dense|output\.dense)"
)


def backbones(out):
    """MiniLM, and small random models of the other two architectures, saved by transformers."""
    yield "BERT (MiniLM)", MINILM
    sizes = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, initializer_range=0.2)
    spm = tokenizer_dir("deberta-v3-base") or FIXTURES / "e1_tokenizer_small_unigram"
    config = transformers.DebertaV2Config(
        vocab_size=128100, max_position_embeddings=512, type_vocab_size=0, relative_attention=True, position_buckets=256,
        norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False,
        max_relative_positions=-1, **sizes,
    )
    yield "DeBERTa", save(transformers.DebertaV2Model(config), out / "deberta", [spm / "spm.model"])
    if roberta := tokenizer_dir("roberta-base"):
        config = transformers.RobertaConfig(
            vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, **sizes
        )
        model = transformers.RobertaModel(config, add_pooling_layer=False)
        yield "RoBERTa", save(model, out / "roberta", [roberta / "vocab.json", roberta / "merges.txt"])


def save(model, directory, files):
    model.save_pretrained(directory)
    for file in files:
        shutil.copyfile(file, directory / file.name)
    return directory


def classifier(directory, outputs=2):
    torch.manual_seed(5)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=outputs)
    return model.eval()


def logits(model, rows, pad):
    """Their logits for our ids."""
    found = []
    with torch.no_grad():
        for start in range(0, len(rows), 32):
            part = [row["ids"] for row in rows[start : start + 32]]
            length = max(map(len, part))
            ids = torch.tensor([row + [pad] * (length - len(row)) for row in part])
            mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in part])
            inputs = {"input_ids": ids, "attention_mask": mask}
            if model.config.type_vocab_size == 2:
                inputs["token_type_ids"] = torch.tensor([segments(row, length) for row in part])
            found.append(model(**inputs).logits)
    return torch.cat(found).double().numpy()


def segments(row, length, sep=102):
    """1 from after the first separator to the second, as BERT's tokenizer gives it."""
    first = row.index(sep) + 1
    return [0] * first + [1] * (len(row) - first) + [0] * (length - len(row))


def our_logits(backbone, adapter, out):
    flags = ["--backbone", backbone, "--adapter", adapter, "--task", TASK, "--max-length", 128, *DATA]
    rankbench("import", *flags, "--device", "cpu", "--out", out)
    return numpy.array([[float(value) for value in row["logits"].split()] for row in read_csv(out)])


def check(out):
    """Compares everything; gives lines for the summary."""
    lines = []
    for name, backbone in backbones(out):
        pad = 1 if "RoBERTa" in name else 0
        flags = ["--backbone", backbone, "--tasks", TASK, "--max-length", 128, *DATA]
        rankbench("tokenize", *flags, "--out", out / "rows.jsonl")
        rows = [row for row in read_lines(out / "rows.jsonl") if row["set"] == "dev"]

        def compare(what, theirs, ours):
            error = float(numpy.abs(theirs - ours).max())
            spread = float(numpy.abs(theirs).max())
            lines.append(f"{name}, {what}: logits of {len(rows)} rows, up to {spread:.2f}, off by {error:.1e}")
            print(lines[-1], flush=True)
            if not error <= TOLERANCE * min(1.0, spread):
                raise Failed(lines[-1])

        runs = out / f"runs-{backbone.name}"
        options = ["--methods", "lora,adalora,sora,bitfit,full", "--tasks", TASK, "--epochs", 1, "--train-limit", 96]
        rankbench("run", "--recipe", "quick", *DATA, "--backbone", backbone, *options, "--device", "cpu", "--out", runs)
        for run in sorted((runs / "runs").iterdir()):
            method = run.name.split("-")[1]
            ours = our_logits(backbone, run / "adapter", out / "ours.csv")
            merged = out / "merged"
            shutil.rmtree(merged, ignore_errors=True)
            rankbench("merge", "--backbone", backbone, "--adapter", run / "adapter", "--out", merged)
            compare(f"{method} of ours merged, in transformers", logits(classifier(merged), rows, pad), ours)
            if method in ("lora", "adalora", "sora"):
                exported = out / "exported"
                shutil.rmtree(exported, ignore_errors=True)
                rankbench("export", "--run", run, "--out", exported, "--base-model", backbone)
                model = peft.PeftModel.from_pretrained(classifier(backbone), exported).eval()
                compare(f"{method} of ours in peft", logits(model, rows, pad), ours)
        for kind, config in peft_configs().items():
            saved = out / f"peft-{kind}"
            model = random_adapter(classifier(backbone), config)
            model.save_pretrained(saved)
            compare(f"{kind} of peft in ours", logits(model, rows, pad), our_logits(backbone, saved, out / "ours.csv"))
    return lines


def peft_configs():
    common = dict(task_type="SEQ_CLS", target_modules=SITES, modules_to_save=["classifier", "pooler"])
    return {
        "lora": lambda: peft.LoraConfig(r=4, lora_alpha=8, **common),
        "adalora": lambda: peft.AdaLoraConfig(init_r=6, target_r=3, lora_alpha=8, total_step=100, **common),
    }


def random_adapter(model, config):
    """An adapter of peft with random values, so that nothing is zero."""
    model = peft.get_peft_model(model, config()).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name and "ranknum" not in name:
                value.copy_(0.05 * torch.randn(value.shape, generator=generator))
    return model
