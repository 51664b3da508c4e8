#!/usr/bin/env python3
"""Saves a synthetic bf16 transformer of about a given size with save_file.

Every weight is a seeded normal draw times a scale of its row, so nothing
repeats and exponents spread as they do in a trained model. The client holds the
model once, as save_file demands, and little more. Prints the same JSON as
save_model.py. Exits 0 once everything is saved.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

from common import raw, sha256, tensor_sums

BLOCK = 4 << 20  # elements drawn at a time


def shapes(nbytes):
    """Names and shapes of a transformer of nbytes (to within a row) in bf16."""
    elements = nbytes // 2
    hidden = next((h for h in (1024, 512, 256, 128, 64, 32) if elements >= 64 * h * h), 16)
    out = {"model.embed_tokens.weight": (16 * hidden, hidden)}
    layer = {
        "self_attn.q_proj.weight": (hidden, hidden),
        "self_attn.k_proj.weight": (hidden // 4, hidden),
        "self_attn.v_proj.weight": (hidden // 4, hidden),
        "self_attn.o_proj.weight": (hidden, hidden),
        "mlp.gate_proj.weight": (3 * hidden, hidden),
        "mlp.up_proj.weight": (3 * hidden, hidden),
        "mlp.down_proj.weight": (hidden, 3 * hidden),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    size = sum(torch.Size(s).numel() for s in layer.values())
    left = elements - 16 * hidden * hidden
    for i in range(max(left // size, 1)):
        out.update({f"model.layers.{i}.{name}": shape for name, shape in layer.items()})
        left -= size
    out["lm_head.weight"] = (max(left // hidden, 1), hidden)
    return out


def weights(shape, generator):
    """A bf16 tensor of normal draws with one scale for each row."""
    out = torch.empty(shape, dtype=torch.bfloat16)
    rows = out.view(shape[0], -1)
    step = max(BLOCK // rows.shape[1], 1)
    for at in range(0, shape[0], step):
        part = rows[at : at + step]
        scale = 0.02 * torch.exp(0.4 * torch.randn(part.shape[0], 1, generator=generator))
        part.copy_(torch.randn(part.shape, generator=generator) * scale)
    return out


def header(tensors):
    """The header that safetensors gives a file of tensors of a single dtype."""
    entries, at = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        end = at + tensors[name].nbytes
        entries[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("file", type=pathlib.Path)
    p.add_argument("--bytes", type=int, required=True, help="size of the weights, about")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()

    generator = torch.Generator().manual_seed(args.seed)
    tensors = {name: weights(shape, generator) for name, shape in shapes(args.bytes).items()}
    head = header(tensors)
    expected = {
        "bytes": len(head) + sum(t.nbytes for t in tensors.values()),
        "sha256": sha256(head, *(raw(tensors[name]) for name in sorted(tensors))),
        "tensors": tensor_sums(tensors),
    }
    save_file(tensors, args.file, metadata={"format": "pt"})
    print(json.dumps({"files": {args.file.name: expected}}, indent=1))


if __name__ == "__main__":
    main()
