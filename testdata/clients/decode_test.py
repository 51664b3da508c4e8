#!/usr/bin/env python3
"""Tests docs/mithrilfs_decode.py on the examples of docs/format.md, on the files
that every version must read, and on containers made here, by a writer that
follows that page too."""

import contextlib
import hashlib
import io
import pathlib
import random
import re
import struct
import sys
import tempfile
import unittest
import uuid

from xxhash import xxh64_digest, xxh64_intdigest

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
sys.path.insert(0, str(DOCS))
sys.dont_write_bytecode = True
import mithrilfs_decode as decoder


GOLDEN = DOCS.parent / "testdata" / "formats" / "v1"
EXAMPLE = bytes(range(1, 17))  # what the first example holds


def example(i=0):
    """The bytes of a hex dump in section 9."""
    dump = re.findall(r"```example\n(.*?)```", (DOCS / "format.md").read_text(), re.S)[i]
    out = bytearray()
    for line in dump.splitlines():
        if re.match(r"[0-9a-f]{4}  ", line):
            assert int(line[:4], 16) == len(out), line
            out += bytes.fromhex(line[6:53])
    return bytes(out)


def plan_bytes(data, plan):
    """Section 7, element by element."""
    w, r = 1 << (plan & 3), plan >> 2
    n, mask = len(data) // w, (1 << 8 * w) - 1
    xs = [int.from_bytes(data[i * w : i * w + w], "little") for i in range(n)]
    xs = [(x << r | x >> (8 * w - r)) & mask for x in xs]
    return b"".join(bytes(x >> 8 * i & 255 for x in xs) for i in range(w)) + data[n * w :]


def sealed(fields):
    return fields + xxh64_digest(fields)[::-1]  # a digest is big-endian


