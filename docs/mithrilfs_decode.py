#!/usr/bin/env python3
"""Writes the bytes of the file that a mithrilfs container holds.

The reference decoder: it follows format.md, the sections of which it names, and
nothing else. It replays the whole log and compares each index with what it got.
Content is checked where it provides bytes of the file, one frame at a time. So
this is the slow and careful way to read; opening by the index alone is quicker.

Exit status: 0 all is well; 1 damaged; 2 not a container, or one of an unknown
version; 3 never sealed: what was written is a whole prefix of the log. Bytes
that are not known to be right are never written: output ends before them.
"""

import argparse
import importlib
import os
import sys
from bisect import bisect_left
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
FRAME, SIZE, GENERATION = "<12xI16sQIIBB6xQ", "<12xI16sQ", "<16x16s16s"  # less the checksum at the end
INDEX, EXTENT, TENSOR, TRAILER = "<16xIIIIII", "<QIIQIIIBBH8xQ", "<QQIHH", "<8sH6x16sQQQQQ"
VERSION, MAX_FRAME, MAX_GENERATIONS = 1, 64 << 20, 65536


class Damage(Exception):
    pass


class UnknownVersion(Exception):
    pass


def need(ok, message):
    if not ok:
        raise Damage(message)


class Container:
    def __init__(self, file):
        self.file, self.size = file, os.fstat(file.fileno()).st_size

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
    """Section 5. Returns what the index at at says: generations, extents, logical size, count."""
    need(end - at >= 40 + 72, f"index at {at}: too short")
    trailer, b, bad = box.summed(end - 72, 72, "trailer"), box.read(at, end - 72 - at), f"index at {at}"
    magic, version, last, position, size, count, checksum, _ = unpack(TRAILER, trailer)
    need(magic == b"mithrilT", f"{bad}: no trailer at its end")
    if version != VERSION:
        raise UnknownVersion(f"{bad}: of version {version}; this decoder knows version {VERSION}")
    need((position, checksum) == (at, xxh64(b)), f"{bad}: wrong checksum or position")
    g, e, t, f, _, _ = unpack_from(INDEX, b)
    p = 40 + 16 * g + 56 * e
    need(1 <= g <= MAX_GENERATIONS and p + f <= len(b), f"{bad}: its counts do not fit its length")
    generations = [b[i : i + 16] for i in range(40, 40 + 16 * g, 16)]
    need(generations[-1] == last, f"{bad}: its last generation is not the trailer's")
    extents = list(iter_unpack(EXTENT, b[p - 56 * e : p]))
    try:
        b[p : p + f].decode()
        p += f
        for _ in range(t):
            _, _, n, d, rank = unpack_from(TENSOR, b, p)
            p += calcsize(TENSOR) + 8 * rank + n + d
    except (error, UnicodeDecodeError) as err:
        raise Damage(f"{bad}: format or tensors: {err}") from None
    need(p == len(b), f"{bad}: its parts end at {at + p}, not at the trailer")
    return generations, extents, size, count


def unplan(planned, plan):
    """Section 6. Byte j of an element comes from bits 8 j + r and on of the rotated one: from two planes, if r % 8."""
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


def read_frame(box, extent, generations):
    """Sections 3 and 6: the logical bytes of the frame that an extent is of, checked."""
    offset, length, skip, at, n, stored, number, plan, _, ordinal, checksum = extent
    bad = f"frame at {at}, for bytes {offset} to {offset + length} of the file"
    z = box.read(at + 72, stored)
    need(len(z) >= 6 and z[:4] == b"\x28\xb5\x2f\xfd" and not z[4] & 3, f"{bad}: no zstd frame without dictionary")
    width, single = z[4] >> 6, z[4] >> 5 & 1
    width = 1 << width if width else single
    content = int.from_bytes(z[6 - single : 6 - single + width], "little") + (256 if width == 2 else 0)
    need(width and content == n, f"{bad}: wrong or no content size in the zstd frame")
    try:
        if zstd.__name__ == "zstandard":
            planned = zstd.ZstdDecompressor().decompress(z, allow_extra_data=False)
        else:
            d = zstd.ZstdDecompressor()
            planned = d.decompress(z, n + 1)
            need(d.eof and not d.unused_data, f"{bad}: the zstd frame is not as long as its record says")
    except (zstd.ZstdError, ValueError) as err:
        raise Damage(f"{bad}: {err}") from None
    need(len(planned) == n, f"{bad}: the zstd frame holds {len(planned)} bytes, not {n}")
    logical = unplan(planned, plan)
    whole = logical + generations[ordinal] + pack("<IQI", number, offset - skip, n)
    need(xxh64(whole) == checksum, f"{bad}: wrong content checksum")
    return logical


class Log:
    """Section 7, replaying. The log ends at self.at; self.why says so if that is before the file's end."""

    def __init__(self, box, first, decode_from):
        self.box, self.decode_from = box, decode_from
        self.generations, self.count, self.size = [first], 0, 0
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
                log = self.generations, self.extents, self.size, self.count
                for what, says, is_so in zip(("generations", "extents", "size", "count"), index, log):
                    need(says == is_so, f"index at {at}: its {what} are not what the log adds up to")
            except Damage as err:
                self.damage.append(str(err))
        elif (magic, tag, length) == (RECORD, b"FRAM", 64):
            b = box.summed(at, 72, "frame record")
            number, generation, offset, n, stored, plan, coding, checksum = unpack_from(FRAME, b)
            self.check_turn(generation, number)
            ok = 1 <= n <= MAX_FRAME and coding == 0 and plan >> 2 < 8 << (plan & 3)
            need(ok, f"frame record at {at}: bad fields")
            need(end + stored <= box.size, f"frame at {at}: ends at {end + stored}, but the file at {box.size}")
            extent = (offset, n, 0, at, n, stored, number, plan, coding, len(self.generations) - 1, checksum)
            if at >= self.decode_from:
                read_frame(box, extent, self.generations)
            self.extents.insert(self.clear(offset, offset + n), extent)
            self.size, self.count = max(self.size, offset + n), self.count + 1
        elif (magic, tag, length) == (RECORD, b"SIZE", 40):
            number, generation, size = unpack_from(SIZE, box.summed(at, 48, "size record"))
            self.check_turn(generation, number)
            self.clear(size, float("inf"))
            self.size, self.count = size, self.count + 1
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
            self.table += pack("<II", stored, n)
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


def load(box, first, tell):
    """Section 7. Returns the log and the exit status so far."""
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
            logical = read_frame(box, extent, log.generations) if extent[1] else b""
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
    parser.add_argument("--check", action="store_true", help="write nothing, report all damage")
    args = parser.parse_args(argv)

    def tell(message):
        print(f"{args.container}: {message}", file=sys.stderr)

    try:
        with open(args.container, "rb") as file:
            box = Container(file)
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
