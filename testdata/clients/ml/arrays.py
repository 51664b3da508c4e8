"""numpy, gguf, and safetensors without torch."""

import hashlib
import json
import pathlib
import subprocess
import sys

import gguf
import numpy as np

ROWS = 600


def weights(seed, *shape, dtype=np.float32):
    return (np.random.default_rng(seed).standard_normal(shape) * 0.02).astype(dtype)


def sha(a):
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


def numpy_files():
    a, b, c = weights(1, ROWS, 500), weights(2, ROWS, 300, dtype=np.float16), np.arange(40_000)
    np.save("a.npy", a)
    np.save("fortran.npy", np.asfortranarray(b))
    np.save("big.npy", a.astype(">f8"))
    np.savez("some.npz", a=a, b=b, c=c)
    np.savez_compressed("packed.npz", a=a, c=c)
    with open("three.npy", "wb") as f:
        for x in a, b, c:
            np.save(f, x)
    a.tofile("flat.bin")
    np.savetxt("text.csv", a[:200])
    assert (np.load("a.npy") == a).all() and (np.load("fortran.npy") == b).all() and (np.load("big.npy") == a).all()
    assert (np.load("a.npy", mmap_mode="r") == a).all() and (np.fromfile("flat.bin", np.float32) == a.ravel()).all()
    with np.load("some.npz") as z, np.load("packed.npz") as p:
        assert (z["a"] == a).all() and (z["b"] == b).all() and (z["c"] == c).all() and (p["a"] == a).all()
    with open("three.npy", "rb") as f:
        assert all((np.load(f) == x).all() for x in (a, b, c))
    return [sha(x) for x in (a, b, c)] + mapped()


def mapped():
    want = weights(3, ROWS, 700)
    m = np.memmap("mapped.bin", np.float32, "w+", shape=want.shape)
    for row in np.random.default_rng(4).permutation(ROWS):
        m[row] = want[row]
    del m
    m = np.lib.format.open_memmap("mapped.npy", "w+", np.float32, want.shape)
    m[:] = want
    m.flush()
    m[5:9] *= 2
    want[5:9] *= 2
    del m
    m = np.load("mapped.npy", mmap_mode="r+")
    m[:, 3] = 1
    want[:, 3] = 1
    del m
    assert (np.load("mapped.npy") == want).all()
    return [sha(np.fromfile("mapped.bin", np.float32)), sha(want)]


def gguf_files():
    w = gguf.GGUFWriter("model.gguf", "llama")
    w.add_block_count(2)
    w.add_tokenizer_model("llama")
    w.add_token_list([f"token{i}" for i in range(5000)])
    tensors = {
        "token_embd.weight": (weights(5, 1000, 256, dtype=np.float16), None),
        "blk.0.attn_q.weight": (gguf.quants.quantize(weights(6, 256, 256), gguf.GGMLQuantizationType.BF16), gguf.GGMLQuantizationType.BF16),
        "blk.0.attn_k.weight": (gguf.quants.quantize(weights(7, 256, 256), gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0),
        "blk.0.attn_norm.weight": (weights(8, 256), None),
        "blk.0.ffn_up.weight": (weights(9, 300, 256), None),
    }
    for name, (data, dtype) in tensors.items():
        w.add_tensor(name, data, raw_dtype=dtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    loaded = {}
    for t in gguf.GGUFReader("model.gguf").tensors:  # maps the file
        assert t.data.tobytes() == tensors[t.name][0].tobytes(), t.name
        loaded[t.name] = t.tensor_type.name, sha(t.data)
    assert len(loaded) == len(tensors)
    return loaded


# Each release in a process of its own. 0.8 saves by truncating to the final size
# and renaming, the older ones by appending.
SAVE = """
import json, sys
import numpy as np, safetensors
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
assert safetensors.__version__ == sys.argv[1], safetensors.__version__
rng = np.random.default_rng(1)
t = {f"layer.{i}.weight": (rng.standard_normal((400, 300 + i)) * 0.02).astype(d) for i, d in enumerate((np.float32, np.float16, np.float64))}
t |= {"ids": np.arange(30_000), "flag": np.ones(7, bool), "scalar": np.array(3, np.float32), "empty": np.zeros((0, 4), np.float32)}
for name in "model.safetensors", "again.safetensors", "again.safetensors":  # the last one over what is there
    save_file(t, name, metadata={"format": "np"})
have = load_file("model.safetensors")
assert have.keys() == t.keys() and all(have[k].dtype == t[k].dtype and have[k].tobytes() == t[k].tobytes() for k in t)
with safe_open("again.safetensors", "numpy") as f:
    assert sorted(f.keys()) == sorted(t)
    assert (f.get_slice("layer.0.weight")[37:40, 10:200] == t["layer.0.weight"][37:40, 10:200]).all()
"""


def other_safetensors(version, path):
    """Runs SAVE with the release that lies at path, or with the installed one."""
    env = {"PYTHONPATH": str(path)} if path else {}
    subprocess.run([sys.executable, "-B", "-c", SAVE, version], check=True, env=env)
    return [(p.name, p.stat().st_size) for p in sorted(pathlib.Path().iterdir())]


def beside(version):
    path = pathlib.Path(sys.prefix) / f"safetensors-{version}"
    if not path.is_dir():
        raise ImportError(f"no safetensors {version}: there is no {path}")
    return other_safetensors(version, path)


def safetensors_0_4_5():
    return beside("0.4.5")


def safetensors_0_7_0():
    return beside("0.7.0")


def safetensors_0_8_0():
    return other_safetensors("0.8.0", None)
