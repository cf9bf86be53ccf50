"""Tests of rows.py, and of the summary of common.py: `python -m unittest discover bench/peers`."""

import unittest

import common
import rows


def rounds(*seconds, **memory):
    return [{"seconds": s} | (memory or {"reserved_mib": 100.0, "allocated_mib": 80.0}) for s in seconds]


def timing(setup, method, number, seconds):
    setting = {"device": "d", "precision": "bf16", "batch": 8, "length": 128}
    return setting | {"setup": setup, "method": method, "round": number, "seconds_per_step": seconds}


class Summary(unittest.TestCase):
    def test_is_the_median_of_the_rounds_and_the_most_memory(self):
        found = rows.summary(rounds(0.03, 0.01, 0.02) + rounds(0.02, reserved_mib=200.0, allocated_mib=90.0))
        self.assertEqual(found["seconds"], 0.02)
        self.assertEqual((found["peak_mib"], found["allocated_mib"]), (200.0, 90.0))

    def test_is_of_resident_memory_on_a_cpu(self):
        self.assertEqual(rows.summary(rounds(0.01, resident_mib=7.0))["peak_mib"], 7.0)

    def test_a_failed_round_fails_the_set_up(self):
        self.assertEqual(rows.summary(rounds(0.01) + [{"error": "out of memory"}]), {"error": "out of memory"})

    def test_no_round_is_an_error(self):
        self.assertIn("--budget", rows.summary([])["error"])


class Columns(unittest.TestCase):
    def test_a_failure_is_a_column_of_its_own(self):
        self.assertEqual(rows.columns("compile", {"error": "no"}, 1024), {"compile_error": "no"})

    def test_time_tokens_and_memory(self):
        found = rows.columns("eager", rows.summary(rounds(0.1)), 1024)
        expected = {"eager_ms": 100.0, "eager_tokens_s": 10240, "eager_mib": 100, "eager_allocated_mib": 80}
        self.assertEqual(found, expected)


class Strongest(unittest.TestCase):
    ROW = {"ours_ms": 4.0, "eager_ms": 80.0, "eager_mib": 9, "compile_ms": 20.0, "compile_mib": 8, "flashdeberta_error": "no"}

    def test_is_the_fastest_that_ran(self):
        found = rows.strongest(self.ROW, ["eager", "compile", "flashdeberta"])
        self.assertEqual(found, {"strongest": "compile", "strongest_ms": 20.0, "strongest_mib": 8, "ratio": 5.0})

    def test_is_named_where_ours_failed(self):
        row = {name: value for name, value in self.ROW.items() if name != "ours_ms"} | {"ours_error": "no"}
        self.assertNotIn("ratio", rows.strongest(row, ["eager"]))
        self.assertEqual(rows.strongest(row, ["eager"])["strongest"], "eager")

    def test_is_nothing_where_all_failed(self):
        self.assertEqual(rows.strongest(self.ROW, ["flashdeberta"]), {})


class Unfused(unittest.TestCase):
    def test_compares_sora_and_adalora_of_one_round(self):
        found = [timing("eager", "adalora", 1, 0.2), timing("eager", "sora", 1, 0.1)]
        found += [timing("eager", "adalora", 2, 0.4), timing("eager", "sora", 2, 0.3)]
        # Neither of another set-up nor without a partner.
        found += [timing("compile", "sora", 1, 9.0), timing("eager", "sora", 3, 9.0)]
        (line,) = rows.unfused(found)
        self.assertIn("bf16, 8 × 128: 0.625 (0.500 to 0.750 in 2 rounds)", line)


class Table(unittest.TestCase):
    def test_says_failed_and_absent(self):
        row = Strongest.ROW | {"precision": "bf16", "peer_precision": "bf16", "batch": 8, "length": 128, "method": "lora"}
        last = rows.table([row], ["eager", "flashdeberta"]).splitlines()[-1]
        self.assertEqual(last, "| bf16 | 8 × 128 | lora | - | 4.0 | 80.0 | failed | - | - | - | - |")


class Ours(unittest.TestCase):
    def test_memory_is_reserved_or_else_resident(self):
        timings = [{"seconds": "2", "steps": "4", "device": "d", "peak_reserved_mib": "10", "peak_allocated_mib": "8"}]
        found = common.summary(timings)
        self.assertEqual((found["seconds"], found["peak_mib"], found["allocated_mib"]), (0.5, 10.0, 8.0))
        on_cpu = [{"seconds": "2", "steps": "4", "device": "d", "peak_resident_mib": "7"}]
        self.assertEqual(common.summary(on_cpu)["peak_mib"], 7.0)


if __name__ == "__main__":
    unittest.main()
