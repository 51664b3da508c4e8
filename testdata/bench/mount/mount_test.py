#!/usr/bin/env python3
"""Tests what make bench-mount is made of, on a directory and, where there is
FUSE, by a quick run of some of its rows on real mounts."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE.parent)]
import bench
import bench_mount
import page
import sides


def cell(seconds, **more):
    return bench_mount.summed([{"seconds": s, "cpu_seconds": s, "bytes": 1 << 30, "repeats": 0, **more} for s in seconds])


def results():
    """Of a run in which ext4 takes one second for everything, and ours half of it."""
    daemon = {
        "daemon_cpu_seconds": 0.9,
        "daemon_read_bytes": 5 << 30,
        "daemon_disk_read_bytes": 1 << 30,
        "daemon_written_bytes": 2 << 30,
        "daemon_rss_bytes": 100 << 20,
    }
    rows = []
    for row in bench_mount.rows(quick=False):
        median = {"median_seconds": 2e-4} if row.key == "random" else {}
        cells = {
            "ext4": cell([1, 0.5, 2], client_read_bytes=7 << 30, **({"median_seconds": 5e-5} if median else {})),
            "null": cell([0.25], **daemon, **median),
            "mithrilfs": cell([0.5], **daemon, **median),
        }
        rows.append({"key": row.key, "what": row.what, "cells": cells})
    return {
        "date": "2026-01-01",
        "quick": False,
        "machine": "2 cores",
        "versions": {"Go": "1"},
        "turns": 3,
        "seconds": 60,
        "others": 0.1,
        "bytes": 600_000_000,
        "large_bytes": 1 << 30,
        "sides": {"ext4": "ext4", "null": "null FUSE", "mithrilfs": "mithrilfs"},
        "ratios": {"ext4": 1.0, "null": None, "mithrilfs": 1.5},
        "rows": rows,
        "problems": ["JuiceFS zstd is not measured: no juicefs"],
    }


class Page(unittest.TestCase):
    def test_median_and_spread(self):
        c = results()["rows"][0]["cells"]["ext4"]
        self.assertEqual((c["seconds"], c["spread"], c["turns"]), (1, 1.5, 3))

    def test_text(self):
        lines = [" ".join(line.split()) for line in page.text(results()).splitlines()]
        for want in (
            "**JuiceFS zstd is not measured: no juicefs**",
            "| save_file: ours / ext4 | ≥ 0.40x | 2.00x | yes |",
            "| save_file: the daemon's processor time per GiB | ≤ 1.00 s | 0.90 s | yes |",
            "| O_DIRECT, libaio 32 × 8 MiB, cold (InstantTensor): ours / null FUSE | ≥ 0.35x | 0.50x | yes |",
            "| random 4 KiB reads, cold: median, ours / ext4's | ≤ 5.00x | 4.00x | yes |",
            "| random faults of a mapping, cold: read / asked by the program | ≤ 8.00x | 5.00x | yes |",
            "| random faults of a mapping, cold: ext4 read / asked by the program | | 7.00x | |",
            "| random faults of a mapping, cold: read / asked by the kernel | ≤ 8.00x | 2.50x | yes |",
            "| get_slice, a quarter of every row, cold: read / stored | ≤ 1.02x | 13.42x | no |",
            "| save_file | 1.07 | 4.29 (4.00x) | 2.15 (2.00x) |",
            "| random 4 KiB reads, cold | 50 µs | 200 µs (0.25x) | 200 µs (0.25x) |",
            "| *ratio of the model on disk* | 1.000 | – | 1.500 |",
            "| load_file, cold | 0.50 | 0.90 | 0.90 | – | 100 MiB | 5.00 | 1.00 |",
        ):
            self.assertIn(want, lines)

    def test_tables_are_aligned(self):
        blocks = page.text(results()).split("\n\n")
        tables = [b.splitlines() for b in blocks if b.startswith("|")]
        self.assertEqual(len(tables), 3)
        for rows in tables:
            self.assertEqual(len({len(row) for row in rows}), 1)

    def test_both_parts_of_the_page_can_be_written(self):
        import report

        old = (ROOT / "docs/benchmarks.md").read_text()
        with tempfile.TemporaryDirectory() as tmp:
            file = pathlib.Path(tmp, "page.md")
            file.write_text(old)
            for _ in range(2):
                page.write(file, "the mount's")
                report.write(file, "the codec's")
            new = file.read_text()
        before, rest = old.split(report.BEGIN)
        between, rest = rest.split(report.END)[1].split(page.BEGIN)
        after = rest.split(page.END)[1]
        self.assertEqual(
            new,
            f"{before}{report.BEGIN}\n\nthe codec's\n\n{report.END}{between}"
            f"{page.BEGIN}\n\n![times as fast as ext4](mount.svg)\n\nthe mount's\n\n{page.END}{after}",
        )

    def test_picture(self):
        picture = xml.etree.ElementTree.fromstring(page.svg(results()))
        words = "".join(picture.itertext())
        for want in ("load_file, cold", "mithrilfs", "null FUSE", "4.00x"):
            self.assertIn(want, words)


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tmp = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.tmp.cleanup)
        cls.dir = pathlib.Path(cls.tmp.name)
        cls.model = cls.dir / "model.safetensors"
        script = ROOT / "testdata/clients/save_synthetic.py"
        subprocess.run([sys.executable, script, cls.model, "--bytes", "8000000"], check=True, stdout=subprocess.DEVNULL)
        cls.clients = bench_mount.Clients(cls.model)
        cls.addClassCleanup(cls.clients.close)

    def test_save_is_checked(self):
        copy = self.dir / "copy.safetensors"
        self.assertEqual(self.clients({"op": "save", "path": copy, "fsync": True})["bytes"], self.model.stat().st_size)
        self.clients({"op": "check", "path": copy})
        with open(copy, "r+b") as f:
            f.seek(5_000_000)
            byte = f.read(1)
            f.seek(5_000_000)
            f.write(bytes([byte[0] ^ 1]))
        with self.assertRaisesRegex(bench.Failed, "WRONG BYTES"):
            self.clients({"op": "check", "path": copy})

    def test_readers_read_all(self):
        size = self.model.stat().st_size
        weights = size - 8 - int.from_bytes(self.model.read_bytes()[:8], "little")
        for op, want in (
            ("load", weights),
            ("load_by_name", weights),
            ("load_by_many", 4 * size),
            ("read_pieces", size),
            ("read_streams", size),
        ):
            result = self.clients({"op": op, "path": self.model})
            self.assertEqual(result["bytes"], want, op)
            self.assertGreater(result["seconds"], 0)
        part = self.clients({"op": "load_slices", "path": self.model})["bytes"]
        self.assertAlmostEqual(part / weights, 1 / 4, 2)

    def test_touches(self):
        for op in ("fault", "read_random"):
            result = self.clients({"op": op, "path": self.model, "count": 10, "seed": 1})
            self.assertEqual(result["bytes"], 10 * 4096)

    def test_failure(self):
        with self.assertRaisesRegex(bench.Failed, "FileNotFoundError"):
            self.clients({"op": "load", "path": self.dir / "missing"})


class Sides(unittest.TestCase):
    def test_missing(self):
        with tempfile.TemporaryDirectory() as tmp:
            with self.assertRaisesRegex(sides.Missing, "no juicefs"):
                sides.JuiceFS(pathlib.Path(tmp, "juicefs"), None).setup()
            with self.assertRaisesRegex(sides.Missing, "false does not mount"):
                sides.Null(pathlib.Path(tmp, "null"), "false").setup()

    @unittest.skipUnless(os.access("/dev/fuse", os.W_OK) and os.geteuid() == 0, "it takes FUSE and root")
    def test_quick_run(self):
        env = {**os.environ, "BENCH_QUICK": "1", "BENCH_MEGABYTES": "8", "BENCH_ROWS": "save load-cold random"}
        with tempfile.NamedTemporaryFile() as out:
            p = subprocess.run([HERE / "run", "--json", out.name], env=env, capture_output=True, text=True)
            self.assertEqual(p.returncode, 0, p.stderr)
            found = json.load(out)
        self.assertEqual(found["problems"], [])
        self.assertEqual(list(found["sides"]), ["ext4", "null", "mithrilfs"])
        self.assertEqual([r["key"] for r in found["rows"]], ["save", "load-cold", "random"])
        for r in found["rows"]:
            self.assertEqual(list(r["cells"]), ["ext4", "null", "mithrilfs"])
        self.assertGreater(found["ratios"]["mithrilfs"], 1.4)


if __name__ == "__main__":
    unittest.main()
