"""Token ids of small made-up checkpoints, option by option, against AutoTokenizer of transformers.

Each case is a directory with a vocabulary of our own, a few option files and odd texts. Ours either gives the ids of
AutoTokenizer for that directory or refuses it and names the file or option.
"""

import copy
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from common import FIXTURES, ROOT, Failed

WORDS = "good bad the film is not a story dull fine very plot caf\u00e9 cafe Good Film good! ##s ##ly ##\u00e9 , . ! ? ( ) - ' \u6771 \u4eac i\u0307 e f".split()
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "the good film",
    "Good Film, is it (very) good?!",
    "the caf\u00e9 is cafe\u0301 CAF\u00c9",
    "\u6771\u4eac film \u6771",
    "the <e1> film <e1>, good<e1>bad <E1> x",
    "[MASK] the [mask] [SEP] and <mask> </s> film[MASK]good",
    "  two  spaces\tand tab ",
    "goods badly film\u2019s \u00bd \ufb01ne \u0130 \u03a3\u03a3 \u1e9e",
    "zero\u200bwidth \u00a0 nbsp \ufeff bom",
    "\U0001f600 smile e\u0301e",
    "-- the-film -- 'good' <e2> new tok newtok newtoks",
    "x" * 120,
    "good",
    "newtok Newtok NEWTOK.newtok",
]
MAX_LENGTH = 16
PAIRS = [("the good film", "is bad"), ("good " * 12, "bad film " * 9), ("<e1> good", "[MASK] the"), ("the film is good, very", "bad")]


def token(content, **flags):
    base = {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {**base, **flags}


def typed(content, **flags):
    return {"__type": "AddedToken", **token(content, **flags)}


def plain_decoder(special):
    return {str(index): token(content) for index, content in enumerate(special)}


def shared_options(first_id, special):
    """Options that every class has: (name, configuration, other files)."""
    yield "none", {}, {}
    for flags in ({}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True}, {"special": False},
                  {"special": False, "normalized": True}, {"lstrip": True, "rstrip": True, "special": False},
                  {"single_word": True, "special": False, "normalized": True}):
        name = "+".join(f"{k}={v}" for k, v in flags.items()) or "plain"
        decoder = {**plain_decoder(special), str(first_id): token("<e1>", **flags), str(first_id + 1): token("newtok", **flags)}
        yield f"decoder {name}", {"added_tokens_decoder": decoder}, {}
        yield f"additional {name}", {"additional_special_tokens": [typed("<e1>", **flags), "<e2>"]}, {}
        yield f"map additional {name}", {}, {"special_tokens_map.json": {"additional_special_tokens": [token("<e1>", **flags), "newtok"]}}
    yield "decoder known word", {"added_tokens_decoder": {**plain_decoder(special), "7": token("film", special=False)}}, {}
    yield "added file", {}, {"added_tokens.json": {"<e1>": first_id, "newtok": first_id + 1}}
    yield "added file with mask", {"mask_token": "[MASK]"}, {"added_tokens.json": {"[MASK]": first_id, "Newtok": first_id + 1}}
    yield "added file and map", {}, {"added_tokens.json": {"<e1>": first_id}, "special_tokens_map.json": {"additional_special_tokens": ["<e1>"]}}
    yield "decoder beside file", {"added_tokens_decoder": {**plain_decoder(special), str(first_id): token("<e1>")}}, {"added_tokens.json": {"newtok": first_id}}
    yield "additional text", {"additional_special_tokens": ["<e1>", "newtok"]}, {}
    yield "extra object", {"extra_special_tokens": {"boi_token": "<e1>"}}, {}
    yield "split special", {"split_special_tokens": True}, {}
    yield "split special added", {"split_special_tokens": True, "additional_special_tokens": ["<e1>"]}, {}
    yield "truncate left", {"truncation_side": "left"}, {}
    yield "pad left", {"padding_side": "left"}, {}
    yield "harmless", {"model_max_length": 512, "clean_up_tokenization_spaces": True, "name_or_path": "x", "errors": "strict", "stranger": None}, {}
    yield "stranger", {"stranger": 3}, {}
    yield "no segments", {"model_input_names": ["input_ids", "attention_mask"]}, {}
    yield "null tokenizer file", {"tokenizer_file": None, "special_tokens_map_file": None}, {}
    for attribute in ("cls_token", "sep_token", "unk_token", "pad_token", "mask_token", "bos_token", "eos_token"):
        yield f"{attribute} = film", {attribute: "film"}, {}
        yield f"{attribute} typed", {attribute: typed("film", lstrip=True, normalized=True)}, {}
        yield f"map {attribute}", {}, {"special_tokens_map.json": {attribute: token("film", lstrip=True)}}
    yield "mask null", {"mask_token": None}, {}
    yield "mask <mask>", {"mask_token": "<mask>"}, {}
    for name in ("BertTokenizer", "RobertaTokenizer", "DebertaV2Tokenizer", "PreTrainedTokenizerFast", "DistilBertTokenizer", "T5Tokenizer", "NoSuchTokenizer"):
        yield f"class {name}", {"tokenizer_class": name}, {}


