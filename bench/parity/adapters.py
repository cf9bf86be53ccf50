"""Adapters in both directions and merged checkpoints, against the real peft and transformers."""

import dataclasses
import json
import shutil
import subprocess
import warnings

import numpy
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from common import FIXTURES, MINILM, RANKBENCH, ROOT, Failed, rankbench, read_csv, read_lines, tokenizer_dir

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


# Runs of ours: methods with an override of their options in the recipe `quick`.
TRAINED = {
    "": (["lora", "adalora", "sora", "dora", "dylora", "bitfit", "full"], ""),
    "with use_rslora": (["lora"], "use_rslora = true"),
    "with PiSSA": (["lora"], "init_lora_weights = 'pissa'"),
    "with LoRA+": (["lora"], "loraplus_lr_ratio = 4.0"),
    "at rank 3": (["dylora"], "eval_r = 3"),
}


def trained(out, backbone):
    """Trains every method; gives names and directories of the runs."""
    quick = (ROOT / "recipes/quick.toml").read_text()
    for number, (label, (methods, options)) in enumerate(TRAINED.items()):
        recipe, runs = out / f"{number}.toml", out / f"{number}"
        out.mkdir(exist_ok=True)
        recipe.write_text(f"{quick}\n[[override]]\nmethods = {methods}\noptions = {{ {options} }}\n" if options else quick)
        flags = ["--methods", ",".join(methods), "--tasks", TASK, "--epochs", 1, "--train-limit", 96]
        rankbench("run", "--recipe", recipe, *DATA, "--backbone", backbone, *flags, "--device", "cpu", "--out", runs)
        for run in sorted((runs / "runs").iterdir()):
            yield f"{run.name.split('-')[1]} {label}".strip(), run


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

        for method, run in trained(out / f"runs-{backbone.name}", backbone):
            ours = our_logits(backbone, run / "adapter", out / "ours.csv")
            merged = out / "merged"
            shutil.rmtree(merged, ignore_errors=True)
            rankbench("merge", "--backbone", backbone, "--adapter", run / "adapter", "--out", merged)
            compare(f"{method} of ours merged, in transformers", logits(classifier(merged), rows, pad), ours)
            if method not in ("bitfit", "full"):
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
    return lines + fields(out / "fields")


QUERIES = ["query", "value"]
LAYER = "bert.encoder.layer.1.attention.self."
# A value of each kind that a field may have, set in the file of an adapter that was saved without it.
VALUES = {
    "task_type": [None, "SEQ_CLS", "TOKEN_CLS", "CAUSAL_LM", "FEATURE_EXTRACTION", "seq_cls", 3],
    "peft_type": [None, "LORA", "ADALORA", "IA3", "LOHA", "lora"],
    "auto_mapping": [None, {"base_model_class": "BertModel", "parent_library": "x"}],
    "peft_version": [None, "0.1.0"],
    "base_model_name_or_path": [None, "nothing/here"],
    "revision": [None, "main"],
    "inference_mode": [None, True, False],
    "r": [None, 4, 5, 0, -1, "4", 4.0],
    "target_modules": [
        None, QUERIES, ["query"], ["key"], [], "all-linear", "All-Linear", ".*(query|value)", "query|value", "(", 3, ["uery"],
        [LAYER + "query"], r"(?!.*layer\.0).*(query|value)", ["query", "value", "nowhere"], ["attention.self.query", "value"],
    ],
    "exclude_modules": [None, [], ["query"], ["layer.1.attention.self.query"], r".*layer\.1.*", r".*layer\.\d.*", 3],
    "lora_alpha": [None, 16, 0, -3, 2.5, "16"],
    "lora_dropout": [0.0, 0.5],
    "fan_in_fan_out": [True, None],
    "bias": [None, "none", "all", "lora_only", "All", "some"],
    "use_rslora": [True, False, None],
    "modules_to_save": [None, [], ["classifier"], ["classifier", "pooler"], ["nowhere"], ["LayerNorm"], "classifier"],
    "init_lora_weights": [
        None, True, False, "gaussian", "Gaussian", "eva", "olora", "OLoRA", "pissa", "PiSSA", "pissa_niter_4", "corda", "loftq",
        "orthogonal", "lora_ga", "mica", "MiCA", "something", "", 1,
    ],
    "layers_to_transform": [None, [], [0], 1, [0, 1, 2], "1"],
    "layers_pattern": [None, "", [], "layer"],
    "rank_pattern": [None, {}, {"query": 4}, {"query": 5}, {".*layer.*": 4}, {"query": "4"}, {"query": 0}, [4], {"(": 4}],
    "alpha_pattern": [
        None, {}, {"query": 5}, {r".*layer\.0.*": 64}, {r"^bert.*value": 3.5, "value": 7}, {"uery": 9}, {"query": "5"}, [5],
        {"bert.encoder.layer.1.attention.self.query": 0}, {"(": 5},
    ],
    "megatron_config": [None, {"a": 1}],
    "megatron_core": [None, "else"],
    "trainable_token_indices": [None, [1, 2]],
    "loftq_config": [None, {}, {"loftq_bits": 4}],
    "eva_config": [None, {"rho": 2.0}],
    "corda_config": [None, {"corda_method": "kpm"}],
    "lora_ga_config": [None, {"direction": "ArBr"}],
    "use_dora": [None, False, True],
    "velora_config": [None, {}],
    "alora_invocation_tokens": [None, [1]],
    "use_qalora": [None, False, True],
    "qalora_group_size": [None, 8],
    "monteclora_config": [None, {}],
    "layer_replication": [None, [[0, 1], [0, 2]]],
    "runtime_config": [None, {"ephemeral_gpu_offload": True}],
    "lora_bias": [None, False, True],
    "target_parameters": [None, ["bert.encoder.layer.0.output.dense.weight"]],
    "use_bdlora": [None, {}],
    "arrow_config": [None, {}],
    "kasa_config": [None, {}],
    "ensure_weight_tying": [None, False, True],
    "target_r": [2],
    "init_r": [None, 6, 5, 0, "6"],
    "tinit": [3],
    "tfinal": [3],
    "deltaT": [2],
    "beta1": [0.5],
    "beta2": [0.5],
    "orth_reg_weight": [0.1],
    "total_step": [None, 200],
    "of_another_version": [None, False, True, {"a": 1}],
}


