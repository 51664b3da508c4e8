#!/usr/bin/env python3
"""Makes the files that make bench measures, those that are not there yet."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
from safetensors.torch import load_file, save_file

CLIENTS = pathlib.Path(__file__).resolve().parents[1] / "clients"
METADATA = {"format": "pt"}


def client(*args):
    subprocess.run([sys.executable, *map(str, args)], check=True, stdout=subprocess.DEVNULL)


def minilm(dtype):
    def make(file):
        client(CLIENTS / "save_model.py", file.parent, "--dtypes", dtype)
        os.rename(file.parent / f"minilm-{dtype}.safetensors", file)

    return make


def widened(file):
    """bf16 values, stored as fp32."""
    part = file.parent / "minilm-bf16.safetensors"
    client(CLIENTS / "save_model.py", file.parent, "--dtypes", "bf16")
    tensors = {k: t.float() if t.is_floating_point() else t for k, t in load_file(part).items()}
    save_file(tensors, file, metadata=METADATA)


def synthetic(nbytes):
    return lambda file: client(CLIENTS / "save_synthetic.py", file, "--bytes", nbytes)


def noise(nbytes):
    return numpy.random.default_rng(1).integers(0, 1 << 64, nbytes // 8, dtype=numpy.uint64)


def random_bf16(file):
    """Tensors of which every bit is random: of a float's type, without its regularity."""
    bits = torch.from_numpy(noise(64_000_000).view(numpy.int16)).view(torch.bfloat16)
    save_file({f"weight.{i}": t for i, t in enumerate(bits.reshape(8, 1000, -1).clone())}, file, metadata=METADATA)


def random_bytes(file):
    noise(64_000_000).tofile(file)


MAKERS = {
    "minilm-bf16.safetensors": minilm("bf16"),
    "minilm-fp16.safetensors": minilm("fp16"),
    "minilm-fp32.safetensors": minilm("fp32"),
    "synthetic-500MB.safetensors": synthetic(500_000_000),
    "synthetic-64MB.safetensors": synthetic(64_000_000),
    "minilm-bf16-as-fp32.safetensors": widened,
    "random-bf16.safetensors": random_bf16,
    "random.bin": random_bytes,
}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("dir", type=pathlib.Path)
    p.add_argument("files", nargs="+", choices=MAKERS)
    args = p.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    for name in args.files:
        if (args.dir / name).exists():
            continue
        print(f"bench: making {name}", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=args.dir) as tmp:
            file = pathlib.Path(tmp, "new-" + name)
            MAKERS[name](file)
            os.rename(file, args.dir / name)


if __name__ == "__main__":
    main()