def flags_product(names, values=(True, False)):
    for chosen in itertools.product((None, *values), repeat=len(names)):
        config = {name: value for name, value in zip(names, chosen) if value is not None}
        yield " ".join(f"{k}={v}" for k, v in config.items()) or "nothing", config


def bert_options(first_id):
    yield from shared_options(first_id, BERT_SPECIAL)
    for name, config in flags_product(["do_lower_case", "strip_accents", "tokenize_chinese_chars"]):
        yield name, config, {}
        yield f"{name}, added", {**config, "additional_special_tokens": ["<E1>"], "added_tokens_decoder": {**plain_decoder(BERT_SPECIAL), str(first_id): token("Newtok", special=False, normalized=True)}}, {}
    for config in ({"do_basic_tokenize": False}, {"never_split": ["Good"]}, {"never_split": ["[UNK]"]}, {"clean_text": False}, {"wordpieces_prefix": "@"}):
        yield str(config), config, {}


def roberta_options(first_id):
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    yield from shared_options(first_id, special)
    for name, config in flags_product(["add_prefix_space", "trim_offsets", "do_lower_case"]):
        yield name, config, {}


def deberta_options(first_id):
    yield from shared_options(first_id, BERT_SPECIAL[:1] + ["[CLS]", "[SEP]", "[UNK]"])
    for name, config in flags_product(["do_lower_case", "split_by_punct"]):
        yield name, config, {}
        yield f"{name}, added", {**config, "additional_special_tokens": ["<E1>"], "added_tokens_decoder": {str(first_id): token("Newtok", special=False, normalized=True)}}, {}
        yield f"{name}, not normalized", {**config, "added_tokens_decoder": {str(first_id): token("Newtok", special=False, normalized=False)}}, {}
    for kwargs in ({}, {"enable_sampling": False, "nbest_size": -1, "alpha": 0.1}, {"enable_sampling": True}, {"add_bos": True}):
        yield f"sp_model_kwargs {kwargs}", {"sp_model_kwargs": kwargs}, {}
    yield "no prefix", {"add_prefix_space": False}, {}


def bytes_to_unicode():
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [byte for byte in range(256) if byte not in plain]
    return {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + index) for index, byte in enumerate(others)}}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), encoding="utf-8")


def bert_files(folder):
    write(folder / "vocab.txt", "".join(word + "\n" for word in BERT_SPECIAL + WORDS))


def roberta_files(folder):
    tokens = ["<s>", "<pad>", "</s>", "<unk>"] + sorted(bytes_to_unicode().values()) + ["\u0120t", "he", "\u0120the", "go", "od", "good", "\u0120f", "film", "<mask>"]
    write(folder / "vocab.json", {text: index for index, text in enumerate(tokens)})
    write(folder / "merges.txt", "#version: 0.2\n\u0120 t\nh e\n\u0120t he\ng o\no d\ngo od\n\u0120 f\n")


def deberta_files(folder):
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(FIXTURES / "e1_tokenizer_small_unigram/spm.model", folder)


CLASSES = {
    "bert": (bert_files, bert_options, len(BERT_SPECIAL + WORDS), "bert"),
    "roberta": (roberta_files, roberta_options, 269, "roberta"),
    "deberta": (deberta_files, deberta_options, 1504, "deberta-v2"),
}
# What a saved tokenizer.json holds: transformers' own conversion under these options.
SAVED = {
    "bert": [{}, {"do_lower_case": False}, {"do_lower_case": True, "strip_accents": False}, {"additional_special_tokens": ["<e1>"]}],
    "roberta": [{}, {"add_prefix_space": True}, {"additional_special_tokens": ["<e1>"]}],
    "deberta": [{}, {"do_lower_case": True}, {"split_by_punct": True}, {"additional_special_tokens": ["<e1>"]}],
}