def fields(out):
    """Every field of peft's configurations, one value after the other, and what else a file may hold: the same logits, or peft
    refuses it too, or we refuse it by name."""
    known = {field.name for config in (peft.LoraConfig, peft.AdaLoraConfig) for field in dataclasses.fields(config)}
    if known - set(VALUES):
        raise Failed(f"fields of peft without a row: {sorted(known - set(VALUES))}")
    warnings.filterwarnings("ignore")
    backbone = small_bert(out / "small")
    flags = ["--backbone", backbone, "--tasks", TASK, "--max-length", 128, *DATA]
    rankbench("tokenize", *flags, "--out", out / "rows.jsonl")
    rows = [row for row in read_lines(out / "rows.jsonl") if row["set"] == "dev"][:64]
    counts, wrong = {}, []
    for name, directory, words in variants(out, backbone):
        outcome = meet(backbone, directory, rows, words, is_null=name.endswith("= null") or " without " in name)
        counts[outcome[0]] = counts.get(outcome[0], 0) + 1
        print(f"{name}: {': '.join(outcome)}", flush=True)
        if outcome[0].isupper():
            wrong.append(f"{name}: {': '.join(outcome)}")
    line = f"fields: {sum(counts.values())} files: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(line)
    if wrong:
        raise Failed("\n".join([line, *wrong]))
    return [line]


def small_bert(directory):
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, initializer_range=0.2
    )
    torch.manual_seed(3)
    return save(transformers.BertModel(config), directory, [MINILM / "vocab.txt"])


def meet(backbone, directory, rows, words, is_null):
    """What becomes of a file in peft and in ours."""
    try:
        model = peft.PeftModel.from_pretrained(classifier(backbone), directory).eval()
        theirs = logits(model, rows, 0)
    except Exception as error:  # noqa: BLE001: whatever peft says
        theirs = f"{type(error).__name__}: {error}".split("\n")[0][:90]
    ours = directory.parent / "ours.csv"
    command = [RANKBENCH, "import", "--backbone", backbone, "--adapter", directory, "--task", TASK, "--max-length", 128, *DATA]
    command += ["--device", "cpu", "--out", ours]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    said = " ".join(done.stderr.replace("│", " ").split())
    if done.returncode == 3:
        if isinstance(theirs, str):
            return "both refuse", theirs
        by_name = all(word in said for word in words)
        return ("we refuse by name" if by_name else "WE REFUSE WITHOUT A NAME"), said[:160]
    if done.returncode != 0:
        return "WE FAIL", f"exit {done.returncode}: {said[:160]}"
    if isinstance(theirs, str):
        return ("null is nothing here" if is_null else "ONLY PEFT REFUSES"), theirs
    found = numpy.array([[float(value) for value in row["logits"].split()] for row in read_csv(ours)])[: len(rows)]
    error = float(numpy.abs(theirs - found).max())
    return ("same logits" if error <= TOLERANCE * min(1.0, float(numpy.abs(theirs).max())) else "OTHER LOGITS"), f"off by {error:.1e}"


