"""One process of a peer: reads commands, a JSON object a line, and answers each with one.

{"do": "build", "setup", "method", "model", "device", "precision", "batch", "length", "warm"} -> {"device"}
{"do": "round", "warm", "steps", "gate"} -> {"seconds", "started", "ended", "allocated_mib", "reserved_mib"}
{"do": "drop"} -> {}: gives the model's memory back

With a "gate" the process answers {"is_waiting": true} after its warm-up and starts once that file is there.
"""

import gc
import json
import os
import platform
import resource
import sys
import time
import traceback
from pathlib import Path

# Answers alone go to stdout; libraries print to it, too.
ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import torch

import setups


class Server:
    def __init__(self):
        self.run = None

    def build(self, given):
        self.run = setups.Run(given)
        for _ in range(given["warm"]):
            self.run.step()
        settle()
        is_cuda = given["device"] == "cuda"
        return {"device": torch.cuda.get_device_name() if is_cuda else platform.machine()}

    def round(self, given):
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        for _ in range(given["warm"]):
            self.run.step()
        synchronize()
        if gate := given.get("gate"):
            say({"is_waiting": True})
            wait_for(Path(gate))
        started = time.monotonic()
        for _ in range(given["steps"]):
            self.run.step()
        synchronize()
        ended = time.monotonic()
        found = {"seconds": (ended - started) / given["steps"], "started": started, "ended": ended} | memory()
        settle()
        return found

    def drop(self, _):
        self.run = None
        gc.collect()
        settle()
        return {}


def synchronize():
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def settle():
    """Leaves the GPU to the next process."""
    synchronize()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def memory():
    """MiB of this process at most."""
    if not torch.cuda.is_initialized():
        return {"resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    found = {"allocated_mib": torch.cuda.max_memory_allocated(), "reserved_mib": torch.cuda.max_memory_reserved()}
    return {name: size / 2**20 for name, size in found.items()}


def wait_for(file, limit=120):
    until = time.monotonic() + limit
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"the others were not ready within {limit} s")
        time.sleep(0.0005)


def say(answer):
    ANSWERS.write(json.dumps(answer) + "\n")


def main():
    server = Server()
    for line in sys.stdin:
        given = json.loads(line)
        try:
            say(getattr(server, given.pop("do"))(given))
        except Exception as error:
            traceback.print_exc()
            say({"error": f"{type(error).__name__}: {error}".strip()[-600:]})


main()
