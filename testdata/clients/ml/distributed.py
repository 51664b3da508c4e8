"""torch.distributed.checkpoint in two processes."""

import os
import tempfile

import torch
import torch._dynamo  # distribute_tensor would import it in each process
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from common import check

RANKS = 2


def state(mesh, values):
    """Sharded, replicated and other values."""
    return {
        "model": {name: distribute_tensor(t, mesh, [Shard(0)]) for name, t in values.items()},
        "norm": values["a"][0].clone(),
        "epoch": 7,
        "words": ["some", "words"],
    }


def values():
    g = torch.Generator().manual_seed(3)
    return {"a": torch.randn(301, 128, generator=g), "b": torch.randn(64, 900, generator=g).to(torch.bfloat16),
            "c": torch.arange(50_000)}


def rank(number, meeting, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=number, world_size=RANKS)
    mesh = init_device_mesh("cpu", (RANKS,))
    want = state(mesh, values())
    for step in "step-1", "step-2", "step-2":  # the last one over what is there
        dcp.save(want, checkpoint_id=step)
        dist.barrier()
    have = state(mesh, {name: torch.zeros_like(t) for name, t in values().items()})
    have["epoch"] = 0
    dcp.load(have, checkpoint_id="step-2")
    assert have["epoch"] == 7 and have["words"] == want["words"]
    got = check({name: t.to_local() for name, t in have["model"].items()}, {name: t.to_local() for name, t in want["model"].items()})
    check({"norm": have["norm"]}, {"norm": want["norm"]})
    results.put((number, got))
    dist.barrier()
    dist.destroy_process_group()


def save_and_load():
    # A fork has torch already, and a free port is not needed.
    mp = torch.multiprocessing.get_context("fork")
    results = mp.SimpleQueue()
    with tempfile.TemporaryDirectory() as d:
        ranks = [mp.Process(target=rank, args=(i, os.path.join(d, "meeting"), results)) for i in range(RANKS)]
        for p in ranks:
            p.start()
        for p in ranks:
            p.join(120)
        assert [p.exitcode for p in ranks] == [0] * RANKS, [p.exitcode for p in ranks]
    loaded = sorted(results.get() for _ in ranks)
    # One process loads what two saved, and turns it into a file for torch.load.
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
    dcp_to_torch_save("step-1", "whole.pt")
    whole = torch.load("whole.pt", weights_only=False)
    return loaded, check(whole["model"], values())
