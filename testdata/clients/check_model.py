#!/usr/bin/env python3
"""Reads saved models back in every way that clients do and compares each bit.

Takes the JSON that save_model.py or save_synthetic.py printed. Exits 0 when all
is equal; 1, naming file, tensor and way of reading, when something differs; any
other failure is a traceback.
"""

import argparse
import json
import mmap
import os
import pathlib
import random
import sys

from safetensors import safe_open
from safetensors.torch import load_file

from common import raw, sha256


class Different(Exception):
    """Some bytes are not what they must be."""


def same(got, want, what):
    """Raises Different unless both are equal."""
    if got != want:
        raise Different(what)


def check_bytes(path, expected, rng):
    """Compares the file's bytes, read in four ways."""
    same(path.stat().st_size, expected["bytes"], "size")
    data = path.read_bytes()
    same(sha256(data), expected["sha256"], "read")
    size = len(data)

    with open(path, "rb") as f:
        with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
            same(sha256(m), expected["sha256"], "mmap")
            for _ in range(100):
                at = rng.randrange(size)
                same(m[at : at + 333], data[at : at + 333], f"mmap at {at}")
        # Odd offsets and lengths, the ends, and past the end.
        spots = [(rng.randrange(size) | 1, rng.choice([1, 13, 4097, 131073])) for _ in range(200)]
        for at, n in spots + [(0, 1), (size - 1, 7), (size, 7), (size + 4097, 7)]:
            got = os.pread(f.fileno(), n, at)
            same(got, data[at : at + n], f"pread of {n} at {at}")
        # Small buffered reads, in sequence.
        f.seek(size // 3)
        same(f.read(100_003), data[size // 3 :][:100_003], "buffered read")


def check_tensors(path, expected, rng):
    """Compares each tensor, whole and in slices."""
    tensors = load_file(path)
    same(sorted(tensors), sorted(expected["tensors"]), "names")
    for name, tensor in tensors.items():
        same(sha256(raw(tensor)), expected["tensors"][name], f"load_file: {name}")

    with safe_open(path, framework="pt") as f:
        same(sorted(f.keys()), sorted(tensors), "safe_open: names")
        for name in rng.sample(sorted(tensors), len(tensors)):
            tensor = tensors[name]
            got = f.get_tensor(name)
            same((got.dtype, got.shape), (tensor.dtype, tensor.shape), f"get_tensor: dtype or shape of {name}")
            same(raw(got), raw(tensor), f"get_tensor: {name}")
            if tensor.dim() == 0:
                continue
            part = f.get_slice(name)
            rows = tensor.shape[0]
            a, b = sorted((rng.randint(0, rows), rng.randint(0, rows)))
            cuts = {"rows": slice(a, b), "one row": rng.randrange(rows), "a step": slice(None, None, 3)}
            if tensor.dim() == 2:
                c, d = sorted((rng.randint(0, tensor.shape[1]), rng.randint(0, tensor.shape[1])))
                cuts["columns"] = (slice(None), slice(c, d))
                cuts["both"] = (slice(a, b), slice(c, d))
                cuts["steps"] = (slice(a, b, 2), slice(c, d, 5))
            for how, cut in cuts.items():
                same(raw(part[cut]), raw(tensor[cut]), f"get_slice: {how} of {name}, {cut}")
    return len(tensors)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("dir", type=pathlib.Path, help="directory that holds the files")
    p.add_argument("checksums", type=pathlib.Path, help="JSON of a save script")
    p.add_argument("--seed", type=int, default=0, help="of the slices and offsets")
    args = p.parse_args()

    rng = random.Random(args.seed)
    for name, expected in json.loads(args.checksums.read_text())["files"].items():
        try:
            count = check_tensors(args.dir / name, expected, rng)
            check_bytes(args.dir / name, expected, rng)
        except Different as e:
            sys.exit(f"{name} differs: {e}")
        print(f"{name}: {count} tensors, {expected['bytes']} bytes, bit for bit")


if __name__ == "__main__":
    main()
