"""Walks of docs/guide: every shell block of a guide, one after the other, as it stands there, in a folder of its own.

What takes hours, a GPU or a network is made short by a program in rankbench's place: `shortened` says what it changes. The blocks of
your_method.md need packages and placeholders; test_snippets.py holds its Python. Run as test_snippets.py."""

import os
import pathlib
import re
import stat
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RANKBENCH = ROOT / "target/release/rankbench"
WALKED = ["ten_minutes.md", "cola.md", "cluster.md", "evidence.md"]
# One task, method and seed of the large recipes; the others are small once their rows are few.
SMALLER = {"table1": ["--tasks", "rte", "--methods", "lora", "--seeds", "0"], "": ["--tasks", "rte,stsb"]}
FEW = {"--backbone": "all-MiniLM-L6-v2", "--epochs": "2", "--train-limit": "32", "--device": "cpu"}


def blocks(guide):
    return re.findall(r"```sh\n(.*?)```", (ROOT / "docs/guide" / guide).read_text(), re.DOTALL)


def shortened(arguments):
    """A command of a guide on synthetic rows, few of them, on the CPU; a dry run and every other command stays as it is."""
    command, rest = arguments[0], arguments[1:]
    if command == "fetch":
        # The backbone of .cache and rows that are in the program: nothing is asked for over a network.
        return ["fetch", "quick", "--backbone", FEW["--backbone"], *(rest[rest.index("--to"):] if "--to" in rest else [])]
    if command not in ["run", "quickstart"] or "--dry-run" in rest:
        return arguments
    recipe = rest[0] if command == "run" else ""
    if "--train-limit" in rest:
        at = rest.index("--train-limit")
        rest = rest[:at] + rest[at + 2 :]
    rest = [*rest, *SMALLER.get(recipe, [])]
    few = [part for flag, value in FEW.items() if flag not in rest for part in (flag, value)]
    return [command, *rest, *few, "--micro"]


# A block that takes longer hangs.
SECONDS = 1800


@unittest.skipUnless(RANKBENCH.exists(), "the program is not built")
class Walks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        os.symlink(ROOT / ".cache", self.folder / ".cache")
        (self.folder / "results").mkdir()
        for name in ["published", "reference"]:
            os.symlink(ROOT / "results" / name, self.folder / "results" / name)
        short = f"import os, sys; sys.path.insert(0, {str(ROOT / 'tests/guide')!r}); from test_walks import shortened\n"
        run = f"os.execv({str(RANKBENCH)!r}, ['rankbench', *shortened(sys.argv[1:])])\n"
        self.program("target/release/rankbench", f"#!{sys.executable} -B\n{short}{run}")
        self.program("justw", '#!/bin/sh\nexec target/release/rankbench "$@"\n')

    def program(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def walk(self, guide):
        """Output of every block of a guide."""
        known = {"RANKBENCH_HOME": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "120", "HF_HOME": str(self.folder / "hf")}
        known["PATH"] = f"{self.folder / 'target/release'}:{os.environ['PATH']}"
        environment = {name: value for name, value in os.environ.items() if name != "GLUE_DIR"} | known
        outputs = []
        for block in blocks(guide):
            script = ["bash", "-euo", "pipefail", "-c", block.replace("/shared/", "shared/")]
            try:
                done = subprocess.run(script, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
            except subprocess.TimeoutExpired:
                self.fail(f"{guide}: no end after {SECONDS} s:\n{block}")
            self.assertEqual(done.returncode, 0, f"{guide}:\n{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
            outputs.append(done.stdout)
        return outputs

    def assert_there(self, *paths):
        for path in paths:
            self.assertTrue((self.folder / path).exists(), path)

    def test_every_guide_with_commands_is_walked(self):
        guides = {path.name for path in (ROOT / "docs/guide").glob("*.md") if blocks(path.name)}
        self.assertEqual(guides - {"your_method.md"}, set(WALKED))

    def test_ten_minutes(self):
        first, second = self.walk("ten_minutes.md")
        self.assertIn("Table 1: SYNTHETIC", first)
        self.assertIn("Method adalora: AdaLoRA", second)
        report = "results/quickstart/report"
        self.assert_there(*(f"{report}/{name}" for name in ["report.html", "table1.md", "table1.csv", "table1.tex", "results.csv"]))
        self.assert_there("results/mine/tensorboard")
        run = next((self.folder / "results/quickstart/runs").glob("rte-sora-*"))
        for name in ["run.toml", "steps.csv", "gates.csv", "predictions.csv", "adapter"]:
            self.assertTrue((run / name).exists(), name)

    def test_cola(self):
        outputs = self.walk("cola.md")
        self.assertIn("12 runs: 0 done, 12 left", outputs[0])
        self.assertRegex(outputs[0], r"\b2680\b", "steps of a run, as the guide says")
        self.assertIn("--backbone carried/backbones/all-MiniLM-L6-v2", outputs[1])
        self.assert_there("results/trial/report/report.html", "results/cola/report/one_task.tex", "results/cola/report/paired.md")
        for name in ["score_parameters", "training_curves", "final_ranks"]:
            self.assert_there(f"results/cola/report/figures/{name}.pdf")

    def test_cluster(self):
        outputs = self.walk("cluster.md")
        self.assertIn("backbone all-MiniLM-L6-v2", outputs[0])
        self.assertIn("1 runs are whole, 0 failed, 0 are unfinished, 0 do not agree", outputs[-1])

    def test_evidence(self):
        outputs = self.walk("evidence.md")
        self.assertIn("5 of 18 testable values are no mean.", outputs[0])
        self.assertTrue(any("Settings and origins that differ" in output for output in outputs))
        # The tables of committed numbers are printed in the guide as the program prints them.
        guide = (ROOT / "docs/guide/evidence.md").read_text()
        for output in [output for output in outputs if "results/published/" in output]:
            for line in output.splitlines():
                self.assertIn(line.rstrip(), guide)


if __name__ == "__main__":
    unittest.main()
