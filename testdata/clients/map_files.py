#!/usr/bin/env python3
"""Writes and reads files through mappings, with numpy.memmap and mmap.

    map_files.py DIR   prints the checksum of each file that it leaves there
"""

import hashlib
import mmap
import os
import pathlib
import sys

import numpy


def memmap(file):
    """As accelerate offloads weights."""
    rng = numpy.random.default_rng(1)
    want = rng.standard_normal((700, 1000), dtype=numpy.float32) * 0.02
    a = numpy.memmap(file, dtype=numpy.float32, mode="w+", shape=want.shape)
    a[:] = want
    a.flush()
    a[10:20] += 1
    want[10:20] += 1
    del a
    b = numpy.memmap(file, dtype=numpy.float32, mode="r", shape=want.shape)
    assert (b == want).all()
    c = numpy.memmap(file, dtype=numpy.float32, mode="r+", shape=want.shape)
    c[::7, 3] = 5
    want[::7, 3] = 5
    assert (b == want).all(), "a mapping does not see what another one stored"
    del b, c
    copy = numpy.memmap(file, dtype=numpy.float32, mode="c", shape=want.shape)
    copy[:] = 0
    assert (numpy.fromfile(file, numpy.float32).reshape(want.shape) == want).all()


def closed(file):
    """Stores after the descriptor was closed."""
    with open(file, "wb") as f:
        f.write(bytes(1_000_003))
    with open(file, "r+b") as f:
        m = mmap.mmap(f.fileno(), 0)
    for at in range(0, 1_000_000, 5000):
        m[at:at + 9] = b"% 9d" % at
    assert pathlib.Path(file).read_bytes() == m[:]
    m.close()


def resized(file):
    """Grows and shrinks what is mapped."""
    with open(file, "w+b") as f:
        f.truncate(100_000)
        m = mmap.mmap(f.fileno(), 0)
        m[99_000:] = b"a" * 1000
        m.resize(400_000)
        m[300_000:] = b"b" * 100_000
        m.flush()
        f.seek(299_990)
        assert f.read(20) == bytes(10) + b"b" * 10
        f.seek(250_000)
        f.write(b"written")
        f.flush()
        assert m.find(b"written") == 250_000, "a mapping does not see what was written"
        m.resize(350_000)
        m.close()
        assert os.fstat(f.fileno()).st_size == 350_000


def main():
    directory = pathlib.Path(sys.argv[1])
    for make in memmap, closed, resized:
        file = directory / make.__name__
        make(str(file))
        print(make.__name__, hashlib.sha256(file.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
