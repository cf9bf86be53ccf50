"""Tests of a run of ours (common.py): `python3 -m unittest discover bench/peers`."""

import types
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import common

GIVEN = types.SimpleNamespace(steps=1, rounds=1, timeout=10)


class Ours(unittest.TestCase):
    def run_of(self, script):
        with TemporaryDirectory() as folder:
            program = Path(folder) / "rankbench"
            program.write_text("#!/bin/sh\n" + script)
            program.chmod(0o755)
            with mock.patch.object(common, "RANKBENCH", program):
                return common.ours("model", "cpu", "fp32", 1, 8, GIVEN)

    def test_a_run_that_fails_has_its_message(self):
        self.assertEqual(self.run_of("echo no room >&2; exit 3"), {"error": "no room"})


if __name__ == "__main__":
    unittest.main()
