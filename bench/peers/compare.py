"""`just compare-peers`: a training step of ours beside the strongest set-ups a Python user has, and the products' floor.

Same backbone (DeBERTaV3-base with random weights, unless --backbone names another), batch and length, in one run on one
device. On a CPU both sides follow OMP_NUM_THREADS. The set-ups are those of setups.py, each with LoRA and AdaLoRA of PEFT and
SoRA in its authors' form, and `processes`: several eager processes at once on one GPU, of which a step costs the wall time
over their number.

A process is made for each set-up and method; then they take turns, round by round, while the others wait. OUT gets, as it goes,

peers.csv        a row for each precision, batch, length and method: ours, each set-up (its time or why it has none: _error),
                 the strongest of them, and how often our step goes into its (ratio). _mib is what the allocator reserved at
                 most, _allocated_mib what was in use, of one run alone (of `processes`: of one of them); on a CPU _mib is
                 resident memory
peer_rounds.csv  device,precision,batch,length,setup,method,round,seconds_per_step: one set-up's mean step of one round. In a
                 round every set-up and method has had its turn, so that ratios within a round can be compared
floor.csv        the frozen products alone, forward and to the input, by tokens
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from common import METHODS, ROOT, backbone, names, ours, plot, shapes, write
from rows import columns, over_floor, strongest, summary, table, unfused
from workers import team, together

# Batch and length of the steps.
SHAPES = {"cuda": "8x128,32x128,32x32", "cpu": "32x128"}
# Flags of ours by the name of its columns; graphs and kernels are a GPU's.
VARIANTS = {"ours": [], "ours_no_graphs": ["--graphs", "off"], "ours_no_kernels": ["--kernels", "plain"]}
# The rest of setups.py needs a GPU, and several processes gain nothing without one.
SETUPS = {
    "cuda": "eager,compile,compile-graphs,disentangled-flash,disentangled-flash-compile,flashdeberta,processes",
    "cpu": "eager,compile",
}


def main():
    parser = argparse.ArgumentParser(prog="just compare-peers", description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--backbone", type=Path, metavar="DIR", help="a Hugging Face directory both sides can read")
    parser.add_argument("--precisions", type=names, default="bf16,fp32")
    parser.add_argument("--peer-precision", choices=["bf16", "fp32"], help="the peers' (default: the same as ours)")
    parser.add_argument("--shapes", type=shapes, help="batch x length, e.g. 8x128,32x128")
    parser.add_argument("--steps", type=int, default=16, help="of a round")
    parser.add_argument("--peer-steps", type=int, help="of a round of the peers (default: as many)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", type=names, default=",".join(METHODS))
    parser.add_argument("--setups", type=names, help="of the peers (default: all that run on the device)")
    parser.add_argument("--processes", type=int, default=10, help="how many make the set-up `processes`")
    parser.add_argument("--variants", type=names, help="of ours: " + ",".join(VARIANTS))
    parser.add_argument("--floor-tokens", type=names, default=[], help="further tokens of a step to give the floor of")
    parser.add_argument("--timeout", type=float, default=900, help="seconds until a set-up that says nothing is ended")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no further round starts")
    parser.add_argument("--out", type=Path, default=ROOT / "results/peers")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="only draw OUT/peers.csv")
    given = parser.parse_args()
    if given.plot:
        return plot("peers", given.plot)
    if unknown := set(given.setups or []) - set(names(SETUPS["cuda"])):
        parser.error(f"unknown set-ups: {', '.join(sorted(unknown))}; known: {SETUPS['cuda']}")
    given.shapes = given.shapes or shapes(SHAPES[given.device])
    given.setups = given.setups or names(SETUPS[given.device])
    given.variants = given.variants or (list(VARIANTS) if given.device == "cuda" else ["ours"])
    given.until = time.monotonic() + given.budget
    given.out.mkdir(parents=True, exist_ok=True)
    rows, rounds = [], []
    with backbone(given.backbone) as model:
        floor = floors(model, given)
        for precision, (batch, length) in itertools.product(given.precisions, given.shapes):
            setting = {"precision": precision, "batch": batch, "length": length}
            if time.monotonic() > given.until:
                say(f"{setting}: not measured, the time is up")
                continue
            for row in compared(model, setting, floor.get((precision, batch * length), {}), rounds, given):
                rows.append(row)
                print(json.dumps(row), flush=True)
                write(given.out / "peers.csv", rows)
    print(table(rows, given.setups), *unfused(rounds), sep="\n")
    plot("peers", given.out)


def say(text):
    print(text, file=sys.stderr, flush=True)


def floors(model, given):
    """{"floor_ms"} by precision and tokens. In float32 there is none on a GPU: ours makes its products of float16 ones."""
    tokens = [batch * length for batch, length in given.shapes] + list(map(int, given.floor_tokens))
    found, rows = {}, []
    for precision in given.precisions:
        if precision not in ("bf16", "fp32") or (given.device == "cuda" and precision != "bf16"):
            continue
        flags = ["--model", model, "--device", given.device, "--precision", precision, "--tokens", ",".join(map(str, tokens))]
        command = [sys.executable, Path(__file__).with_name("floor.py"), *flags]
        try:
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=given.timeout, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            say(f"floor, {precision}: {error}: {str(error.stderr)[-600:]}")
            found |= {(precision, n): {"floor_error": f"{error}"} for n in tokens}
            continue
        answer = json.loads(done.stdout)
        for n, ms in answer["ms"].items():
            found[precision, int(n)] = {"floor_ms": round(ms, 3)}
            row = {"backbone": model.name, "device": answer["device"], "precision": precision}
            rows.append(row | {"tokens": n, "ms": round(ms, 3)})
            say(f"floor, {precision}, {n} tokens: {ms:.3f} ms")
        write(given.out / "floor.csv", rows)
    return found


def compared(model, setting, floor, rounds, given):
    """A row for each method."""
    where = (setting["batch"], setting["length"], given)
    say(f"{setting}: ours")
    mine = {who: ours(model, given.device, setting["precision"], *where, VARIANTS[who], given.methods) for who in given.variants}
    peer_precision = given.peer_precision or setting["precision"]
    known = [runs[method]["device"] for runs in mine.values() for method in given.methods if method in runs]
    theirs = Peers(model, setting | {"precision": peer_precision}, known, rounds, given).measured()
    for method in given.methods:
        row = {"backbone": model.name, "device": theirs.device, "precision": setting["precision"]}
        row |= {"peer_precision": peer_precision} | setting | {"method": method} | floor
        for who, runs in mine.items():
            row |= columns(who, runs.get(method, runs), setting["batch"] * setting["length"])
        for setup in given.setups:
            row |= columns(setup, summary(theirs.found[setup, method]), setting["batch"] * setting["length"])
        if "processes" in given.setups:
            row["processes"] = given.processes
        yield row | strongest(row, given.setups) | over_floor(row)


class Peers:
    """The set-ups in one setting: their rounds by set-up and method."""

    def __init__(self, model, setting, known, rounds, given):
        self.given, self.setting, self.rounds = given, setting, rounds
        # The same name as in our rows.
        self.device = known[0] if known else given.device
        self.batch = setting | {"model": str(model), "device": given.device, "warm": 3}
        self.round = {"do": "round", "warm": 2, "steps": given.peer_steps or given.steps}
        self.found = {key: [] for key in itertools.product(given.setups, given.methods)}

    def measured(self):
        alone = [key for key in self.found if key[0] != "processes"]
        compiled = [key for key in alone if "compile" in key[0]]
        cores = max(1, (os.cpu_count() or 1) // max(1, len(compiled)))
        # All are started at once: importing takes long. The group waits until the others are gone.
        group = range(self.given.processes if "processes" in self.given.setups else 0)
        try:
            with team(group) as others:
                with team(alone, cores) as workers:
                    self.prepare(workers, compiled)
                    for number in self.numbers():
                        for key, worker in workers.items():
                            self.keep(key, number, worker.ask(self.round, self.soon()))
                if others:
                    self.at_once(list(others.values()))
        except KeyboardInterrupt:
            say(f"{self.setting}: interrupted; what was measured is kept")
            self.given.until = 0
        return self

    def prepare(self, workers, compiled):
        """Builds all: the compiled ones at once, which takes minutes, meanwhile the others one after another."""
        for key in compiled:
            workers[key].send(self.build(*key))
        until = self.soon()
        for key in (key for key in workers if key not in compiled):
            self.ready(key, workers[key].ask(self.build(*key), self.soon()))
        for key in compiled:
            self.ready(key, workers[key].answer(until))

    def at_once(self, workers):
        for method in self.given.methods:
            build, until = self.build("eager", method), self.soon()
            for worker in workers:
                worker.send(build)
            answers = [worker.answer(until) for worker in workers]
            self.ready(("processes", method), next((found for found in answers if "error" in found), answers[0]))
            for number in self.numbers():
                found = together(workers, self.round, self.soon())
                self.keep(("processes", method), number, found)
                if "error" in found:
                    break
            for worker in workers:
                worker.ask({"do": "drop"}, self.soon())

    def build(self, setup, method):
        return self.batch | {"do": "build", "setup": setup, "method": method}

    def soon(self):
        return time.monotonic() + self.given.timeout

    def numbers(self):
        """The rounds for which there is time."""
        for number in range(1, self.given.rounds + 1):
            if time.monotonic() > self.given.until:
                say(f"{self.setting}: the time is up after {number - 1} rounds")
                return
            yield number

    def ready(self, key, answer):
        say(f"{self.setting}: {' '.join(key)} {answer.get('error', 'is ready')}")

    def keep(self, key, number, found):
        setup, method = key
        self.found[key].append(found)
        if "error" in found:
            return
        row = {"device": self.device} | self.setting | {"setup": setup, "method": method, "round": number}
        self.rounds.append(row | {"seconds_per_step": round(found["seconds"], 6)})
        write(self.given.out / "peer_rounds.csv", self.rounds)
        say(f"{self.setting}: round {number}, {setup} {method}: {1000 * found['seconds']:.1f} ms")


main()
