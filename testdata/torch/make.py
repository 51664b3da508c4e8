#!/usr/bin/env python3
"""Makes the files of this folder with the real torch, and truth.json, which says
where in them the storages are, and of which class.

usage: make.py [OUT]

The truth comes from zipfile and pickle, which share no code with mithrilfs.
"""
import io
import json
import os
import pickle
import struct
import sys
import warnings
import zipfile

warnings.simplefilter("ignore")
import torch
import torch.distributed.checkpoint as dcp
from torch.utils.serialization import config

out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(1)


def weights(*shape, dtype=torch.float32):
    return (torch.randn(*shape) * 0.02).to(dtype)


class Args:
    """An object of the program's own, as training scripts save along."""

    def __init__(self):
        self.lr, self.layers = 1e-3, [1, 2, 3]


def objects():
    model = torch.nn.Sequential(torch.nn.Linear(48, 32), torch.nn.LayerNorm(32), torch.nn.Linear(32, 16))
    sd = model.state_dict()
    yield "state_dict", sd
    yield "module", model
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        opt.zero_grad()
        model(torch.randn(4, 48)).square().mean().backward()
        opt.step()
    yield "optimizer", opt.state_dict()
    yield "nested", {
        "args": Args(), "epoch": 3, "loss": 0.25, "done": False, "none": None, "big": 1 << 40, "huge": 1 << 80,
        "model": {"layers": [{"w": weights(24, 32)}, {"w": weights(24, 32), "b": (weights(1000), weights(7))}]},
        "rng": torch.get_rng_state(), "numbers": list(range(1500)), "names": {str(i): i for i in range(20)},
    }
    base = weights(64, 33)
    yield "views", {
        "all": base, "rows": base[3:5], "tied": base.detach(), "same": base, "first": base[0],
        "halves": dict(zip("ab", weights(2, 40, 32).unbind())), "transposed": weights(30, 40).t(),
        "parameter": torch.nn.Parameter(weights(30, 30)), "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4),
        "meta": torch.empty(3, device="meta"), "storage": torch.randn(900).untyped_storage(),
    }
    types = {str(d)[6:]: weights(40, 32, dtype=d) for d in (torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
                                                            torch.float8_e5m2, torch.complex64, torch.complex128)}
    types |= {str(d)[6:]: torch.randint(0, 100, (1500,)).to(d) for d in (torch.int64, torch.int32, torch.int16, torch.int8,
                                                                            torch.uint8, torch.uint16, torch.uint32, torch.bool)}
    types["qint8"] = torch.quantize_per_tensor(weights(50, 60), 0.01, 0, torch.qint8)
    types["per_channel"] = torch.quantize_per_channel(weights(3, 900), torch.tensor([0.1, 0.2, 0.3]), torch.zeros(3), 0, torch.qint8)
    types["sparse"] = weights(30, 40).to_sparse()
    types["csr"] = weights(30, 40).to_sparse_csr()
    yield "types", types


def records(f):
    """Where the data of each record begins."""
    z = zipfile.ZipFile(f)
    at = {}
    for i in z.infolist():
        f.seek(i.header_offset + 26)
        name, extra = struct.unpack("<HH", f.read(4))
        at[i.filename.partition("/")[2]] = (i.header_offset + 30 + name + extra, i.file_size)
    return at


SIZES = {n + "Storage": s for n, s in dict(Float=4, Double=8, Half=2, BFloat16=2, Long=8, Int=4, Short=2, Char=1, Byte=1, Bool=1,
                                         ComplexFloat=8, ComplexDouble=16, QInt8=1, Untyped=1).items()}


class Storages(pickle.Unpickler):
    """Finds keys and sizes of storages; everything else becomes nothing."""

    def __init__(self, f):
        super().__init__(f, encoding="latin1")
        self.storages = {}

    def find_class(self, module, name):
        if str(name).endswith("Storage"):
            return type(name, (), {})

        class Any(dict):
            def __new__(cls, *args, **kw):
                return super().__new__(cls)

            def __init__(self, *args, **kw):
                pass

            def __setstate__(self, state):
                pass

            def append(self, x):
                pass

            def __hash__(self):
                return 1

        return Any

    def persistent_load(self, pid):
        if pid[0] == "storage":
            kind = pid[1].__name__
            self.storages[pid[2]] = pid[4] * SIZES[kind], pid[4], kind
            return None
        return self.find_class(*pid[:2])  # the class of a module, with its source


