"""The series of make bench-series, and the training runs that they are from.

A run is made once, and lies in the user's cache under a name that says by which
script and with which torch."""

import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import bench

MAKE = pathlib.Path(__file__).resolve().parents[2] / "series/make.py"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mithrilfs"


@dataclasses.dataclass(frozen=True)
class Run:
    """What make.py trains."""

    kinds: tuple
    steps: int
    every: int
    lr: str = "2e-5"

    def directory(self):
        key = repr((self.kinds, self.steps, self.every, self.lr, torch.__version__)).encode() + MAKE.read_bytes()
        return CACHE / f"series-{'-'.join(self.kinds)}-{hashlib.sha256(key).hexdigest()[:12]}"

    def train(self):
        """Makes the checkpoints if they are not there; returns their directory."""
        done = self.directory()
        if done.exists():
            return done
        print(f"bench: training {','.join(self.kinds)}, {self.steps} steps, lr {self.lr}", file=sys.stderr)
        partial = done.with_name(f"{done.name}.{os.getpid()}")
        try:
            bench.run([sys.executable, MAKE, partial, ",".join(self.kinds), self.steps, self.every, "--lr", self.lr])
            os.rename(partial, done)
        except OSError:
            if not done.exists():  # another bench may have been first
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return done


@dataclasses.dataclass(frozen=True)
class Series:
    """Checkpoints of a run as one kind of client saves them."""

    key: str
    what: str
    dtype: str
    run: Run
    kind: str

    @property
    def width(self):
        """Bytes of an element."""
        return 4 if self.dtype == "fp32" else 2

    @property
    def regime(self):
        return f"{self.dtype}, {self.run.lr}, {self.run.every}"

    def checkpoints(self):
        """The checkpoints by step, each the files of it by name."""
        top = self.run.train()
        if len(self.run.kinds) > 1:
            top /= self.kind
        found = {}
        for p in top.iterdir():
            m = re.fullmatch(r"step-(\d+)\.safetensors|checkpoint-(\d+)", p.name)
            if not m:
                continue
            files = {f.name: f for f in p.iterdir() if f.is_file()} if p.is_dir() else {"model.safetensors": p}
            found[int(m[1] or m[2])] = files
        return dict(sorted(found.items()))


FP32 = Run(("fp32", "fp16"), 60, 10)

SERIES = [
    Series("export", "fp32 training exported as bf16", "bf16", Run(("export",), 120, 10), "export"),
    Series("bf16", "training in bf16 itself", "bf16", Run(("bf16",), 120, 10), "bf16"),
    Series("higher-rate", "as export, the learning rate higher", "bf16", Run(("export",), 60, 10, "1e-4"), "export"),
    Series("pretraining", "as export, at the learning rate of pre-training", "bf16", Run(("export",), 200, 50, "1e-3"), "export"),
    Series("fp16", "fp32 training exported as fp16", "fp16", FP32, "fp16"),
    Series("fp32", "fp32 weights", "fp32", FP32, "fp32"),
    Series("trainer", "fp32 weights and AdamW's state, as the Trainer saves them", "fp32", Run(("trainer",), 50, 10), "trainer"),
    Series("frozen", "fp32 weights of which the last layers train", "fp32", Run(("frozen",), 60, 10), "frozen"),
    Series("lora", "adapters of rank 8, and the model beside them each time", "fp32", Run(("lora",), 60, 10, "2e-4"), "lora"),
]
