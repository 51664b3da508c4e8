"""What make bench-series compares with: how small others make a checkpoint, given
the one after it; and what is in the difference at all."""

import concurrent.futures
import os
import subprocess

import numpy
import pyzstd

PATCH = ["-3", "--long=28"]  # a window that reaches over the largest file


def planes_size(data, width):
    """Byte planes, each by zstd -1."""
    whole = len(data) // width * width
    planes = [data[i:whole:width] for i in range(width)] + [data[whole:]]
    return sum(len(pyzstd.compress(p.tobytes(), 1)) for p in planes)


def alone(path, width):
    """The size of a file by itself."""
    return planes_size(numpy.fromfile(path, numpy.uint8), width)


def exclusive(path, base, width):
    """The size of the byte planes of the exclusive or of two files: what BitX does."""
    a, b = numpy.fromfile(path, numpy.uint8), numpy.fromfile(base, numpy.uint8)
    if len(a) != len(b):
        return planes_size(a, width)
    return planes_size(a ^ b, width)


def zstd_size(*args):
    """How much the program zstd writes."""
    n = 0
    with subprocess.Popen(["zstd", "-q", "-c", "-T1", *map(str, args)], stdout=subprocess.PIPE) as p:
        while piece := p.stdout.read(1 << 20):
            n += len(piece)
    if p.returncode:
        raise subprocess.CalledProcessError(p.returncode, p.args)
    return n


def patch(path, base):
    return zstd_size(*PATCH, f"--patch-from={base}", path)


def measure(chain, width):
    """The sizes of a chain of files, oldest first, each given the one after it but
    for the newest, which is by itself: exclusive, then patches."""
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        xor = [pool.submit(exclusive, a, b, width) for a, b in zip(chain, chain[1:])] + [pool.submit(alone, chain[-1], width)]
        patches = [pool.submit(patch, a, b) for a, b in zip(chain, chain[1:])] + [pool.submit(zstd_size, *PATCH, chain[-1])]
        return [f.result() for f in xor], [f.result() for f in patches]


# Bits of a type, of its exponent and of its mantissa.
FLOATS = {"bf16": (16, 8, 7), "fp16": (16, 5, 10), "fp32": (32, 8, 23)}


def difference_bits(path, base, dtype):
    """Bits a weight of the plain difference: of its magnitude's class and its sign,
    given the base's exponent, and of what is in the class, as if it were noise. The
    files' headers count as weights."""
    bits, exponent, mantissa = FLOATS[dtype]
    kind = {16: numpy.uint16, 32: numpy.uint32}[bits]
    a, b = numpy.fromfile(path, numpy.uint8), numpy.fromfile(base, numpy.uint8)
    n = min(len(a), len(b)) // (bits // 8) * (bits // 8)
    a, b = a[:n].view(kind), b[:n].view(kind)
    d = ordinal(a, bits) - ordinal(b, bits)
    classes = numpy.frexp(numpy.abs(d).astype(numpy.float64))[1].astype(numpy.int64)  # 0 for 0, k for 2^(k-1) ..
    inside = numpy.maximum(classes - 1, 0).sum() / len(d)
    signed = numpy.where(d < 0, 2 * classes + 1, 2 * classes)
    of = ((b >> mantissa) & ((1 << exponent) - 1)).astype(numpy.int64)
    counts = numpy.bincount(of << 7 | signed, minlength=1 << (exponent + 7)).reshape(-1, 128)
    return inside + conditional_entropy(counts)


def ordinal(u, bits):
    """Floats' bits as integers of the floats' order."""
    u = u.astype(numpy.int64)
    half = 1 << (bits - 1)
    return numpy.where(u & half, (1 << bits) - 1 - u, u | half)


def conditional_entropy(counts):
    """Of the columns given the rows."""

    def weigh(c):
        c = c[c > 0].astype(numpy.float64)
        return (c * numpy.log2(c)).sum()

    return (weigh(counts.sum(axis=1)) - weigh(counts)) / counts.sum()