def truth_zip(f):
    at = records(f)
    f.seek(at["data.pkl"][0])
    u = Storages(f)
    u.load()
    for key, (size, _, _) in u.storages.items():
        assert at["data/" + key][1] == size, key
    return sorted((at["data/" + key][0], at["data/" + key][0] + size, kind) for key, (size, _, kind) in u.storages.items())


def truth_legacy(f):
    f.seek(0)
    for _ in range(3):
        pickle.load(f)
    u = Storages(f)
    u.load()
    spans = []
    for key in pickle.load(f):
        size, count, kind = u.storages[key]
        assert struct.unpack("<q", f.read(8))[0] == count, key
        spans.append((f.tell(), f.tell() + size, kind))
        f.seek(size, 1)
    assert f.read() == b""
    return spans


def rewritten(src, order, alter=lambda name, data: data):
    """The archive with its records in another order, by torch's own writer."""
    z = zipfile.ZipFile(src)
    names = {n.partition("/")[2]: n for n in z.namelist()}
    buf = io.BytesIO()
    w = torch._C.PyTorchFileWriter(buf)
    for n in order([n for n in names if n not in ("version", ".data/serialization_id")]):
        data = alter(n, z.read(names[n]))
        w.write_record(n, data, len(data))
    w.write_end_of_file()
    return buf.getvalue()


def main():
    truth = {}

    def put(name, data, spans):
        with open(os.path.join(out, name), "wb") as f:
            f.write(data)
        truth[name] = spans

    def saved(obj, **kw):
        buf = io.BytesIO()
        torch.save(obj, buf, **kw)
        return buf

    for name, obj in objects():
        buf = saved(obj)
        put(name + ".pt", buf.getvalue(), truth_zip(buf))
        if name != "types":  # legacy has no fp8
            buf = saved(obj, _use_new_zipfile_serialization=False)
            put(name + ".legacy.pt", buf.getvalue(), truth_legacy(buf))
        if name == "state_dict":
            config.save.storage_alignment = 4096
            buf = saved(obj)
            put("aligned.pt", buf.getvalue(), truth_zip(buf))
            config.save.storage_alignment = 64
            torch.serialization.set_crc32_options(False)
            buf = saved(obj)
            put("no_crc.pt", buf.getvalue(), truth_zip(buf))
            torch.serialization.set_crc32_options(True)
            buf = saved(obj, pickle_protocol=4)  # opcodes that torch does not load either
            put("protocol4.pt", buf.getvalue(), truth_zip(buf))
        if name == "optimizer":
            old = rewritten(saved(obj), lambda names: sorted(n for n in names if n == "data.pkl" or n.startswith("data/")))
            put("lexicographic.pt", old, truth_zip(io.BytesIO(old)))
            big = rewritten(saved(obj), lambda names: names, lambda n, data: b"big" if n == "byteorder" else data)
            put("big_endian.pt", big, truth_zip(io.BytesIO(big)))
            zeros = io.BytesIO()
            with zipfile.ZipFile(saved(obj)) as src, zipfile.ZipFile(zeros, "w") as dst:  # sizes in the headers
                for i in src.infolist():
                    dst.writestr(zipfile.ZipInfo(i.filename), src.read(i))
            put("rezipped.pt", zeros.getvalue(), truth_zip(zeros))
    tensors = {"model": {"w": weights(80, 60), "b": weights(3000, dtype=torch.bfloat16)}, "step": torch.tensor(3.0), "lr": 0.1, "epoch": 3}
    folder = os.path.join(out, "dcp")
    dcp.save(tensors, checkpoint_id=folder, no_dist=True)
    with open(os.path.join(folder, "__0_0.distcp"), "rb") as f:
        data = f.read()
    for n in os.listdir(folder):
        os.remove(os.path.join(folder, n))
    os.rmdir(folder)
    spans, base = [], 0
    for piece in data.split(b"PK\x05\x06")[:-1]:  # small enough that none occurs by chance
        piece = data[base:base + len(piece) + 22 - (0 if base == 0 else 18)]
        spans += [(base + b, base + e, kind) for b, e, kind in truth_zip(io.BytesIO(piece))]
        base += len(piece)
    assert base == len(data)
    put("dcp.distcp", data, spans)
    with open(os.path.join(out, "truth.json"), "w") as f:
        json.dump({k: truth[k] for k in sorted(truth)}, f, separators=(",", ":"))
        f.write("\n")


main()
