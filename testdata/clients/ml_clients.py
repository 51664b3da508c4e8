#!/usr/bin/env python3
"""Saves and loads with the libraries that people train with: once in a plain
directory, once in another, which may be a mount, and compares every bit of what
is left there and every value that was loaded.

    ml_clients.py PLAIN OTHER [CLIENT...]

Prints, as JSON, for each client how long the two runs took, in seconds, what
differed ("problem") or why it could not run ("skipped"), and which files hold a
time or an identity of their own ("volatile"), so that only what was loaded from
them was compared.
"""

import contextlib
import fnmatch
import hashlib
import json
import os
import pathlib
import random
import stat
import sys
import time
import traceback

os.environ.update(HF_HUB_OFFLINE="0", HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1",
                  NO_PROXY="*", TOKENIZERS_PARALLELISM="false", GLOO_SOCKET_IFNAME="lo", CUDA_VISIBLE_DEVICES="")
sys.path.insert(0, str(pathlib.Path(__file__).parent / "ml"))

import numpy
import torch

CLIENTS = {
    # name: module and function in ml/, volatile files
    "dcp": ("distributed.save_and_load", ["*/.metadata"]),
    "torch": ("torch_files.save_and_load", ["*-legacy.*"]),
    "lightning": ("torch_files.move_into_place", []),
    "numpy": ("arrays.numpy_files", []),
    "gguf": ("arrays.gguf_files", []),
    "safetensors-0.4.5": ("arrays.safetensors_0_4_5", []),
    "safetensors-0.7.0": ("arrays.safetensors_0_7_0", []),
    "safetensors-0.8.0": ("arrays.safetensors_0_8_0", []),
    "transformers": ("models.save_pretrained", []),
    "trainer": ("models.train_rotate_resume", []),
    "accelerate": ("models.save_state", []),
    "offload": ("models.disk_offload", []),
    "peft": ("models.adapters", []),
    "hub": ("hub.download", ["local/.cache/*.metadata"]),
}


def tree(root, volatile):
    """Type, mode and content of everything below root, but for volatile files."""
    found = {}
    for path in sorted(root.rglob("*")):
        name, st = str(path.relative_to(root)), path.lstat()
        mode = stat.filemode(st.st_mode)
        if path.is_symlink():
            found[name] = mode, os.readlink(path)
        elif path.is_dir():
            found[name] = (mode,)
        elif any(fnmatch.fnmatch(name, pattern) for pattern in volatile):
            found[name] = (mode,)
        else:
            found[name] = mode, st.st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def run(function, directory):
    """Runs a client in a directory, from the same state every time."""
    directory.mkdir()
    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    before = os.getcwd()
    os.chdir(directory)
    try:
        return function()
    finally:
        os.chdir(before)


def compare(name, spec, plain, other):
    """Runs one client in both directories."""
    where, volatile = spec
    module, function = where.split(".")
    try:
        function = getattr(__import__(module), function)
    except ImportError as e:
        return {"skipped": str(e)}
    report = {"volatile": volatile}
    results, trees = [], []
    for root in plain, other:
        began = time.monotonic()
        try:
            results.append(run(function, root / name))
        except ImportError as e:
            return {"skipped": str(e)}
        except Exception:
            report["problem"] = f"in {root}:\n{traceback.format_exc()}"
            return report
        report["seconds"] = report.get("seconds", []) + [round(time.monotonic() - began, 2)]
        trees.append(tree(root / name, volatile))
    want, got = trees
    if len(want) == 0:
        report["problem"] = "nothing was saved"
    for path in sorted(want.keys() | got.keys()):
        if want.get(path) != got.get(path):
            report["problem"] = f"{path} is {got.get(path)}, want {want.get(path)}"
    if results[0] != results[1]:
        report["problem"] = f"it loaded {results[1]}, want {results[0]}"
    return report


def main():
    plain, other = map(pathlib.Path, sys.argv[1:3])
    names = sys.argv[3:] or list(CLIENTS)
    torch.set_num_threads(1)
    report = {}
    with contextlib.redirect_stdout(sys.stderr):
        for name in names:
            report[name] = compare(name, CLIENTS[name], plain.resolve(), other.resolve())
    print(json.dumps(report))


if __name__ == "__main__":
    main()
