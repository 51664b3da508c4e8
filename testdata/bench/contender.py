#!/usr/bin/env python3
"""Measures one of the Python contenders on a file, in memory.

Prints JSON with the keys of mithrilfs bench --json, and exact: whether what was
decoded equals the file.
"""

import argparse
import concurrent.futures
import json
import os
import time
import warnings

DTYPES = {"bf16": ("bfloat16", 2), "fp16": ("float16", 2), "fp32": ("float32", 4)}


class ZipNN:
    """As its README has it for bytes: the type as a hint, the rest as it is.

    For bf16 and fp32 it regroups the bits of its input in place, so that every
    call needs a copy, which is made while the clock stands still.
    """

    def __init__(self, dtype):
        warnings.simplefilter("ignore")  # of torch, which it imports
        from zipnn import ZipNN

        self.make = lambda threads: ZipNN(bytearray_dtype=DTYPES[dtype][0], threads=threads)
        self.zipnn = None

    def threads(self, n):
        self.zipnn = self.make(n)

    def prepare(self, data):
        return bytes(memoryview(data))

    def encode(self, data):
        return self.zipnn.compress(data)

    def decode(self, encoded):
        return self.zipnn.decompress(encoded)

    def size(self, encoded):
        return len(encoded)

    def joined(self, decoded):
        return decoded


class Grouped:
    """Byte grouping and zstd -3: a stream for each byte of the elements.

    numpy regroups pieces of 8 MiB, libzstd codes each group; both let other
    threads run meanwhile.
    """

    PIECE = 8 << 20

    def __init__(self, dtype):
        import numpy
        import pyzstd

        self.np, self.zstd = numpy, pyzstd
        self.width = DTYPES[dtype][1]
        self.pool = None

    def threads(self, n):
        self.pool = concurrent.futures.ThreadPoolExecutor(n) if n > 1 else None

    def each(self, handle, pieces):
        return list((self.pool.map if self.pool else map)(handle, pieces))

    def prepare(self, data):
        data = memoryview(data)
        return [data[i : i + self.PIECE] for i in range(0, len(data), self.PIECE)]

    def encode_piece(self, piece):
        np, w = self.np, self.width
        n = len(piece) // w
        groups = np.ascontiguousarray(np.frombuffer(piece, np.uint8, n * w).reshape(n, w).T)
        return n, [self.zstd.compress(g, 3) for g in groups] + [bytes(piece[n * w :])]

    def decode_piece(self, encoded):
        np, w = self.np, self.width
        n, (*groups, tail) = encoded
        out = np.empty(n * w + len(tail), np.uint8)
        elements = out[: n * w].reshape(n, w)
        for k, g in enumerate(groups):
            elements[:, k] = np.frombuffer(self.zstd.decompress(g), np.uint8)
        out[n * w :] = np.frombuffer(tail, np.uint8)
        return out

    def encode(self, pieces):
        return self.each(self.encode_piece, pieces)

    def decode(self, encoded):
        return self.each(self.decode_piece, encoded)

    def size(self, encoded):
        return sum(len(part) for _, parts in encoded for part in parts)

    def joined(self, decoded):
        return b"".join(decoded)


def status(field):
    """A size in the kernel's description of this process."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith(field + ":"))


def watch_memory():
    """Resets the peak of the resident memory; returns what is resident."""
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass
    return status("VmRSS")


def fastest(least, prepare, run):
    """Repeats run(prepare()) for a time, and at least twice unless that takes long.

    Returns the fastest run's seconds and the last result.
    """
    best, spent, result, rounds = float("inf"), 0.0, None, 0
    while rounds == 0 or spent < least or (rounds < 2 and spent < 1):
        argument = prepare()
        result = None  # its memory serves the next run
        began = time.perf_counter()
        result = run(argument)
        took = time.perf_counter() - began
        del argument
        best, spent, rounds = min(best, took), spent + took, rounds + 1
    return best, result


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--time", type=float, default=0.5, help="seconds that each measurement is repeated at least")
    p.add_argument("contender", choices=["zipnn", "grouped"])
    p.add_argument("dtype", choices=DTYPES)
    p.add_argument("file")
    args = p.parse_args()

    with open(args.file, "rb") as f:
        data = f.read()
    contender = {"zipnn": ZipNN, "grouped": Grouped}[args.contender](args.dtype)
    everyone = len(os.sched_getaffinity(0))
    memory = 0
    speeds, exact = [], True
    for n in sorted({1, everyone}):
        contender.threads(n)
        kept = contender.prepare(data)  # counts as input
        before = watch_memory()
        kept = None
        encode, encoded = fastest(args.time, lambda: contender.prepare(data), contender.encode)
        decode, decoded = fastest(args.time, lambda: encoded, contender.decode)
        memory = max(memory, status("VmHWM") - before)
        exact = exact and contender.joined(decoded) == data
        decoded = None
        size = contender.size(encoded)
        encoded = None
        speeds.append(
            {
                "threads": n,
                "encode_bytes_per_second": len(data) / encode,
                "decode_bytes_per_second": len(data) / decode,
            }
        )
    print(
        json.dumps(
            {
                "logical_bytes": len(data),
                "encoded_bytes": size,
                "memory_bytes": memory,
                "exact": exact,
                "threads": speeds,
            }
        )
    )


if __name__ == "__main__":
    main()
