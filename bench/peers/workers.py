"""Processes of peer.py: each is asked for one thing at a time, and is ended where it gives no answer in time."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEER = Path(__file__).with_name("peer.py")


class Worker:
    """A process of its own session; `error` says why it can be asked no more."""

    def __init__(self, cores=None):
        self.error, self.answers, self.log = None, b"", tempfile.TemporaryFile()
        # Without notes of loading: what a process writes at its end is read.
        environment = os.environ | {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        if cores:
            environment["TORCHINDUCTOR_COMPILE_THREADS"] = str(cores)
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.process = subprocess.Popen([sys.executable, PEER], env=environment, start_new_session=True, **pipes)

    def send(self, command):
        if self.error:
            return
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self, until):
        """The next answer, or {"error": why} where there is none before `until` (of the monotonic clock)."""
        if self.error:
            return {"error": self.error}
        while b"\n" not in self.answers:
            wait = max(0.0, until - time.monotonic())
            is_ready, _, _ = select.select([self.process.stdout], [], [], wait)
            part = os.read(self.process.stdout.fileno(), 65536) if is_ready else b""
            if not part:
                return self.fail("the process ended") if is_ready else self.fail("no answer in time", with_log=False)
            self.answers += part
        line, _, self.answers = self.answers.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            self.fail(answer["error"], with_log=False)
        return answer

    def ask(self, command, until):
        self.send(command)
        return self.answer(until)

    def fail(self, why, with_log=True):
        self.close()
        self.error = why
        if with_log:
            self.log.seek(0)
            last = self.log.read()[-400:].decode(errors="replace").strip()
            self.error = f"{why}: {last}" if last else why
        return {"error": self.error}

    def close(self):
        """Ends the process and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextlib.contextmanager
def team(keys, cores=None):
    """A worker for each key, ended at the end."""
    found = {key: Worker(cores) for key in keys}
    try:
        yield found
    finally:
        for worker in found.values():
            worker.close()


def together(workers, command, until):
    """One round of all `workers` at once, from a common start: seconds of the card a step of one run.

    One that fails ends all: the others would wait for the start.
    """
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder) / "start"
        for worker in workers:
            worker.send(command | {"gate": str(gate)})
        found = [worker.answer(until) for worker in workers]
        if all("error" not in answer for answer in found):
            gate.touch()
            found = [worker.answer(until) for worker in workers]
    if failed := [answer["error"] for answer in found if "error" in answer]:
        for worker in workers:
            worker.fail(failed[0], with_log=False)
        return {"error": failed[0]}
    wall = max(answer["ended"] for answer in found) - min(answer["started"] for answer in found)
    memory = {name: max(answer[name] for answer in found) for name in found[0] if name.endswith("_mib")}
    return {"seconds": wall / command["steps"] / len(workers)} | memory
