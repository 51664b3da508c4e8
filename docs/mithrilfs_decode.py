#!/usr/bin/env python3
"""Writes the bytes of the file that a mithrilfs container holds.

The reference decoder: it follows format.md and delta-frames.md, the sections of
which it names, and nothing else. It replays the whole log and compares each index
with what it got. Content is checked where it provides bytes of the file, one frame
at a time. So this is the slow and careful way to read; opening by the index alone is
quicker. Delta frames take a few seconds for each MiB and each base behind it.

The bases of a dependent are looked for in --bases, or in .mithrilfs/bases of every
directory above the container.

Exit status: 0 all is well; 1 damaged, or a base is missing; 2 not a container, or one
of an unknown version; 3 never sealed: what was written is a whole prefix of the log.
Bytes that are not known to be right are never written: output ends before them.
"""

import argparse
import importlib
import os
import sys
from array import array
from bisect import bisect_left
from contextlib import ExitStack, closing
from math import frexp, inf as INFINITY
from struct import calcsize, error, iter_unpack, pack, unpack, unpack_from

try:
    from xxhash import xxh64_intdigest as xxh64
except ImportError:
    sys.exit("mithrilfs_decode needs xxhash: pip install xxhash")
for name in ("compression.zstd", "backports.zstd", "pyzstd", "zstandard"):
    try:
        zstd = importlib.import_module(name)
        break
    except ImportError:
        pass
else:
    sys.exit("mithrilfs_decode needs zstd: Python 3.14, or pip install pyzstd, or pip install zstandard")

RECORD, SEEK_TABLE, SEEK_FOOTER = 0x184D2A5D, 0x184D2A5E, 0x8F92EAB1
HEADER = pack("<II", RECORD, 248) + b"mithrilF"
FRAME, SIZE, GENERATION = "<12xI16sQIIBBB5xQ", "<12xI16sQ", "<16x16s16s"  # less the checksum at the end
BASES, BASE, SEGMENT = "<12xI16sII", "<16sQ", "<QQQBBB5x"
INDEX, EXTENT, TENSOR, TRAILER = "<16xIIIIII", "<QIIQIIIBBHB7xQ", "<QQIHH", "<8sH6x16sQQQQQ"
VERSION, MAX_FRAME, MAX_DELTA, MAX_GENERATIONS = 1, 64 << 20, 4 << 20, 65536
WIDTHS, MANTISSAS = (1, 1, 2, 4, 8, 2, 2, 4, 8), {5: 7, 6: 10, 7: 23}  # by type
ARRAYS = {1: "B", 2: "H", 4: "I", 8: "Q"}  # by width
MAX_DEPTH, KEPT = 64, 16  # bases on bases; decoded frames of each container


class Damage(Exception):
    pass


class UnknownVersion(Exception):
    pass


def need(ok, message):
    if not ok:
        raise Damage(message)


class Container:
    def __init__(self, file, bases):
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self.bases, self.kept = bases, {}

    def read(self, at, n):
        need(at + n <= self.size, f"the file ends at {self.size}, before {at + n}")
        self.file.seek(at)
        return self.file.read(n)

    def summed(self, at, n, what):
        """Reads n bytes, the last 8 of which are the checksum of the others."""
        b = self.read(at, n)
        need(unpack("<Q", b[-8:])[0] == xxh64(b[:-8]), f"{what} at {at}: wrong checksum")
        return b


def read_header(box):
    """Section 2. Returns the first generation, or None where this is no container."""
    h = box.read(0, min(256, box.size))
    if sum(a == b for a, b in zip(h, HEADER)) < 12:
        return None
    need(len(h) == 256, f"the file ends at {box.size}, inside the header")
    version = unpack_from("<H", h, 16)[0]
    hint = f" (or it is of version {version}, which this decoder does not know)" if version != VERSION else ""
    need(unpack_from("<Q", h, 248)[0] == xxh64(h[:248]) and h[:16] == HEADER, "the header is damaged" + hint)
    if version != VERSION:
        raise UnknownVersion(f"the container is of version {version}; this decoder knows version {VERSION}")
    return h[24:40]


