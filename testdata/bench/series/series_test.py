#!/usr/bin/env python3
"""Tests what make bench-series is made of, without training anything, and, where
there is FUSE, by a run over a small series on real mounts."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))
import bench_series
import page
import rivals
import times
import trained


def weights(n, seed):
    return (numpy.random.default_rng(seed).standard_normal(n) * 0.02).astype(numpy.float32)


def results():
    """Of a series of three: 100 bytes each, 60 full, 10 as a delta."""
    files = {
        "raw": 300_000_000,
        "stored": [10_000_000, 10_000_000, 60_000_000],
        "logical": [100_000_000] * 3,
        "bases": [2, 1, 0],
        "xor": [20_000_000, 20_000_000, 70_000_000],
        "patch": [80_000_000, 80_000_000, 90_000_000],
        "coded": 2,
        "bits": 2.0,
        "ours": 10.0,
        "xor_ratio": 5.0,
        "patch_ratio": 1.25,
    }
    of_all = {"checkpoints": 3, "files": 3, "raw": 300_000_000, "full": 180_000_000, "deltas": 80_000_000, "xor": 110_000_000}
    return {
        "date": "2026-01-01",
        "machine": "2 cores",
        "versions": {"zstd": "1"},
        "turns": 5,
        "seconds": 60,
        "others": [0.1],
        "problems": ["pace: no"],
        "order": {"export": ["exported", "bf16, 2e-5, 10"], "fp32": ["weights", "fp32, 2e-5, 10"]},
        "sizes": {
            "export": {
                **of_all,
                "patch": 250_000_000,
                "compact_cpu_seconds": 4.0,
                "compact_seconds": 2.0,
                "names": {"model.safetensors": files},
            }
        },
        "codec": {"export": {"encode": 150e6, "decode": 300e6}},
        "reads": {
            "export": {"bytes": 100_000_000, "depth": 2, "worst": 2.0, "previous": 0.5, "newest": 0.1, "off": 0.1, "random": 5e-3}
        },
        "saves": {"bytes": 500_000_000, "on": 0.5, "off": 0.4, "turns": 5, "finished": 0},
        "pace": {"bytes": 270_000_000, "interval": 32.4, "cpu_seconds": [1.0, 9.0], "left": [0, 0], "coded": 4},
    }


class Page(unittest.TestCase):
    def test_text(self):
        lines = [" ".join(line.split()) for line in page.text(results()).splitlines()]
        for want in (
            "**pace: no**",
            "| export: delta only | ≥ 12.00x | 10.00x | no |",
            "| export: delta only, ours / XOR + zstd | ≥ 2.30x | 2.00x | no |",
            "| saving while the compactor works, against series off | ≥ 0.90x | 0.80x | no |",
            "| export | bf16, 2e-5, 10 | 3 | 300.0 | 180.0 | 80.0 | **3.75x** | 2.73x | 1.20x |",
            "| export | 2 of 3 | 1.67x | **10.00x** | 5.00x | 1.25x | 2.00x | 8.00x | 8.00x |",
            "| export | 150 | 300 | 50 | 100 |",
            "| export | 2 | 50 | 200 | 1000 | 1000 | 5.00 ms |",
        ):
            self.assertIn(want, lines)
        self.assertTrue(any("9.0 s of processor time" in line for line in lines))

    def test_page_has_the_marks(self):
        text = (ROOT / "docs/benchmarks.md").read_text()
        self.assertEqual((text.count(page.BEGIN), text.count(page.END)), (1, 1))

    def test_write(self):
        with tempfile.TemporaryDirectory() as tmp:
            file = pathlib.Path(tmp, "page.md")
            file.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
            for _ in range(2):
                page.write(file, "new")
            self.assertEqual(file.read_text(), f"before\n{page.BEGIN}\n\nnew\n\n{page.END}\nafter\n")


class Rivals(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.dir = pathlib.Path(tmp.name)

    def file(self, name, array):
        path = self.dir / name
        array.tofile(path)
        return path

    def test_of_equal_files_nothing_is_left(self):
        a, b = (self.file(n, weights(100_000, 1)) for n in "ab")
        xor, patch = rivals.measure([a, b], 4)
        self.assertLess(max(xor[0], patch[0]), 1000)
        self.assertGreater(min(xor[1], patch[1]), 300_000)
        self.assertEqual(rivals.difference_bits(a, b, "fp32"), 0)

    def test_difference(self):
        """A step up or down of one unit for half of all weights: 1.5 bits."""
        base = weights(1 << 20, 1).view(numpy.uint32) >> 16 << 16
        base = base[(base >> 16) & 0x7F80 != 0]
        steps = numpy.random.default_rng(2).choice(numpy.array([-1, 0, 0, 1]), len(base)).astype(numpy.int64)
        b = self.file("b", (base >> 16).astype(numpy.uint16))
        a = self.file("a", ((base >> 16).astype(numpy.int64) + steps).astype(numpy.uint16))
        self.assertAlmostEqual(rivals.difference_bits(a, b, "bf16"), 1.5, 2)

    def test_ordinals_are_in_order(self):
        floats = numpy.array([-numpy.inf, -2, -1, -1e-40, 0, 1e-40, 1, 2, numpy.inf], numpy.float32)
        self.assertTrue((numpy.diff(rivals.ordinal(floats.view(numpy.uint32), 32)) > 0).all())

    def test_zstd_fails(self):
        with self.assertRaises(subprocess.CalledProcessError):
            rivals.patch(self.dir / "none", self.dir / "none")


class Series(unittest.TestCase):
    def test_keys_differ(self):
        self.assertEqual(len({s.key for s in trained.SERIES}), len(trained.SERIES))
        runs = {s.run for s in trained.SERIES}
        self.assertEqual(len({r.directory() for r in runs}), len(runs))

    def test_links_count_once(self):
        with tempfile.TemporaryDirectory() as tmp:
            file = pathlib.Path(tmp, "file")
            file.write_bytes(os.urandom(1 << 20))
            once = bench_series.disk_usage(tmp)
            os.link(file, file.with_name("pin"))
            self.assertEqual(bench_series.disk_usage(tmp), once)


class Small:
    """What Run and Series are to bench_series, of three files that were not trained."""

    key, dtype, width, regime = "export", "bf16", 2, "bf16"

    def __init__(self, directory):
        self.files = {}
        w = torch.from_numpy(weights(1 << 18, 1)).reshape(512, -1)
        for step in (1, 2, 3):
            w = w + 0.001 * torch.from_numpy(weights(1 << 18, step + 1)).reshape(512, -1)
            path = directory / f"step-{step}.safetensors"
            save_file({"w": w.bfloat16()}, path)
            self.files[step] = {"model.safetensors": path}

    def checkpoints(self):
        return self.files


@unittest.skipUnless(os.path.exists("/dev/fuse"), "no /dev/fuse")
class Run(unittest.TestCase):
    def test_sizes_and_reads(self):
        program = bench_series.WORK / "mithrilfs"
        program.parent.mkdir(exist_ok=True)
        subprocess.run(["go", "build", "-trimpath", "-o", program, "./cmd/mithrilfs"], cwd=ROOT, check=True)
        with tempfile.TemporaryDirectory(dir=bench_series.WORK) as tmp:
            source = pathlib.Path(tmp, "source")
            source.mkdir()
            series, directory = Small(source), pathlib.Path(tmp, "export")
            s = bench_series.sizes(directory, series)
            self.assertLess(s["deltas"], s["full"])
            self.assertEqual(s["names"]["model.safetensors"]["coded"], 2)
            self.assertGreater(s["names"]["model.safetensors"]["ours"], s["names"]["model.safetensors"]["xor_ratio"])
            reads = times.reads(directory, series, 1)
            self.assertEqual(reads["depth"], 2)
            self.assertGreater(reads["newest"], 0)
            path = next(directory.glob("checkpoint-1/*"))
            series.files[1] = {path.name: series.files[2]["model.safetensors"]}
            with self.assertRaisesRegex(bench_series.bench.Failed, "WRONG BYTES"):
                bench_series.compare(directory, series.checkpoints())


if __name__ == "__main__":
    unittest.main()
