"""Milliseconds of the frozen products of a step alone, forward and to the input, by tokens: the floor of a step.

The products are cuBLAS's, in one CUDA graph on a GPU, on random values; query, key and value once as one product and once
as three, and the faster counts. Prints {"device", "ms": {tokens: ms}}.
"""

import argparse
import json
import platform
import statistics
import time

import torch
import transformers


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--tokens", type=lambda text: list(map(int, text.split(","))), required=True)
    given = parser.parse_args()
    config = transformers.AutoConfig.from_pretrained(given.model)
    dtype = torch.bfloat16 if given.precision == "bf16" else torch.float32
    values = dict(device=given.device, dtype=dtype)
    forms = [layers(config, shapes, values) for shapes in (joined, apart)]
    found = {tokens: min(timed(weights, tokens, values) for weights in forms) for tokens in given.tokens}
    device = torch.cuda.get_device_name() if given.device == "cuda" else platform.machine()
    print(json.dumps({"device": device, "ms": found}))


def joined(hidden, inner):
    return [(3 * hidden, hidden), (hidden, hidden), (inner, hidden), (hidden, inner)]


def apart(hidden, inner):
    return 3 * [(hidden, hidden)] + [(hidden, hidden), (inner, hidden), (hidden, inner)]


def layers(config, shapes, values):
    """The weights of all layers, (outputs, inputs) each."""
    found = shapes(config.hidden_size, config.intermediate_size) * config.num_hidden_layers
    return [torch.randn(shape, **values) for shape in found]


def timed(weights, tokens, values):
    lines = {size: torch.randn(tokens, size, **values) for size in {size for w in weights for size in w.shape}}

    def products():
        for w in weights:
            torch.mm(lines[w.shape[1]], w.T)
        for w in reversed(weights):
            torch.mm(lines[w.shape[0]], w)

    return 1000 * (replayed(products) if values["device"] == "cuda" else repeated(products))


def replayed(products, replays=30):
    """Median seconds of a replay of the recorded products."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        products()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        products()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(replays + 1)]
    for _ in range(5):
        graph.replay()
    for mark in marks:
        mark.record()
        graph.replay()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(marks, marks[1:])) / 1000


def repeated(products, times=5):
    seconds = []
    for _ in range(times + 1):
        started = time.perf_counter()
        products()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


main()