def build(root):
    """Writes every case; gives (name, folder, behaviour)."""
    from transformers import AutoTokenizer

    count = itertools.count()
    for name, (files, options, first_id, model_type) in CLASSES.items():
        stored = []
        for saved in SAVED[name]:
            source = root / f"source-{name}-{len(stored)}"
            files(source)
            write(source / "config.json", {"model_type": model_type})
            write(source / "tokenizer_config.json", saved)
            tokenizer = AutoTokenizer.from_pretrained(source)
            stored.append((saved, tokenizer.backend_tokenizer.to_str()))
        for option, config, others in options(first_id):
            layouts = [("vocabulary", None)] + [(f"json {saved}", text) for saved, text in stored]
            for layout, text in layouts:
                for has_own in (True, False) if text else (True,):
                    folder = root / f"case-{next(count)}"
                    folder.mkdir(parents=True)
                    if has_own:
                        files(folder)
                    if text:
                        write(folder / "tokenizer.json", text)
                    write(folder / "config.json", {"model_type": model_type})
                    config = copy.deepcopy(config)
                    if config:
                        write(folder / "tokenizer_config.json", config)
                    for file, content in others.items():
                        write(folder / file, content)
                    where = layout + (" and vocabulary" if text and has_own else "")
                    yield f"{name} | {where} | {option}", folder, "fast"
                    if name == "deberta" and has_own:
                        yield f"{name} slow | {where} | {option}", folder, "sentencepiece"


def reference(cases, path):
    """Writes what transformers gives for each case: ids and segments of every text and pair, or its error."""
    import warnings

    import transformers
    from transformers import AutoTokenizer

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    found = {}
    for key, folder, behaviour in cases:
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=behaviour == "fast")
            singles = [tokenizer(text, truncation=True, max_length=MAX_LENGTH)["input_ids"] for text in TEXTS]
            pairs = [tokenizer(*pair, truncation=True, max_length=MAX_LENGTH)["input_ids"] for pair in PAIRS]
            found[key] = singles + pairs
        except Exception as error:  # Any way to say no.
            found[key] = f"{type(error).__name__}: {error}"[:200]
    write(Path(path), found)


def ours(cases, out):
    """Ids of the same rows, or the refusal, of every case."""
    rows = [[text, None] for text in TEXTS] + [list(pair) for pair in PAIRS]
    listed = [[key, str(folder), behaviour] for key, folder, behaviour in cases]
    write(out / "job.json", {"cases": listed, "rows": rows, "max_length": MAX_LENGTH})
    example = ["cargo", "run", "--quiet", "--release", "-p", "datasets", "--example", "tokens", "--"]
    subprocess.run([*example, str(out / "job.json"), str(out / "ours.json")], cwd=ROOT, check=True)
    return json.loads((out / "ours.json").read_text())


def check(out):
    """Compares every case; gives lines for the summary."""
    cases = list(build(out / "matrix"))
    listed = out / "cases.json"
    write(listed, [[key, str(folder), behaviour] for key, folder, behaviour in cases])
    reference(cases, out / "reference.json")
    references = {"4.57": json.loads((out / "reference.json").read_text())}
    other = os.environ.get("PARITY_PYTHON_5")
    if other:
        subprocess.run([other, __file__, str(listed), str(out / "reference5.json")], check=True)
        references["5"] = json.loads((out / "reference5.json").read_text())
    return compare(cases, references, ours(cases, out))


def compare(cases, references, found):
    """Counts what came of the cases, and shows those that differ."""
    names = ("same ids", "rows", "refused", "refused by both", "read, transformers fails", "5 fails", "5 gives other ids")
    counts, wrong = dict.fromkeys(names, 0), []
    for key, _, _ in cases:
        want, got = references["4.57"][key], found[key]
        if isinstance(got, str):
            counts["refused by both" if isinstance(want, str) else "refused"] += 1
            if not any(part in got for part in ("option", "token", "class", "null")):
                wrong.append(f"{key}: refused without a name: {got}")
            continue
        if isinstance(want, str):
            counts["read, transformers fails"] += 1
            print(f"  {key}: transformers fails: {want}")
        elif got["ids"] == want:
            counts["same ids"] += 1
            counts["rows"] += len(want)
        else:
            at = next(index for index, (a, b) in enumerate(zip(got["ids"], want)) if a != b)
            wrong.append(f"{key}: {(TEXTS + PAIRS)[at]!r}\n    ours      {got['ids'][at]}\n    reference {want[at]}")
        if (five := references.get("5", {}).get(key)) is not None and five != got["ids"]:
            counts["5 fails" if isinstance(five, str) else "5 gives other ids"] += 1
    for line in wrong[: int(os.environ.get("PARITY_SHOWN", 20))]:
        print(f"  {line}")
    counted = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"tokenizer files: {len(cases)} directories: {counted}", flush=True)
    if wrong:
        raise Failed(f"tokenizer files: {len(wrong)} directories differ")
    return [f"tokenizer files: {len(cases)} directories: {counted}"]


if __name__ == "__main__":
    reference([tuple(case) for case in json.loads(Path(sys.argv[1]).read_text())], sys.argv[2])