def read_index(box, at, end):
    """Section 6. Returns what the index at at says: generations, bases, segments, extents, logical size, count."""
    need(end - at >= 40 + 72, f"index at {at}: too short")
    trailer, b, bad = box.summed(end - 72, 72, "trailer"), box.read(at, end - 72 - at), f"index at {at}"
    magic, version, last, position, size, count, checksum, _ = unpack(TRAILER, trailer)
    need(magic == b"mithrilT", f"{bad}: no trailer at its end")
    if version != VERSION:
        raise UnknownVersion(f"{bad}: of version {version}; this decoder knows version {VERSION}")
    need((position, checksum) == (at, xxh64(b)), f"{bad}: wrong checksum or position")
    g, e, t, f, n, k = unpack_from(INDEX, b)
    p = 40 + 16 * g + 24 * n + 32 * k + 56 * e
    need(1 <= g <= MAX_GENERATIONS and p + f <= len(b), f"{bad}: its counts do not fit its length")
    generations = [b[i : i + 16] for i in range(40, 40 + 16 * g, 16)]
    need(generations[-1] == last, f"{bad}: its last generation is not the trailer's")
    extents = list(iter_unpack(EXTENT, b[p - 56 * e : p]))
    bases, segments = read_dependence(b[40 + 16 * g : p - 56 * e], n)
    try:
        b[p : p + f].decode()
        p += f
        for _ in range(t):
            _, _, n, d, rank = unpack_from(TENSOR, b, p)
            p += calcsize(TENSOR) + 8 * rank + n + d
    except (error, UnicodeDecodeError) as err:
        raise Damage(f"{bad}: format or tensors: {err}") from None
    need(p == len(b), f"{bad}: its parts end at {at + p}, not at the trailer")
    return generations, bases, segments, extents, size, count


def read_dependence(b, n):
    """Section 5: n bases and the segments behind them."""
    bases, segments = list(iter_unpack(BASE, b[: 24 * n])), list(iter_unpack(SEGMENT, b[24 * n :]))
    order = [(base, begin) for begin, _, _, base, _, _ in segments]
    ok = n <= 3 and len(set(g for g, _ in bases)) == n and order == sorted(order)
    last = (-1, 0)
    for begin, end, offset, base, t, u in segments:
        ok = ok and base < n and max(t, u) < 9 and (t == u or {t, u} <= MANTISSAS.keys()) and begin < end
        ok = ok and (end - begin) % WIDTHS[t] == 0 and (base != last[0] or begin >= last[1])
        ok = ok and offset + (end - begin) // WIDTHS[t] * WIDTHS[u] <= bases[base][1]
        last = base, end
    need(ok, "bases or segments that can't be")
    return bases, segments


