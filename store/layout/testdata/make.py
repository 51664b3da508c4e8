#!/usr/bin/env python3
"""Makes the fixtures beside this file with numpy and gguf, the libraries that
people save with. expected.json has what those libraries read back: for each
file its arrays, in file order, with their first byte and length.

The files are made again only when a fixture is added:

    $(.ci/setup) store/layout/testdata/make.py
"""

import io
import json
import pathlib
import zipfile

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent
RNG = np.random.default_rng(1)


def weights(*shape, dtype=np.float32):
    return (RNG.standard_normal(shape) * 0.02).astype(dtype)


def npy_place(f):
    """Reads one array's header at the file's position; leaves it after the array."""
    version = np.lib.format.read_magic(f)
    shape, _, dtype = np.lib._format_impl._read_array_header(f, version, max_header_size=1 << 20)
    begin, length = f.tell(), int(np.prod(shape, dtype=np.uint64)) * dtype.itemsize
    f.seek(length, 1)
    name = np.lib.format.dtype_to_descr(dtype)
    return {"dtype": name if isinstance(name, str) else dtype.str, "shape": list(shape), "begin": begin, "length": length}


def npy(name, *arrays):
    with open(HERE / name, "w+b") as f:
        for a in arrays:
            np.save(f, a)
        end = f.tell()
        f.seek(0)
        places = []
        while f.tell() < end:
            places.append({"name": f"arr_{len(places)}", **npy_place(f)})
    return places


def npz_places(name):
    """Where zipfile finds the arrays."""
    places = []
    with zipfile.ZipFile(HERE / name) as z:
        for info in z.infolist():
            with open(HERE / name, "rb") as f:
                f.seek(info.header_offset + 26)
                skip = int.from_bytes(f.read(2), "little") + int.from_bytes(f.read(2), "little")
                f.seek(info.header_offset + 30 + skip)
                if info.compress_type == zipfile.ZIP_STORED and info.filename.endswith(".npy"):
                    places.append({"name": info.filename[:-4], **npy_place(f)})
    return places


class Unseekable(io.RawIOBase):
    """A pipe, for all that zipfile can tell: sizes follow the members."""

    def __init__(self, f):
        self.f = f

    def writable(self):
        return True

    def write(self, b):
        return self.f.write(b)


def npz(name, **arrays):
    np.savez(HERE / name, **arrays)
    return npz_places(name)


def npz_stream(name, **arrays):
    with open(HERE / name, "wb") as f:
        np.savez(Unseekable(f), **arrays)
    return npz_places(name)


def npz_mixed(name):
    """Members of other kinds, as numpy.load passes over them."""
    with zipfile.ZipFile(HERE / name, "w") as z:
        for member, method, data in (("a.npy", zipfile.ZIP_STORED, weights(100)), ("b.npy", zipfile.ZIP_DEFLATED, weights(100)),
                                     ("note.txt", zipfile.ZIP_STORED, b"a note"), ("c.npy", zipfile.ZIP_STORED, np.arange(600))):
            if not isinstance(data, bytes):
                out = io.BytesIO()
                np.save(out, data)
                data = out.getvalue()
            z.writestr(member, data, compress_type=method)
    return npz_places(name)


def gguf_file(name, alignment=None, version=None):
    w = gguf.GGUFWriter(str(HERE / name), "llama")
    if alignment:
        w.add_custom_alignment(alignment)
    w.add_block_count(2)
    w.add_context_length(2048)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_string("tokenizer.chat_template", "{% for m in messages %}{{ m }}{% endfor %}" * 20)
    w.add_tokenizer_model("llama")
    w.add_token_list([f"token{i}" for i in range(300)])
    w.add_token_scores([float(-i) for i in range(300)])
    w.add_array("nested", [[1, 2, 3], [4, 5]])
    w.add_bool("a.flag", True)
    w.add_uint64("a.count", 1 << 40)
    w.add_tensor("token_embd.weight", weights(30, 64, dtype=np.float16))
    w.add_tensor("blk.0.attn_q.weight", gguf.quants.quantize(weights(8, 64), gguf.GGMLQuantizationType.Q8_0),
                 raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.add_tensor("blk.0.attn_k.weight", gguf.quants.quantize(weights(8, 64), gguf.GGMLQuantizationType.Q4_0),
                 raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    w.add_tensor("blk.0.attn_v.weight", gguf.quants.quantize(weights(8, 64), gguf.GGMLQuantizationType.BF16),
                 raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.add_tensor("blk.0.attn_norm.weight", weights(13))
    w.add_tensor("rope_freqs.weight", weights(5, dtype=np.float64))
    for bits in 8, 16, 32, 64:
        w.add_tensor(f"ints.{bits}", np.arange(21, dtype=f"int{bits}"))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    r = gguf.GGUFReader(str(HERE / name))
    if version:
        b = bytearray((HERE / name).read_bytes())
        b[4] = version
        (HERE / name).write_bytes(b)
    return [{"name": t.name, "dtype": t.tensor_type.name, "shape": [int(n) for n in t.shape], "begin": int(t.data_offset),
             "length": int(t.n_bytes)} for t in r.tensors]


def main():
    many = np.zeros(3, dtype=[(f"a_field_with_a_long_name_{i:05}", "<f4") for i in range(1400)])
    record = np.dtype([("id", "<i8"), ("place", "<f4", (3,)), ("inner", [("a", "<u2"), ("b", "|S3")])], align=True)
    expected = {
        "f32.npy": npy("f32.npy", weights(70, 21)),
        "f16_fortran.npy": npy("f16_fortran.npy", np.asfortranarray(weights(50, 60, dtype=np.float16))),
        "big_endian.npy": npy("big_endian.npy", weights(1100).astype(">f4")),
        "scalar.npy": npy("scalar.npy", np.float64(3)),
        "empty.npy": npy("empty.npy", np.zeros((0, 4), np.int32)),
        "structured.npy": npy("structured.npy", np.zeros(4, record)),
        "version2.npy": npy("version2.npy", many),
        "version3.npy": npy("version3.npy", np.zeros(2, [("größe", "<f8"), ("重量", "<f8")])),
        "three.npy": npy("three.npy", weights(1111), np.arange(2222, dtype=np.int16), np.ones(777, np.complex64)),
        "bytes.npy": npy("bytes.npy", np.array(["ab", "cdef"]), np.array([b"xyz"]), np.array([True, False]),
                         np.array(["2024-01-01"], "M8[s]")),
        "weights.npz": npz("weights.npz", w=weights(120, 10), step=np.int64(7), bias=weights(2100, dtype=np.float16)),
        "stream.npz": npz_stream("stream.npz", w=weights(120, 10), empty=np.zeros(0), v=weights(3)),
        "mixed.npz": npz_mixed("mixed.npz"),
        "v3.gguf": gguf_file("v3.gguf"),
        "v2_aligned.gguf": gguf_file("v2_aligned.gguf", alignment=128, version=2),
    }
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
