"""Copies a safetensors file, its float32 tensors as bfloat16 where that is asked for. Needs torch and nothing else."""

import ctypes
import json
import sys

import torch

source, target, dtype = sys.argv[1:]
with open(source, "rb") as file:
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    start = 8 + length
    tensors, offset = {}, 0
    for name, entry in sorted(header.items()):
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        kind = "BF16" if dtype == "bf16" and entry["dtype"] == "F32" else entry["dtype"]
        size = (end - begin) // 2 if kind != entry["dtype"] else end - begin
        tensors[name] = {"dtype": kind, "shape": entry["shape"], "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, entry in tensors.items():
            begin, end = header[name]["data_offsets"]
            file.seek(start + begin)
            data = file.read(end - begin)
            if entry["dtype"] != header[name]["dtype"]:
                values = torch.frombuffer(bytearray(data), dtype=torch.float32).to(torch.bfloat16)
                # The project's torch comes without numpy.
                data = ctypes.string_at(values.data_ptr(), 2 * values.numel())
            out.write(data)