def variants(out, backbone):
    """Directories with an adapter each, their names, and the words a refusal must hold."""
    common = dict(task_type="SEQ_CLS", target_modules=QUERIES, modules_to_save=["classifier"])
    kinds = {
        "LORA": lambda **more: peft.LoraConfig(**{**dict(r=4, lora_alpha=8), **common, **more}),
        "ADALORA": lambda **more: peft.AdaLoraConfig(**{**dict(init_r=6, target_r=3, lora_alpha=8, total_step=100), **common, **more}),
    }
    number = 0

    def made(config, edit=lambda config: None, rename=lambda tensors: tensors, pickled=False):
        nonlocal number
        number += 1
        directory = out / f"{number}"
        random_adapter(classifier(backbone), config).save_pretrained(directory)
        path = directory / "adapter_config.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))
        weights = directory / "adapter_model.safetensors"
        tensors = {name: value.clone() for name, value in rename(load_file(weights)).items()}
        weights.unlink()
        if pickled:
            torch.save(tensors, directory / "adapter_model.bin")
        else:
            save_file(tensors, weights, metadata={"format": "pt"})
        return directory

    for kind, config in kinds.items():
        for field, values in VALUES.items():
            for value in values:
                yield f"{kind} {field} = {json.dumps(value)}", made(config, lambda c: c.update({field: value})), [field]
            yield f"{kind} without {field}", made(config, lambda c: c.pop(field, None)), []
        # What peft trains and saves with an option, as it stands in its file.
        options = {
            "bias all": dict(bias="all"),
            "bias lora_only": dict(bias="lora_only"),
            "saved pooler": dict(modules_to_save=["classifier", "pooler"]),
            "saved norms": dict(modules_to_save=["classifier", "LayerNorm"]),
            "saved embeddings": dict(modules_to_save=["classifier", "word_embeddings"]),
            "a saved module of a layer": dict(modules_to_save=["classifier", "1.output.dense"]),
            "all linear": dict(target_modules="all-linear"),
            "all linear but the pooler": dict(target_modules="all-linear", exclude_modules=["pooler.dense"]),
            "some layers": dict(layers_to_transform=[1], layers_pattern="layer"),
            "an expression": dict(target_modules=r".*layer\.[01]\.attention\.self\.(query|key)"),
            "norms by expression": dict(target_modules=r".*\.(query|output\.dense)", exclude_modules=r".*layer\.0.*"),
        }
        if kind == "LORA":
            options |= {
                "lora_bias": dict(lora_bias=True),
                "rslora with patterns": dict(use_rslora=True, rank_pattern={"query": 2, r"layer\.1.*": 3}, alpha_pattern={"value": 3}),
                "ranks by expression": dict(rank_pattern={r".*layer\.0\..*query": 2, "value": 6}),
                "embeddings": dict(target_modules=["query", "word_embeddings", "position_embeddings"]),
                "dora": dict(use_dora=True),
                "mica": dict(init_lora_weights="mica"),
                "orthogonal": dict(init_lora_weights="orthogonal"),
                "velora": dict(velora_config=peft.tuners.lora.config.VeloraConfig()),
                "kasa": dict(kasa_config=peft.tuners.lora.config.KasaConfig()),
                "parameters": dict(target_modules=["query"], target_parameters=["bert.encoder.layer.0.output.dense.weight"]),
                "token indices": dict(trainable_token_indices={"word_embeddings": [1, 2, 3]}),
            }
        else:
            mask = {f"{LAYER}query.lora_E": [True, False, True, False, False, True], f"{LAYER}value.lora_E": [False] * 6}
            options["masked"] = dict(rank_pattern=mask)
            options["masked, alpha 0"] = dict(rank_pattern=mask, lora_alpha=0)
        words = {"velora": ["velora_config"], "kasa": ["kasa_config"], "parameters": ["target_parameters"],
                 "token indices": ["trainable_token_indices"]}
        for name, more in options.items():
            try:
                directory = made(lambda: config(**more))
            except Exception as error:  # noqa: BLE001: a combination that peft has not
                print(f"{kind} {name}: peft makes none ({type(error).__name__}: {str(error)[:80]})")
                continue
            yield f"{kind} with {name}", directory, words.get(name, [])
        without = lambda end: lambda tensors: {name: value for name, value in tensors.items() if not end(name)}
        renamed = lambda change: lambda tensors: {change(name): value for name, value in tensors.items()}
        default = lambda name: name.replace("_A.weight", "_A.default.weight").replace("_B.weight", "_B.default.weight")
        changed = lambda change: lambda tensors: {name: change(name, value).contiguous() for name, value in tensors.items()}
        layouts = {
            "adapter_model.bin": (dict(pickled=True), []),
            "names of a state dictionary": (dict(rename=renamed(default)), []),
            "float64": (dict(rename=changed(lambda _, value: value.double())), []),
            "float16": (dict(rename=changed(lambda _, value: value.half())), []),
            "no tensors of LoRA": (dict(rename=without(lambda name: "lora_" in name)), ["no LoRA tensor"]),
            "half of the layers": (dict(rename=without(lambda name: "lora_" in name and "layer.1." in name)), []),
            "no A": (dict(rename=without(lambda name: "lora_A" in name)), ["lora_A"]),
            "one B less": (dict(rename=without(lambda name: "0.attention.self.query.lora_B" in name)), ["lora_B"]),
            "no classifier": (dict(rename=without(lambda name: "classifier" in name)), ["classifier"]),
            "a surplus module": (dict(rename=lambda tensors: tensors | {
                name.replace("query", "key"): value for name, value in tensors.items() if "query" in name}), []),
            "a surplus layer": (dict(rename=lambda tensors: tensors | {
                name.replace("layer.1", "layer.7"): value for name, value in tensors.items() if "layer.1" in name}), ["layer.7"]),
            "doubled names": (dict(rename=lambda tensors: tensors | {
                default(name): value + 1 for name, value in tensors.items() if "lora_A" in name or "lora_B" in name}), ["doubled"]),
            "a rank less": (dict(rename=changed(lambda name, value: (
                value[1:] if "lora_A" in name or "lora_E" in name else value[:, 1:] if "lora_B" in name else value))), ["rank"]),
            "a saved embedding": (dict(rename=lambda tensors: tensors | {
                "base_model.model.bert.embeddings.word_embeddings.weight": 0.1 * torch.ones(30522, 32)}), []),
            "a saved norm": (dict(rename=lambda tensors: tensors | {
                "base_model.model.bert.encoder.layer.0.output.LayerNorm.weight": 1.5 * torch.ones(32)}), []),
            "a saved bias of an adapted module": (dict(rename=lambda tensors: tensors | {
                f"base_model.model.{LAYER}query.base_layer.bias": torch.ones(32)}), []),
            "a bias of an adapted module by its old name": (dict(rename=lambda tensors: tensors | {
                f"base_model.model.{LAYER}query.bias": torch.ones(32)}), ["surplus", "query.bias"]),
            "a stranger": (dict(rename=lambda tensors: tensors | {"base_model.model.stranger.weight": torch.ones(3)}), ["stranger"]),
        }
        query = "bert.encoder.layer.0.attention.self.query"
        of_adalora = ("init_r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step")
        layouts["pruned to nothing, as we write it"] = (dict(
            rename=lambda tensors: {name: value for name, value in tensors.items() if "lora_" not in name} | {
                f"base_model.model.{query}.lora_{part}.weight": torch.zeros(shape) for part, shape in (("A", (1, 32)), ("B", (32, 1)))},
            edit=lambda config: config.update(
                peft_type="LORA", r=1, lora_alpha=1, target_modules=[query], rank_pattern={query: 1}, alpha_pattern={query: 1.0},
                **{field: None for field in of_adalora}),
        ), [])
        for name, (how, words) in layouts.items():
            yield f"{kind}, {name}", made(config, **how), words


def peft_configs():
    common = dict(task_type="SEQ_CLS", target_modules=SITES, modules_to_save=["classifier", "pooler"])
    return {
        "lora": lambda: peft.LoraConfig(r=4, lora_alpha=8, **common),
        "dora": lambda: peft.LoraConfig(r=4, lora_alpha=8, use_dora=True, **common),
        "rslora": lambda: peft.LoraConfig(r=4, lora_alpha=8, use_rslora=True, **common),
        "pissa": lambda: peft.LoraConfig(r=4, lora_alpha=8, init_lora_weights="pissa", **common),
        "adalora": lambda: peft.AdaLoraConfig(init_r=6, target_r=3, lora_alpha=8, total_step=100, **common),
    }


def random_adapter(model, config):
    """An adapter of peft with random values, so that nothing is zero."""
    model = peft.get_peft_model(model, config()).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, value in model.named_parameters():
            # Biases are trained, and saved, only where the configuration says so.
            if value.requires_grad and "ranknum" not in name:
                value.copy_(0.05 * torch.randn(value.shape, generator=generator))
    return model
