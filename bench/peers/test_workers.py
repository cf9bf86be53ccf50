"""Tests of workers.py with a process that stands in for peer.py: `python -m unittest discover bench/peers`."""

import tempfile
import time
import unittest
from pathlib import Path

import workers

# Answers {"do": "round"} as peer.py does; hangs, ends or fails where it is asked to.
STAND_IN = """
import json, os, sys, time
for line in sys.stdin:
    given = json.loads(line)
    if given["do"] == "hang": time.sleep(60)
    if given["do"] == "end": sys.exit("no memory")
    if given["do"] == "fail": print(json.dumps({"error": "no kernel"}), flush=True); continue
    if gate := given.get("gate"):
        print(json.dumps({"is_waiting": True}), flush=True)
        while not os.path.exists(gate): time.sleep(0.001)
    started = time.monotonic()
    time.sleep(given["sleep"])
    print(json.dumps({"seconds": 1.0, "started": started, "ended": time.monotonic(), "reserved_mib": 5.0}), flush=True)
"""


class Workers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        stand_in = Path(folder.name) / "stand_in.py"
        stand_in.write_text(STAND_IN)
        self.addCleanup(setattr, workers, "PEER", workers.PEER)
        workers.PEER = stand_in

    def test_a_hanging_process_is_ended_and_the_next_goes_on(self):
        with workers.team("ab") as team:
            self.assertIn("no answer in time", team["a"].ask({"do": "hang"}, time.monotonic() + 0.3)["error"])
            self.assertIsNotNone(team["a"].process.poll())
            self.assertEqual(team["b"].ask({"do": "round", "sleep": 0}, time.monotonic() + 20)["seconds"], 1.0)

    def test_an_ended_process_says_its_last_words(self):
        with workers.team("a") as team:
            self.assertIn("no memory", team["a"].ask({"do": "end"}, time.monotonic() + 20)["error"])
            self.assertIn("no memory", team["a"].ask({"do": "round"}, time.monotonic() + 20)["error"])

    def test_a_failure_is_its_text(self):
        with workers.team("a") as team:
            self.assertEqual(team["a"].ask({"do": "fail"}, time.monotonic() + 20), {"error": "no kernel"})

    def test_together_divides_the_wall_time_by_steps_and_processes(self):
        command = {"do": "round", "steps": 4, "sleep": 0.4}
        with workers.team("ab") as team:
            found = workers.together(list(team.values()), command, time.monotonic() + 20)
        self.assertTrue(0.4 / 8 <= found["seconds"] < 0.7 / 8, found)
        self.assertEqual(found["reserved_mib"], 5.0)

    def test_together_fails_with_one_of_them(self):
        with workers.team("ab") as team:
            team["b"].ask({"do": "fail"}, time.monotonic() + 20)
            found = workers.together(list(team.values()), {"do": "round", "steps": 1, "sleep": 0}, time.monotonic() + 20)
            self.assertEqual(found, {"error": "no kernel"})
            # The other one does not wait for a start that never comes.
            self.assertEqual(team["a"].ask({"do": "round"}, time.monotonic() + 20), {"error": "no kernel"})


if __name__ == "__main__":
    unittest.main()