class Writer:
    """Writes a container; keeps the logical bytes that it must have and, after
    every record, how long the container and what the logical bytes are then."""

    def __init__(self, version=1, first=None):
        self.logical, self.extents, self.frames, self.prefixes = bytearray(), [], {}, []
        self.generations, self.count = [first or uuid.uuid4().bytes], 0
        head = struct.pack("<II8sH6x", 0x184D2A5D, 248, b"mithrilF", version)
        self.out = bytearray(sealed(head + self.generations[0] + b"\n" * 208))
        self.table = [(256, 0)]
        self.done()

    def done(self):
        self.prefixes.append((len(self.out), bytes(self.logical)))

    def owners(self):
        """For each logical byte, the frame that provides it: the slow way to get extents."""
        self.extents += [None] * (len(self.logical) - len(self.extents))
        del self.extents[len(self.logical) :]

    def frame(self, offset, data, plan, checksum=None, coding=0, bases=0, number=None):
        number = self.count if number is None else number
        z = decoder.zstd.compress(plan_bytes(data, plan))
        name = self.generations[-1] + struct.pack("<IQI", number, offset, len(data))
        if checksum is None:
            checksum = xxh64_intdigest(data + name)
        at = len(self.out)
        self.out += sealed(
            struct.pack("<II4sI", 0x184D2A5D, 64, b"FRAM", number)
            + self.generations[-1]
            + struct.pack("<QIIBBB5xQ", offset, len(data), len(z), plan, coding, bases, checksum)
        )
        self.out += z
        self.table += [(72, 0), (len(z), len(data))]
        end = offset + len(data)
        self.logical += bytes(max(0, end - len(self.logical)))
        self.logical[offset:end] = data
        self.owners()
        self.extents[offset:end] = [at] * len(data)
        gen = len(self.generations) - 1
        self.frames[at] = offset, (at, len(data), len(z), number, plan, coding, gen, bases, checksum)
        self.count += 1
        self.done()

    def size(self, size):
        self.out += sealed(
            struct.pack("<II4sI", 0x184D2A5D, 40, b"SIZE", self.count) + self.generations[-1] + struct.pack("<Q", size)
        )
        self.table.append((48, 0))
        self.logical = self.logical[:size] + bytes(max(0, size - len(self.logical)))
        self.owners()
        self.count += 1
        self.done()

    def generation(self):
        self.generations.append(uuid.uuid4().bytes)
        self.out += sealed(
            struct.pack("<II4s4x", 0x184D2A5D, 48, b"GENR") + self.generations[-1] + self.generations[-2]
        )
        self.table.append((56, 0))
        self.count = 0
        self.done()

    def seal(self, lie=False):
        extents, i = b"", 0
        while i < len(self.extents):
            at, n = self.extents[i], 1
            while i + n < len(self.extents) and self.extents[i + n] == at:
                n += 1
            if at is not None:
                offset, rest = self.frames[at]
                extents += struct.pack("<QIIQIIIBBHQQ", i, n, i - offset, *rest)
            i += n
        if lie:
            extents = extents[56:]
        tensor = struct.pack("<QQIHHQ", 0, len(self.logical), 3, 2, 1, len(self.logical)) + "é!".encode() + b"U8"
        counts = struct.pack("<IIIIII", len(self.generations), len(extents) // 56, 1, 7, 0, 0)
        body = b"INDX" + bytes(4) + counts + b"".join(self.generations) + extents + b"numbers" + tensor
        index = struct.pack("<II", 0x184D2A5D, len(body) + 72) + body
        index += sealed(
            struct.pack("<8sH6x", b"mithrilT", 1)
            + self.generations[-1]
            + struct.pack("<QQQQ", len(self.out), len(self.logical), self.count, xxh64_intdigest(index))
        )
        self.out += index
        self.table.append((len(index), 0))
        self.done()
        table = b"".join(struct.pack("<II", *e) for e in self.table)
        table += struct.pack("<IBI", len(self.table), 0, 0x8F92EAB1)
        self.out += struct.pack("<II", 0x184D2A5E, len(table)) + table
        self.table.append((8 + len(table), 0))
        self.done()


def history(seed):
    """A container that was sealed more than once, and overwritten, cut and grown between."""
    rng, w = random.Random(seed), Writer()
    for part in range(3):
        if part:
            w.generation()
        for _ in range(rng.randrange(1, 7)):
            if rng.random() < 0.3:
                w.size(rng.randrange(300))
            else:
                width = rng.randrange(4)
                plan = width | rng.randrange(8 << width) << 2
                w.frame(rng.randrange(200), rng.randbytes(rng.randrange(1, 100)), plan)
        w.seal()
    return w


class Decode(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.container = pathlib.Path(tmp.name, "container")
        self.output = pathlib.Path(tmp.name, "output")

    def decode(self, container, *flags):
        """Returns the exit status, what was written (None: nothing) and the messages."""
        self.container.write_bytes(container)
        self.output.unlink(missing_ok=True)
        with contextlib.redirect_stderr(io.StringIO()) as err:
            code = decoder.main([str(self.container), str(self.output), *flags])
        return code, self.output.read_bytes() if self.output.exists() else None, err.getvalue()

    def test_example(self):
        self.assertEqual(self.decode(example()), (0, EXAMPLE, ""))

    def dependent(self):
        """The second example, beside its base."""
        bases = self.container.parent / ".mithrilfs" / "bases"
        bases.mkdir(parents=True, exist_ok=True)
        (bases / b"0123456789abcdef".hex()).write_bytes(example())
        return example(1)

    def test_example_of_dependent(self):
        self.assertEqual(self.decode(self.dependent()), (0, b"HEAD" + EXAMPLE, ""))
        bases = self.container.parent / "elsewhere"
        (self.container.parent / ".mithrilfs" / "bases").rename(bases)
        self.assertEqual(self.decode(example(1), "--bases", str(bases)), (0, b"HEAD" + EXAMPLE, ""))
        code, out, err = self.decode(example(1))
        self.assertEqual((code, out), (1, b"HEAD"))
        self.assertIn("base 30313233343536373839616263646566 is missing", err)
        code, out, err = self.decode(example(1), "--check")
        self.assertEqual((code, out), (1, None))
        self.assertIn("base 30313233343536373839616263646566 is missing", err)

    def test_wrong_base(self):
        container = self.dependent()
        base = self.container.parent / ".mithrilfs" / "bases" / b"0123456789abcdef".hex()
        other = Writer(first=b"0123456789abcdef")  # the right generation, other bytes
        other.frame(0, b"x" * 16, 0)
        other.seal()
        short = Writer(first=b"0123456789abcdef")
        short.frame(0, b"x" * 15, 0)
        short.seal()
        for why, wrong in [
            ("delta frame, or its base, is damaged", other.out),
            ("it has 15 bytes, not 16", short.out),
            ("of another generation", example(1)),
            ("not sealed, or damaged", example()[:-20]),
            ("not a container", b"nothing"),
        ]:
            base.write_bytes(wrong)
            code, out, err = self.decode(container)
            self.assertEqual((code, out), (1, b"HEAD"), why)
            self.assertIn(why, err)

    def test_golden(self):
        for line in (GOLDEN / "SHA256SUMS").read_text().splitlines():
            digest, name = line.split("  ")
            with contextlib.redirect_stderr(io.StringIO()) as err:
                code = decoder.main([str(GOLDEN / name), str(self.output)])
            self.assertEqual(code, 3 if "unsealed" in name else 0, err.getvalue())
            self.assertEqual(hashlib.sha256(self.output.read_bytes()).hexdigest(), digest, name)

    def test_flips_of_golden(self):
        """Damage of delta frames gives a message, and no wrong byte."""
        self.output.write_bytes(b"")
        for name in ("three-bases", "one-base-f64", "cast-difference", "edited-dependent"):
            with contextlib.redirect_stderr(io.StringIO()):
                decoder.main([str(GOLDEN / name), str(self.output)])
            want, container = self.output.read_bytes(), (GOLDEN / name).read_bytes()
            for at in range(len(container) // 50, len(container), len(container) // 50):
                bad = bytearray(container)
                bad[at] ^= 1 << at % 8
                code, out, err = self.decode(bad, "--bases", str(GOLDEN / ".mithrilfs" / "bases"))
                self.assertIn(code, (0, 1), at)
                if code == 0 or out is not None and "edited" not in name:
                    self.assertTrue(want.startswith(out) and (code or len(out) == len(want)), at)

    def test_plans(self):
        rng = random.Random(1)
        for width in range(4):
            for rotation in range(8 << width):
                for n in (1, 8, 77):
                    data, plan = rng.randbytes(n), width | rotation << 2
                    self.assertEqual(decoder.unplan(plan_bytes(data, plan), plan), data, plan)

    def test_histories(self):
        for seed in range(30):
            w = history(seed)
            self.assertEqual(self.decode(w.out), (0, bytes(w.logical), ""), seed)
            self.assertEqual(self.decode(w.out, "--check"), (0, None, ""), seed)

    def test_holes(self):
        w = Writer()
        w.frame(3 << 20, b"x" * 10, 0)
        w.size(5 << 20)
        w.extents = []  # the index would be slow to make, and is not needed
        code, out, _ = self.decode(w.out)
        self.assertEqual((code, out == w.logical), (3, True))

    def test_every_cut_of_dependent(self):
        container = self.dependent()
        for cut in range(256, len(container)):
            code, out, err = self.decode(container[:cut])
            self.assertEqual(code, 3, err)
            frames = (cut >= 0x1BD) + (cut >= 0x215)  # where the frames end
            self.assertEqual(out, (b"HEAD" + EXAMPLE)[: (0, 4, 20)[frames]], cut)

    def test_every_cut(self):
        w = history(2)
        seals = [n for n, _ in w.prefixes if w.out[n - 4 : n] == struct.pack("<I", 0x8F92EAB1)]
        for cut in range(len(w.out)):
            code, out, err = self.decode(w.out[:cut])
            if cut < 12:
                self.assertEqual((code, out), (2, None), cut)
            elif cut < 256:
                self.assertEqual((code, out), (1, None), cut)
            else:
                self.assertEqual(code, 0 if cut in seals else 3, err)
                self.assertEqual(out, [b for n, b in w.prefixes if n <= cut][-1], cut)

    def test_every_flip(self):
        w = history(2)
        for container, states in [
            (example(), [b"", EXAMPLE]),
            (self.dependent(), [b"", b"HEAD", b"HEAD" + EXAMPLE]),
            (w.out, [b for _, b in w.prefixes]),
        ]:
            for at in range(len(container)):
                bad = bytearray(container)
                bad[at] ^= 1 << at % 8
                code, out, err = self.decode(bad)
                if code == 0:  # not all bits of a zstd frame have a meaning, and a frame can be overwritten as a whole
                    self.assertEqual(out, states[-1], at)
                    continue
                self.assertEqual(code, 1, at)
                self.assertIn(str(self.container) + ": ", err)
                self.assertTrue(out is None if at < 256 else any(s.startswith(out) for s in states), at)

    def test_damaged_frame(self):
        w = Writer()
        w.frame(0, b"a" * 100, 0)
        w.size(150)
        w.frame(200, b"b" * 100, 1)
        bad = w.prefixes[-1][0] - 1
        w.frame(300, b"c" * 100, 0)
        w.seal()
        w.out[bad] ^= 1
        code, out, err = self.decode(w.out)
        self.assertEqual((code, out), (1, bytes(w.logical[:200])))
        self.assertRegex(err, r"frame at \d+, for bytes 200 to 300 of the file: ")
        code, out, _ = self.decode(w.out, "--check")
        self.assertEqual((code, out), (1, None))

    def test_wrong_records(self):
        """Their own checksums are right."""
        for why, wrong in [
            ("content checksum", dict(checksum=1)),
            ("bad fields", dict(coding=1)),
            ("bad fields", dict(coding=1, bases=1)),
            ("bad fields", dict(bases=1)),
            ("bad fields", dict(coding=2)),
            ("number is 2, not 1", dict(number=2)),
        ]:
            w = Writer()
            w.frame(0, b"abcd", 1)
            w.frame(2, b"efgh", 5, **wrong)
            code, out, err = self.decode(w.out)
            self.assertEqual((code, out), (3, b"abcd"), why)
            self.assertIn(why, err)
            w.seal()
            code, out, err = self.decode(w.out)
            self.assertEqual((code, out), (1, b"ab" if "checksum" in wrong else b"abcd"), why)
            self.assertIn(why, err)

    def test_index_that_lies(self):
        w = Writer()
        w.frame(0, b"abcd", 0)
        w.seal(lie=True)
        code, out, err = self.decode(w.out)
        self.assertEqual((code, out), (1, b"abcd"))
        self.assertIn("its extents are not what the log adds up to", err)

    def test_not_for_us(self):
        w = Writer(version=7)
        w.frame(0, b"abcd", 0)
        w.seal()
        code, out, err = self.decode(w.out)
        self.assertEqual((code, out), (2, None))
        self.assertIn("of version 7", err)
        for other in (b"", b"short", bytes(1000)):
            self.assertEqual(self.decode(other)[:2], (2, None))

    def test_never_replaces_the_container(self):
        self.container.write_bytes(example())
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(decoder.main([str(self.container), str(self.container)]), 1)
        self.assertEqual(self.container.read_bytes(), example())


if __name__ == "__main__":
    unittest.main()
