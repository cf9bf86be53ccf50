"""Tests of the Python in docs/guide/your_method.md: `.venv/bin/python -m unittest discover tests/guide`.

A block is run as it stands there. What needs pandas or peft is skipped where they are not installed."""

import contextlib
import csv
import importlib.util
import io
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RANKBENCH = ROOT / "target/release/rankbench"


def installed(*names):
    return all(importlib.util.find_spec(name) for name in names)


def block(name):
    """The Python block of the guide whose first line is `# name`."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/guide/your_method.md").read_text(), re.DOTALL)
    return next(text for text in blocks if text.startswith(f"# {name}\n"))


def run(name):
    """Names that a block defines, and its output."""
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block(name), name, "exec"), names)
    return names, printed.getvalue()


def rankbench(*arguments):
    environment = os.environ | {"RANKBENCH_HOME": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([RANKBENCH, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{arguments}: {done.stderr}")
    return done.stdout


class Snippets(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)

    def lora(self, seeds):
        """Short runs of ours in the guide's store."""
        os.symlink(ROOT / ".cache", ".cache")
        short = ["--micro", "--epochs", "1", "--train-limit", "64", "--device", "cpu"]
        wanted = ["--tasks", "rte", "--methods", "lora", "--seeds", seeds]
        rankbench("run", "minilm_glue", *wanted, *short, "--out", "results/mine")

    def mine(self, seed):
        """Perfect predictions, written and added by the guide's steps."""
        import torch

        rankbench("split", "--task", "rte", "--micro", "--text", "--out", "split.csv")
        with open("split.csv", newline="") as file:
            lines = [line for line in csv.DictReader(file) if line["split"] == "test"]
        logits = torch.nn.functional.one_hot(torch.tensor([int(line["label"]) for line in lines]), 2).float()
        rows = [int(line["row"]) for line in lines]
        run("write_predictions.py")[0]["write_predictions"]("predictions.csv", [("test", rows, logits)])
        command = ["add", "--method", "mine", "--title", "Mine", "--task", "rte", "--seed", seed, "--micro"]
        known = ["--backbone", str(ROOT / ".cache/backbones/all-MiniLM-L6-v2")]
        return rankbench(*command, *known, "--predictions", "predictions.csv", "--out", "results/mine")

    def test_every_block_is_python(self):
        for name in ["write_predictions.py", "train.py", "read_report.py", "read_pandas.py", "load_adapter.py"]:
            compile(block(name), name, "exec")

    @unittest.skipUnless(installed("torch"), "torch is not installed")
    def test_logits_are_written_in_full(self):
        import torch

        write_predictions = run("write_predictions.py")[0]["write_predictions"]
        logits = torch.tensor([[0.1, -1e-8], [3.0, 1.0 / 3.0]])
        scores = torch.tensor([2.5, 4.0])
        write_predictions("out.csv", [("validation", [7, 3], logits), ("test", [1, 2], scores)])
        with open("out.csv", newline="") as file:
            lines = list(csv.DictReader(file))
        self.assertEqual([line["row"] for line in lines], ["7", "3", "1", "2"])
        back = [[float(value) for value in line["logits"].split()] for line in lines]
        self.assertEqual(torch.tensor(back[:2]).tolist(), logits.tolist())
        self.assertEqual(back[2:], [[2.5], [4.0]])
        with self.assertRaises((ValueError, RuntimeError)):
            write_predictions("out.csv", [("test", [1, 2, 3], logits)])

    @unittest.skipUnless(installed("torch") and RANKBENCH.exists(), "torch or the built program is missing")
    def test_what_is_written_is_added_and_reported(self):
        self.assertIn("RTE: test accuracy 100.00 (64 rows)", self.mine("0"))
        rankbench("report", "results/mine")
        self.assertEqual(run("read_report.py")[1], "Mine (external) accuracy 100 ± not known over 1 seeds\n")

    @unittest.skipUnless(installed("torch", "pandas") and RANKBENCH.exists(), "pandas or the built program is missing")
    def test_a_report_is_read_with_pandas(self):
        self.lora("0-2")
        for seed in ["0", "1", "2"]:
            self.mine(seed)
        rankbench("report", "results/mine")
        lines = run("read_pandas.py")[1].splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["title", "LoRA", "Mine"], lines)
        self.assertIn("100.0", lines[2])

    @unittest.skipUnless(installed("peft", "transformers") and RANKBENCH.exists(), "peft or the built program is missing")
    def test_an_exported_adapter_is_loaded(self):
        self.lora("0")
        (one,) = pathlib.Path("results/mine/runs").iterdir()
        rankbench("export", "--run", str(one), "--out", "adapter")
        self.assertIn("tensor([[", run("load_adapter.py")[1])


if __name__ == "__main__":
    unittest.main()
