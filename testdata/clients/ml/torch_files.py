"""torch.save and torch.load, in every form that people use."""

import io
import os
import pathlib
import shutil
import tempfile

import torch

from common import Net, check, sums, trained


def flat(optimizer_state):
    return {f"{i}.{k}": v for i, s in optimizer_state["state"].items() for k, v in s.items()}


def save(value, file, **how):
    """The legacy format has addresses in it, so its bits are compared with those
    that this process saves elsewhere."""
    torch.save(value, file, **how)
    if not how.get("_use_new_zipfile_serialization", True):
        elsewhere = io.BytesIO()
        torch.save(value, elsewhere, **how)
        if isinstance(file, str):
            assert pathlib.Path(file).read_bytes() == elsewhere.getvalue(), file


def save_and_load():
    net, optimizer = trained()
    loaded = {}
    for zipped in True, False:
        kind = "zip" if zipped else "legacy"
        how = {"_use_new_zipfile_serialization": zipped}
        save(net, f"module-{kind}.pt", **how)
        save(net.state_dict(), f"state-{kind}.pt", **how)
        save(optimizer.state_dict(), f"optimizer-{kind}.pt", **how)
        save({"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "note": "x" * 5000}, f"all-{kind}.ckpt", **how)
        with open(f"object-{kind}.pt", "wb") as f:
            torch.save(net.state_dict(), f, **how)
        whole = torch.load(f"module-{kind}.pt", weights_only=False)
        assert isinstance(whole, Net) and whole.head.weight is whole.embed.weight
        loaded[f"module-{kind}"] = check(whole.state_dict(), net.state_dict())
        for name in "state", "object":
            check(torch.load(f"{name}-{kind}.pt", weights_only=True), net.state_dict())
        loaded[f"optimizer-{kind}"] = check(flat(torch.load(f"optimizer-{kind}.pt")), flat(optimizer.state_dict()))
        everything = torch.load(f"all-{kind}.ckpt")
        check(everything["model"], net.state_dict())
        assert everything["epoch"] == 3 and everything["note"] == "x" * 5000
    mapped = torch.load("state-zip.pt", mmap=True)
    loaded["mapped"] = check(mapped, net.state_dict())
    mapped["embed.weight"].zero_()  # private
    check(torch.load("state-zip.pt"), net.state_dict())
    torch.save(net.state_dict(), "state-zip.pt")  # over the file that is mapped
    check({k: v for k, v in mapped.items() if k not in ("embed.weight", "head.weight")},
          {k: v for k, v in net.state_dict().items() if k not in ("embed.weight", "head.weight")})
    return loaded


def move_into_place():
    """As Lightning saves: into a temporary file elsewhere, which is then moved,
    and a symbolic link to the last one."""
    net, optimizer = trained()
    for epoch in range(3):
        fd, temporary = tempfile.mkstemp()
        with os.fdopen(fd, "wb") as f:
            torch.save({"epoch": epoch, "state_dict": net.state_dict(), "optimizer_states": [optimizer.state_dict()]}, f)
        name = f"epoch={epoch}.ckpt"
        shutil.move(temporary, name)
        os.chmod(name, 0o644)
        if os.path.lexists("last.ckpt"):
            os.remove("last.ckpt")
        os.symlink(name, "last.ckpt")
        if epoch == 2:
            os.remove("epoch=0.ckpt")
    last = torch.load("last.ckpt")
    assert last["epoch"] == 2
    return check(last["state_dict"], net.state_dict()), sums(flat(last["optimizer_states"][0]))