def base_ranges(segments, count, offset, n):
    """Section 5: where the first bases have the elements of a frame, and of what type. None: one of them has not."""
    ranges = []
    for base in range(count):
        for begin, end, at, b, t, u in segments:
            if b == base and begin <= offset and offset + n <= end:
                w, v = WIDTHS[t], WIDTHS[u]
                if (offset - begin) % w == 0 and n % w == 0:
                    ranges.append((at + (offset - begin) // w * v, n // w * v, u))
    return ranges if len(ranges) == count else None


def unplan(planned, plan):
    """Section 7. Byte j of an element comes from bits 8 j + r and on of the rotated one: from two planes, if r % 8."""
    width, r = 1 << (plan & 3), plan >> 2
    n, s = len(planned) // width, r % 8
    planes = [planned[i * n : (i + 1) * n] for i in range(width)]
    planes = planes[r // 8 :] + planes[: r // 8]
    if s:
        low = [p.translate(bytes(x >> s for x in range(256))) for p in planes]
        high = [p.translate(bytes(x << 8 - s & 255 for x in range(256))) for p in planes]
        for i in range(width):
            both = int.from_bytes(low[i], "little") | int.from_bytes(high[(i + 1) % width], "little")
            planes[i] = both.to_bytes(n, "little")
    out = bytearray(planned)  # for the n mod W bytes at the end
    for i in range(width):
        out[i : n * width : width] = planes[i]
    return out


def content_size(z):
    """What a zstd frame that begins with z says it holds; None if it does not."""
    if len(z) < 6 or z[:4] != b"\x28\xb5\x2f\xfd" or z[4] & 3:
        return None
    width, single = z[4] >> 6, z[4] >> 5 & 1
    width = 1 << width if width else single
    return int.from_bytes(z[6 - single : 6 - single + width], "little") + (256 if width == 2 else 0) if width else None


def unzstd(z, n, bad):
    """The n bytes in exactly one zstd frame."""
    need(content_size(z) == n, f"{bad}: no zstd frame without dictionary, or another content size")
    try:
        if zstd.__name__ == "zstandard":
            content = zstd.ZstdDecompressor().decompress(z, allow_extra_data=False)
        else:
            d = zstd.ZstdDecompressor()
            content = d.decompress(z, n + 1)
            need(d.eof and not d.unused_data, f"{bad}: the zstd frame is not as long as its record says")
    except (zstd.ZstdError, ValueError) as err:
        raise Damage(f"{bad}: {err}") from None
    need(len(content) == n, f"{bad}: the zstd frame holds {len(content)} bytes, not {n}")
    return content


def read_frame(box, extent, log):
    """Sections 3, 5 and 7: the logical bytes of the frame that an extent is of, checked."""
    offset, length, skip, at, n, stored, number, plan, coding, ordinal, count, checksum = extent
    if at in box.kept:
        return box.kept[at]
    bad = f"frame at {at}, for bytes {offset} to {offset + length} of the file"
    z = box.read(at + 72, stored)
    if coding == 0:
        logical = unplan(unzstd(z, n, bad), plan)
    else:
        ranges = base_ranges(log.segments, count, offset - skip, n)
        inputs = [(box.bases.read(*log.bases[i], at, size), t) for i, (at, size, t) in enumerate(ranges)]
        size = content_size(z)
        need(size is not None and size <= len(z), f"{bad}: not a delta frame")
        try:
            logical = decode_delta(unzstd(z, size, bad), n, inputs)
        except (IndexError, ValueError, OverflowError, error) as err:
            raise Damage(f"{bad}: not a delta frame, or another base: {err}") from None
    whole = logical + log.generations[ordinal] + pack("<IQI", number, offset - skip, n)
    need(xxh64(whole) == checksum, f"{bad}: wrong content checksum")
    box.kept[at] = logical
    if len(box.kept) > KEPT:
        del box.kept[next(iter(box.kept))]
    return logical


def decode_delta(content, n, inputs):
    """delta-frames.md, section 1: n logical bytes, given the elements of the bases."""
    kind, count, t = content[0] & 15, content[0] >> 4, content[1]
    types, p = tuple(content[2 : 2 + count]), 2 + count
    need(types == tuple(u for _, u in inputs) and t < 9 and n % WIDTHS[t] == 0, "a delta frame of other types")
    need(all(len(b) // WIDTHS[u] == n // WIDTHS[t] for b, u in inputs), "bases of another length")
    checksum, rest = content[p : p + 4], content[p + 4 :]
    bases = [[round_to(t, u, x) for x in elements(b, u)] if t != u else elements(b, u) for b, u in inputs]
    if kind == 0:
        values = bases[0]
    elif kind == 1 and t in MANTISSAS:
        values = decode_residuals(rest, t, bases)
    else:
        need(kind == 2 and t not in MANTISSAS, "a delta frame of an unknown kind")
        values = decode_differences(rest, n, t, bases[0])
    logical = array(ARRAYS[WIDTHS[t]], values)
    if sys.byteorder == "big":
        logical.byteswap()
    logical = logical.tobytes()
    need(checksum == pack("<I", xxh64(logical) & 0xFFFFFFFF), "a delta frame, or its base, is damaged")
    return logical


def elements(b, t):
    values = array(ARRAYS[WIDTHS[t]], b)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def ordinal(x, width):
    top = 1 << 8 * width - 1
    return x ^ (2 * top - 1) if x & top else x | top


def unordinal(o, width):
    top = 1 << 8 * width - 1
    return o & ~top if o & top else o ^ (2 * top - 1)


def unzigzag(z):
    return -(z + 1 >> 1) if z & 1 else z >> 1


def varint(b, at=0):
    value = shift = 0
    while True:
        value |= (b[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if b[at - 1] < 128:
            return value, at


def decode_differences(rest, n, t, base):
    """delta-frames.md, section 1, kind 2."""
    length, at = varint(rest)
    need(length == n, "differences of another length")
    z, w = elements(unplan(unzstd(rest[at:], n, "differences"), WIDTHS[t].bit_length() - 1), t), WIDTHS[t]
    mask = (1 << 8 * w) - 1
    if t == 8:
        return [unordinal(ordinal(x, 8) + unzigzag(d) & mask, 8) for x, d in zip(base, z)]
    return [x + unzigzag(d) & mask for x, d in zip(base, z)]


class Bits:
    """delta-frames.md, section 2: a stream of bits; at is the byte behind what was read."""

    def __init__(self, b, at, end):
        self.b, self.at, self.end, self.left, self.have = b, at, end, 0, 0

    def u(self, k):
        while self.have < k:
            need(self.at < self.end, "a stream of bits ends too soon")
            self.left |= self.b[self.at] << self.have
            self.at, self.have = self.at + 1, self.have + 8
        value, self.left, self.have = self.left & (1 << k) - 1, self.left >> k, self.have - k
        return value

    def g(self, k):
        m = k
        while not self.u(1):
            m += 1
            need(m <= 30, "a number that is too long")
        return self.u(m) + (1 << m) - (1 << k)

    def s(self, k):
        return unzigzag(self.g(k))

    def sums(self, n, k, least, most):
        """n numbers, each as the difference from the one before."""
        values, v = [], 0
        for _ in range(n):
            v += self.s(k)
            need(least <= v <= most, "a number out of range")
            values.append(v)
        return values


def read_table(bits, before, symbols):
    """delta-frames.md, section 2. Returns the steps and, for each of 4096 slots, symbol, frequency and slot - start."""
    size, main = bits.g(2) + 1, bits.g(0)
    from_before, k = bits.u(1), bits.u(2)
    need(size <= symbols and main < size, "a table that can't be")
    steps, freqs, rest = [], [], 4096
    for s in range(size):
        if s == main:
            steps.append(max(q for q in range(45) if frequency(q) <= max(rest, 0)))
            freqs.append(0)
            continue
        if from_before and before:
            expected = before[s] if s < len(before) else 0
        else:
            expected = steps[max(s - 2, 0)] if s else 44
        steps.append(expected + bits.s(k))
        need(0 <= steps[s] <= 44, "a step that can't be")
        freqs.append(frequency(steps[s]))
        rest -= freqs[s]
    need(rest > 0, "frequencies that can't be")
    freqs[main] = rest
    return steps, [(s, f, i) for s, f in enumerate(freqs) for i in range(f)]


def frequency(q):
    return q if q < 4 else (4 + q % 4) << (q >> 2) - 1


def quarters(v):
    n = v.bit_length()
    return 4 * n - 3 + (v << 2 >> n - 1 & 3) if v else 0


class Parameters:
    """delta-frames.md, section 2."""

    def __init__(self, bits, count, blocks, t):
        one = count == 1
        self.group, self.first_exponent, self.first_activity, self.floor = bits.u(2), bits.u(8), bits.u(8), bits.u(8)
        need(self.floor <= 224 and 24 <= self.first_exponent <= 224, "a floor or exponent that can't be")
        self.exponent = bits.sums(32 if one else 64, 0, 0, 63)
        self.activity = bits.sums(24 if one else 48, 0, 0, 63)
        self.gain = self.second_gain = [0] * 32
        self.trend, self.movement, self.stride, self.levels = [0] * 16, [0] * 64, 0, None
        if one:
            k = bits.u(2)
            self.levels = bits.sums(blocks, k, 0, 23) if k < 3 else [0] * blocks
        else:
            self.gain = bits.sums(32, 1, -128, 127)
            if count == 3:
                self.second_gain, self.trend = bits.sums(32, 1, -128, 127), bits.sums(16, 0, 0, 63)
            self.movement = bits.sums(64 if t == 7 else 48, 0, 0, 63)
            self.stride = bits.g(0)
            need(self.stride <= 65536, "a stride that can't be")
            if self.stride:
                self.first_column, self.column = bits.u(8), bits.sums(24, 0, 0, 63)
        self.classes, n = [], 0  # by group and level
        for _ in range((1, 6, 8, 2)[self.group]):
            left = 32
            while left:
                run = bits.g(1)
                need(run < left, "a run that can't be")
                self.classes += [n] * (run or left)
                left, n = left - (run or left), n + 1
        need(n <= 48, "too many classes")
        self.tables, before = [], None
        for _ in range(n):
            before, slots = read_table(bits, before, 128 if t == 7 else 40)
            self.tables.append(slots)

    def group_of(self, m, t):
        """Section 3."""
        if self.group == 1:
            return 0 if m == 0 else 1 if m < 4 else min(m - 2, 5)
        if self.group == 2:
            if m < 4:
                return (2 + (t >= 8) + (t > 8)) if m else int(t != 8)
            return (5 + (t > 8)) if m < 6 else 7
        return int(self.group == 3 and m > 0)


def f32(x):
    """Section 3: x, rounded to a float of 32 bits."""
    try:
        return unpack("<f", pack("<f", x))[0]
    except OverflowError:
        return INFINITY if x > 0 else -INFINITY


class Features:
    """delta-frames.md, section 3: what the bases say about each element."""

    def __init__(self, p, t, bases):
        self.guesses, self.downs, self.exponents, self.movements, self.trends = [], [], [], [], []
        self.sums, self.columns = [0] * ((len(bases[0]) + 127) // 128), [0] * p.stride
        wide = [array("I", (round_to(7, t, x) for x in base)) for base in bases]
        values = [array("f", w.tobytes()) for w in wide]
        values += [values[-1]] * (3 - len(bases))
        first, most = p.first_exponent, 63 if t == 7 else 47
        scale = 127 + MANTISSAS[t] - first
        count = 2.0 ** (scale - {5: 12, 6: 0, 7: 20}[t])
        for i, (b, q, r, bits, x) in enumerate(zip(*values, wide[0], bases[0])):
            d, l = f32(b - q), f32(q - r)
            d, l = d if -INFINITY < d < INFINITY else 0, l if -INFINITY < l < INFINITY else 0
            down = d < 0 or d == 0 and l < 0
            if down:
                d, l = -d, -l
            guess = ordinal(x, WIDTHS[t])
            e = min(max((bits >> 23 & 255) - first, 0), 31)
            if d * 2.0 ** (scale - e) >= 4:
                step = f32(f32(d * (p.gain[e] / 32)) + f32(l * (p.second_gain[e] / 32)))
                v = f32(b + (-step if down else step))
                if step and -INFINITY < v < INFINITY:
                    bits = unpack("<I", pack("<f", v))[0]
                    guess = ordinal(round_to(t, 7, bits), WIDTHS[t])
                    e = min(max((bits >> 23 & 255) - first, 0), 31)
            m = 0
            if d:
                part, power = frexp(d * 2.0 ** (scale - e))
                m = min(max(2 * power + (part >= 0.75), 1), most)
            a = int(min(d * count, 1 << 24))
            self.sums[i >> 7] += a
            if p.stride:
                self.columns[i % p.stride] += a
            self.guesses.append(guess)
            self.downs.append(down)
            self.exponents.append(e)
            self.movements.append(m)
            self.trends.append(int(min(max(l * 2.0 ** (scale - e), -7), 7)) + 8)


def decode_residuals(rest, t, bases):
    """delta-frames.md, sections 2 to 5. Returns the elements."""
    w, count = WIDTHS[t], len(bases)
    n, at = varint(rest)
    need(n == len(bases[0]), "another number of elements")
    blocks = (n + 127) // 128
    bits = Bits(rest, at, len(rest))
    p = Parameters(bits, count, blocks, t)
    size, at = varint(rest, bits.at)
    need(at + size <= len(rest), "raw bits that are not there")
    raw, words, at = Bits(rest, at, at + size), rest, at + size
    states = list(unpack_from("<32I", words, at))
    need(min(states) >= 1 << 16, "a state that can't be")
    at += 128

    f = Features(p, t, bases)
    columns, sums = [0] * p.stride, f.sums
    if p.stride:
        columns = [p.column[min(max(quarters(c) - p.first_column, 0), 23)] for c in f.columns]
    precision, out, mask = 2 if t == 7 else 1, [], (1 << 8 * w) - 1
    for i, m in enumerate(f.movements):
        if i & 127 == 0:
            k = i >> 7
            a = 4 * sums[k] + sums[max(k - 1, 0)] + sums[min(k + 1, blocks - 1)]
            active = p.levels[k] if count == 1 else min(max(quarters(a) - p.first_activity, 0), 23)
        score = p.exponent[f.exponents[i] + 32 * (m > 0)] + p.activity[active + 24 * (m > 0)] + p.movement[m]
        score += p.trend[f.trends[i]] + (columns[i % p.stride] if p.stride else 0) - p.floor
        table = p.tables[p.classes[32 * p.group_of(m, f.trends[i]) + min(max(score, 0), 31)]]
        x = states[i & 31]
        z, frequency, start = table[x & 4095]
        x = frequency * (x >> 12) + start
        if x < 1 << 16:
            x = x << 16 | words[at] | words[at + 1] << 8
            at += 2
        states[i & 31] = x
        if z >= 16:
            octave, upper = 4 + (z - 16 >> precision), z - 16 & (1 << precision) - 1
            z = (1 << precision | upper) << octave - precision | raw.u(octave - precision)
        r = unzigzag(z)
        out.append(unordinal(f.guesses[i] + (-r if f.downs[i] else r) & mask, w))
    need(states == [1 << 16] * 32 and at == len(words) and raw.at == raw.end, "symbols or raw bits are left")
    return out


def round_to(t, u, x):
    """delta-frames.md, section 6: x of type u as one of type t."""
    if u == 5:
        x <<= 16
    elif u == 6:
        sign, e, f = x >> 15 << 31, x >> 10 & 31, x & 0x3FF
        if e == 31:
            x = sign | 0xFF << 23 | f << 13
        elif e:
            x = sign | e + 112 << 23 | f << 13
        else:
            k = f.bit_length()  # f * 2^-24
            x = sign | (k + 102 << 23 | f << 24 - k & 0x7FFFFF if f else 0)
    if t == 7:
        return x
    sign, size, bits, least, most = x >> 31 << 15, x & 0x7FFFFFFF, MANTISSAS[t], 1, 0xFF
    if t == 6:
        least, most = 113, 143
    if size > 0xFF << 23:
        f = size >> 23 - bits & (1 << bits) - 1
        return sign | (0x7FFF >> bits << bits) | (f or 1 << bits - 1)
    e = max(size >> 23, least)  # the exponent of the result, unless it is subnormal
    f = (size & 0x7FFFFF | 1 << 23 if size >> 23 else (size & 0x7FFFFF))
    drop = 23 - bits + e - (size >> 23 or 1)
    up = f >> drop
    up += (f & (1 << drop) - 1) + (up & 1) > 1 << drop - 1
    if t == 5:
        return sign | min((e - 1 << 7) + up, 0x7F80)
    return sign | min((e - 113 << 10) + up, 0x7C00)


class Log:
    """Section 8, replaying. The log ends at self.at; self.why says so if that is before the file's end."""

    def __init__(self, box, first, decode_from):
        self.box, self.decode_from = box, decode_from
        self.generations, self.count, self.size = [first], 0, 0
        self.bases, self.segments = [], []
        self.extents = []  # by offset: tuples, as EXTENT unpacks them
        self.at, self.why, self.damage = 256, None, []
        self.index_end = self.sealed_end = 0  # of the last intact index, and of the seek table behind it
        self.table = bytearray(pack("<II", 256, 0))
        while self.at < box.size and not self.why:
            try:
                self.step()
            except Damage as err:
                self.why = str(err)

    def step(self):
        at, box = self.at, self.box
        magic, length, tag = unpack("<II4s", box.read(at, 12))
        end, stored, n = at + 8 + length, 0, 0
        need(end <= box.size, f"record at {at}: ends at {end}, but the file at {box.size}")
        if magic == SEEK_TABLE:
            footer = pack("<IBI", len(self.table) // 8, 0, SEEK_FOOTER)
            if box.read(at + 8, length) != self.table + footer:
                self.damage.append(f"seek table at {at}: does not list the frames before it")
            elif at == self.index_end:
                self.sealed_end = end
        elif (magic, tag) == (RECORD, b"INDX"):
            try:
                index = read_index(box, at, end)
                self.index_end = end
                log = self.generations, self.bases, self.segments, self.extents, self.size, self.count
                names = "generations", "bases", "segments", "extents", "size", "count"
                for what, says, is_so in zip(names, index, log):
                    need(says == is_so, f"index at {at}: its {what} are not what the log adds up to")
            except Damage as err:
                self.damage.append(str(err))
        elif (magic, tag, length) == (RECORD, b"FRAM", 64):
            b = box.summed(at, 72, "frame record")
            number, generation, offset, n, stored, plan, coding, count, checksum = unpack_from(FRAME, b)
            self.check_turn(generation, number)
            if coding == 1:
                ok = 1 <= n <= MAX_DELTA and plan == 0 and 1 <= count <= len(self.bases)
                ok = ok and base_ranges(self.segments, count, offset, n)
            else:
                ok = 1 <= n <= MAX_FRAME and coding == count == 0 and plan >> 2 < 8 << (plan & 3)
            need(ok, f"frame record at {at}: bad fields")
            need(end + stored <= box.size, f"frame at {at}: ends at {end + stored}, but the file at {box.size}")
            extent = (offset, n, 0, at, n, stored, number, plan, coding, len(self.generations) - 1, count, checksum)
            if coding == 0 and at >= self.decode_from:
                read_frame(box, extent, self)
            content = n if coding == 0 else content_size(box.read(end, min(stored, 18)))
            need(content is not None, f"frame at {at}: no zstd frame")
            self.extents.insert(self.clear(offset, offset + n), extent)
            self.size, self.count = max(self.size, offset + n), self.count + 1
        elif (magic, tag, length) == (RECORD, b"SIZE", 40):
            number, generation, size = unpack_from(SIZE, box.summed(at, 48, "size record"))
            self.check_turn(generation, number)
            self.clear(size, float("inf"))
            self.size, self.count = size, self.count + 1
        elif (magic, tag) == (RECORD, b"BASE"):
            need(at == 256 and length >= 40, f"bases record at {at}: not behind the header, or too short")
            b = box.summed(at, 8 + length, "bases record")
            number, generation, bases, segments = unpack_from(BASES, b)
            self.check_turn(generation, number)
            ok = 1 <= bases <= 3 and 48 + 24 * bases + 32 * segments == len(b)
            need(ok, f"bases record at {at}: its counts do not fit its length")
            self.bases, self.segments = read_dependence(b[40:-8], bases)
            self.count += 1
        elif (magic, tag, length) == (RECORD, b"GENR", 48):
            new, before = unpack_from(GENERATION, box.summed(at, 56, "generation record"))
            need(before == self.generations[-1], f"generation record at {at}: continues another generation")
            need(len(self.generations) < MAX_GENERATIONS, f"generation record at {at}: too many generations")
            self.generations.append(new)
            self.count = 0
        else:
            raise Damage(f"at {at}: no record begins there")
        self.table += pack("<II", end - at, 0)
        if stored:
            self.table += pack("<II", stored, content)
        self.at = end + stored

    def check_turn(self, generation, number):
        need(generation == self.generations[-1], f"record at {self.at}: of another generation")
        need(number == self.count, f"record at {self.at}: its number is {number}, not {self.count}")

    def clear(self, lo, hi):
        """Takes lo to hi away from all extents; returns where in the list a new one goes."""
        e = self.extents
        i = bisect_left(e, (lo,))
        if i and e[i - 1][0] + e[i - 1][1] > lo:
            i -= 1
        j, left, right = i, [], []
        while j < len(e) and e[j][0] < hi:
            at, n, skip = e[j][:3]
            if at < lo:
                left = [(at, lo - at, skip) + e[j][3:]]
            if at + n > hi:
                right = [(hi, at + n - hi, skip + hi - at) + e[j][3:]]
            j += 1
        e[i:j] = left + right
        return i + len(left)


class Bases:
    """Section 5: the containers that others depend on."""

    def __init__(self, container, directory):
        self.open, self.depth, self.directories = {}, 0, [directory] if directory else []
        for path in () if directory else (os.path.abspath(container), os.path.realpath(container)):
            while path != os.path.dirname(path):
                path = os.path.dirname(path)
                self.directories.append(os.path.join(path, ".mithrilfs", "bases"))

    def read(self, generation, size, at, n):
        """Logical bytes of the base of that generation and size."""
        if generation not in self.open:
            self.open[generation] = self.find(generation)
        box, log = self.open[generation]
        need(log.size == size, f"base {generation.hex()}: it has {log.size} bytes, not {size}")
        self.depth += 1
        need(self.depth <= MAX_DEPTH, f"base {generation.hex()}: too many bases depend on each other")
        out = bytearray(n)
        i = max(bisect_left(log.extents, (at + 1,)) - 1, 0)
        while i < len(log.extents) and log.extents[i][0] < at + n:
            offset, length, skip = log.extents[i][:3]
            lo, hi = max(at, offset), min(at + n, offset + length)
            if lo < hi:
                logical = read_frame(box, log.extents[i], log)
                out[lo - at : hi - at] = memoryview(logical)[skip + lo - offset : skip + hi - offset]
            i += 1
        self.depth -= 1
        return bytes(out)

    def close(self):
        for box, _ in self.open.values():
            box.file.close()

    def find(self, generation):
        name = generation.hex()
        for directory in self.directories:
            path = os.path.join(directory, name)
            if not os.path.exists(path):
                continue
            with ExitStack() as stack:
                box = Container(stack.enter_context(open(path, "rb")), self)
                first = read_header(box)
                need(first, f"{path}: not a container")
                log = Log(box, first, float("inf"))
                need(log.sealed_end == box.size, f"{path}: not sealed, or damaged: {log.why}")
                need(log.generations[-1] == generation, f"{path}: of another generation")
                stack.pop_all()  # it stays open
                return box, log
        raise Damage(f"base {name} is missing: looked for it in {', '.join(self.directories)}")


def load(box, first, tell):
    """Section 8. Returns the log and the exit status so far."""
    log = Log(box, first, float("inf"))
    if log.sealed_end != box.size:
        log = Log(box, first, log.index_end)  # frames behind the last intact index must be whole to count
    for message in log.damage:
        tell(message)
    if log.sealed_end == box.size:
        return log, 1 if log.damage else 0
    footer = unpack("<BI", box.read(box.size - 5, 5))
    cut_short = f"the log ends at {log.at} of {box.size}, and the file has {log.size} bytes up to there"
    cut_short += f" ({log.why})" if log.why else ""
    if log.damage or log.why and footer == (0, SEEK_FOOTER):
        tell(f"sealed, but damaged: {cut_short}")
        return log, 1
    tell(f"not sealed: {cut_short}")
    return log, 3


def write(box, log, out, tell):
    """Writes the file; without out only checks, and goes on after damage. Returns the exit status."""
    at = status = 0
    for extent in log.extents + [(log.size, 0)]:
        if out:
            for hole in range(at, extent[0], 1 << 20):
                out.write(bytes(min(1 << 20, extent[0] - hole)))
        at = extent[0] + extent[1]
        try:
            logical = read_frame(box, extent, log) if extent[1] else b""
        except Damage as err:
            if out:
                raise Damage(f"{err}; the output ends before") from None
            tell(str(err))
            status = 1
        else:
            if out and logical:
                out.write(memoryview(logical)[extent[2] : extent[2] + extent[1]])
    return status


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("container")
    parser.add_argument("output", nargs="?", default="-", help="'-', as if missing, is standard output")
    parser.add_argument("--bases", metavar="DIR", help="where the bases of a dependent are, by generation")
    parser.add_argument("--check", action="store_true", help="write nothing, report all damage")
    args = parser.parse_args(argv)

    def tell(message):
        print(f"{args.container}: {message}", file=sys.stderr)

    try:
        with open(args.container, "rb") as file, closing(Bases(args.container, args.bases)) as bases:
            box = Container(file, bases)
            first = read_header(box)
            if not first:
                tell("not a mithrilfs container")
                return 2
            log, status = load(box, first, tell)
            if args.check:
                return write(box, log, None, tell) or status
            if args.output == "-":
                write(box, log, sys.stdout.buffer, tell)
                sys.stdout.buffer.flush()
            else:
                need(not (os.path.exists(args.output) and os.path.samefile(args.container, args.output)),
                     "output would replace the container")
                with open(args.output, "wb") as out:
                    write(box, log, out, tell)
            return status
    except (Damage, OSError) as err:
        tell(str(err))
        return 1
    except UnknownVersion as err:
        tell(str(err))
        return 2


if __name__ == "__main__":
    sys.exit(main())
