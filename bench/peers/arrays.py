"""Reads and writes safetensors files of float32 arrays, with numpy alone, and without a second copy in memory."""
import json
import struct

import numpy as np


def read(path):
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        out = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] != "F32":
                raise ValueError(f"{path}: {name} is {entry['dtype']}, want F32")
            start, end = entry["data_offsets"]
            f.seek(8 + size + start)
            out[name] = np.fromfile(f, np.float32, (end - start) // 4).reshape(entry["shape"])
        return out


def write(path, arrays):
    header, at = {}, 0
    for name in sorted(arrays):
        header[name] = {"dtype": "F32", "shape": list(arrays[name].shape), "data_offsets": [at, at + 4 * arrays[name].size]}
        at += 4 * arrays[name].size
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(arrays):
            f.write(np.ascontiguousarray(arrays[name], np.float32).tobytes())
