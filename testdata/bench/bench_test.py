#!/usr/bin/env python3
"""Tests what make bench is made of, but for the contenders that it installs."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))
import bench
import chart
import report


def turn(size, ratio, encode, decode, **more):
    threads = [
        {"threads": n, "encode_bytes_per_second": n * encode, "decode_bytes_per_second": n * decode} for n in (1, 2)
    ]
    return {"logical_bytes": size, "encoded_bytes": round(size / ratio), "memory_bytes": size, "threads": threads, **more}


def results():
    """Of a run of which ours encodes at 1, 2 and 3 GB/s on one thread."""
    ours = bench.summed([turn(10**8, 1.5, s * 1e9, 4e9, entropy_ratio=1.505) for s in (1, 3, 2)])
    zipnn = bench.summed([turn(10**8, 1.49, 0.5e9, 1e9, exact=False)])
    slow = bench.summed([{**turn(10**7, 1.3, 2e6, 1e9), "threads": turn(10**7, 1.3, 2e6, 1e9)["threads"][:1]}])
    files = [
        {
            "name": f"{name}.safetensors",
            "what": "real & trained",
            "bytes": 10**8,
            "results": {"mithrilfs": ours, "zipnn": zipnn, "zstd-19": slow, "memcpy": ours},
            "problems": {"grouped": "exit status 1"},
        }
        for name in ("minilm-bf16", "minilm-fp32", "random")
    ]
    return {
        "date": "2026-01-01",
        "quick": False,
        "machine": "2 cores",
        "cpus": 2,
        "versions": {"Go": "1", "ZipNN": "2", "zstd": "3", "klauspost/compress": "4", "pyzstd": "5"},
        "turns": 3,
        "seconds": 60,
        "others": 0.1,
        "contenders": bench.CONTENDERS,
        "files": files,
    }


class Report(unittest.TestCase):
    def test_median_and_spread(self):
        ours = results()["files"][0]["results"]["mithrilfs"]
        self.assertEqual((ours["encode_one"], ours["encode_all"], ours["encode_one_spread"]), (2e9, 4e9, 1))

    def test_text(self):
        lines = [" ".join(line.split()) for line in report.text(results()).splitlines()]
        for want in (
            "| mithrilfs | 1.500 | 2.00 | 4.00 | 4.00 | 8.00 | 100 MB |",
            "| ZipNN (NOT EXACT) | 1.490 | 0.50 | 1.00 | 1.00 | 2.00 | 100 MB |",
            "| zstd -19 (9 MiB of it) | 1.300 | 0.0020 | – | 1.00 | – | 10 MB |",
            "| byte grouping + zstd -3 (failed: exit status 1) | – | – | – | – | – | – |",
            "| *order-0 entropy* | *1.505* | | | | | |",
            "| minilm-bf16: encode, ours / ZipNN, 2 threads | ≥ 4.00x | 4.00x | yes |",
            "| minilm-bf16: ratio below order-0 entropy | ≤ 0.60% | 0.33% | yes |",
            "| minilm-fp32: encode, 2 threads | ≥ 2.50 GiB/s | 3.73 GiB/s | yes |",
            "| random: growth | ≤ 0.0100% | 0.0000% | yes |",
        ):
            self.assertIn(want, lines)

    def test_tables_are_aligned(self):
        blocks = report.text(results()).split("\n\n")
        tables = [b.splitlines() for b in blocks if b.startswith("|")]
        self.assertEqual(len(tables), 4)
        for rows in tables:
            self.assertEqual(len({len(row) for row in rows}), 1)

    def test_write(self):
        with tempfile.TemporaryDirectory() as tmp:
            file = pathlib.Path(tmp, "page.md")
            file.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
            for _ in range(2):
                report.write(file, "new")
            self.assertEqual(file.read_text(), f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n")

    def test_page_has_the_marks(self):
        page = (ROOT / "docs/benchmarks.md").read_text()
        self.assertEqual((page.count(report.BEGIN), page.count(report.END)), (1, 1))

    def test_chart(self):
        picture = xml.etree.ElementTree.fromstring(chart.svg(results()))
        words = "".join(picture.itertext())
        for want in ("Real & trained: encode", "mithrilfs", "ZipNN", "zstd -19 (0.002 GB/s)", "order-0 entropy"):
            self.assertIn(want, words)


class Contenders(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.file = pathlib.Path(tmp.name, "file")
        # Not a multiple of any element, and every second byte says nothing.
        self.file.write_bytes(b"".join(bytes([random.Random(i).randrange(256), 7]) for i in range(100_000)) + b"x")

    def check(self, result, threads):
        self.assertEqual(result["logical_bytes"], 200_001)
        self.assertEqual([t["threads"] for t in result["threads"]], threads)
        for t in result["threads"]:
            self.assertGreater(t["encode_bytes_per_second"], 0)

    def test_zstd(self):
        result = bench.Bench(None, 0).zstd(1, self.file)
        self.check(result, sorted({1, bench.CPUS}))
        self.assertLess(result["encoded_bytes"], 190_000)

    def test_grouped(self):
        out, _ = bench.run([sys.executable, HERE / "contender.py", "--time", 0, "grouped", "bf16", self.file])
        result = json.loads(out)
        self.check(result, sorted({1, bench.CPUS}))
        self.assertTrue(result["exact"])
        self.assertAlmostEqual(result["encoded_bytes"] / 100_000, 1, 2)

    def test_peers(self):
        # No ./... pattern comes here, so that nothing else compiles it.
        peers = self.file.with_name("peers")
        subprocess.run(["go", "vet", "./testdata/bench/peers"], cwd=ROOT, check=True)
        subprocess.run(["go", "build", "-o", peers, "./testdata/bench/peers"], cwd=ROOT, check=True)
        for name, most in (("klauspost", 190_000), ("memcpy", 200_001)):
            result = json.loads(bench.run([peers, "-time", "1ms", name, self.file], {"GOMAXPROCS": "2"})[0])
            self.check(result, [1, 2])
            self.assertLessEqual(result["encoded_bytes"], most)

    def test_failure(self):
        with self.assertRaisesRegex(bench.Failed, "exit status 3 the end"):
            bench.run([sys.executable, "-c", "import sys; print('the end', file=sys.stderr); sys.exit(3)"])
        with self.assertRaisesRegex(bench.Failed, "exit status -9"):
            bench.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])

    def test_sample(self):
        self.assertEqual(bench.sample(self.file), self.file)


if __name__ == "__main__":
    unittest.main()
