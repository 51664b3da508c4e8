#!/usr/bin/env python3
"""Tests the client scripts on a plain directory, so that what fails on a mount
is the mount."""

import hashlib
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unittest

import pyzstd
from safetensors.torch import load_file, save

HERE = pathlib.Path(__file__).parent


def script(name, *args):
    """Runs a client script; returns its exit code and what it printed."""
    p = subprocess.run([sys.executable, HERE / name, *map(str, args)], capture_output=True, text=True)
    return p.returncode, p.stdout, p.stderr


class Clients(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.dir = pathlib.Path(tmp.name)
        self.sums = self.dir / "sums.json"

    def save(self, name, *args):
        code, out, err = script(name, *args)
        self.assertEqual(code, 0, err)
        self.sums.write_text(out)
        return json.loads(out)["files"]

    def check(self):
        return script("check_model.py", self.dir, self.sums)

    def test_model(self):
        files = self.save("save_model.py", self.dir)
        self.assertEqual(list(files), [f"minilm-{d}.safetensors" for d in ("bf16", "fp16", "fp32")])
        code, out, err = self.check()
        self.assertEqual((code, out.count("bit for bit")), (0, 3), err)

    def test_synthetic(self):
        for nbytes in (300_000, 20_000_000):
            file = self.dir / f"{nbytes}.safetensors"
            files = self.save("save_synthetic.py", file, "--bytes", nbytes, "--seed", 7)
            self.assertEqual(file.read_bytes(), save(load_file(file), metadata={"format": "pt"}))
            self.assertLess(abs(files[file.name]["bytes"] / nbytes - 1), 0.1)
            code, _, err = self.check()
            self.assertEqual(code, 0, err)

    def test_one_bit_is_noticed(self):
        file = self.dir / "small.safetensors"
        size = self.save("save_synthetic.py", file, "--bytes", 200_000)[file.name]["bytes"]
        for at in (size // 2, size - 1):
            data = bytearray(file.read_bytes())
            data[at] ^= 1
            file.write_bytes(data)
            code, _, err = self.check()
            self.assertEqual(code, 1)
            self.assertIn("small.safetensors differs", err)
            data[at] ^= 1
            file.write_bytes(data)

    def test_seekable(self):
        """On frames between skippable frames, each in the seek table, as ours are."""
        rng = random.Random(1)
        content, body, table = b"", b"", b""
        for _ in range(5):
            note, data = rng.randbytes(40), rng.randbytes(70_000)
            frame = pyzstd.compress(data)
            body += struct.pack("<II", 0x184D2A50, len(note)) + note + frame
            table += struct.pack("<IIII", 8 + len(note), 0, len(frame), len(data))
            content += data
        table += struct.pack("<IBI", len(table) // 8, 0, 0x8F92EAB1)
        file = self.dir / "container"
        file.write_bytes(body + struct.pack("<II", 0x184D2A5E, len(table)) + table)
        code, out, err = script("decode_seekable.py", file)
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["bytes"], len(content))
        self.assertEqual(json.loads(out)["sha256"], hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    unittest.main()
