"""The cache of huggingface_hub, filled from a server on this machine."""

import hashlib
import http.server
import os
import threading

import torch
from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache
from safetensors.torch import load_file, save

from common import check

REPO, COMMIT = "some/model", "0123456789abcdef0123456789abcdef01234567"


def files():
    g = torch.Generator().manual_seed(5)
    tensors = {"a": torch.randn(500, 300, generator=g), "b": torch.randn(1000, 90, generator=g).to(torch.bfloat16)}
    return tensors, {"model.safetensors": save(tensors), "config.json": b'{"hidden_size": 64}\n', "copy/model.safetensors": save(tensors)}


class Hub(http.server.BaseHTTPRequestHandler):
    content = {}
    cut = set()  # files of which the first answer ends too early

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body):
        name = self.path.split("?")[0].removeprefix(f"/{REPO}/resolve/").partition("/")[2]
        data = self.content.get(name)
        if data is None:
            return self.send_error(404)
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        if body and name in self.cut:
            self.cut.remove(name)
            self.wfile.write(data[first:len(data) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(data[first:])

    def log_message(self, *_):
        pass


def download():
    tensors, Hub.content = files()
    Hub.cut = {"model.safetensors"}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        where = {"repo_id": REPO, "cache_dir": "cache", "endpoint": f"http://127.0.0.1:{server.server_port}"}
        paths = [hf_hub_download(filename=name, **where) for name in Hub.content]
        hf_hub_download(filename="model.safetensors", force_download=True, **where)
        hf_hub_download(filename="model.safetensors", local_dir="local", **{k: v for k, v in where.items() if k != "cache_dir"})
    finally:
        server.shutdown()
        server.server_close()
    assert not Hub.cut, "no answer was cut"
    for path, data in zip(paths, Hub.content.values()):
        assert os.path.islink(path) and open(path, "rb").read() == data, path
    assert try_to_load_from_cache(REPO, "config.json", cache_dir="cache")
    repo = next(iter(scan_cache_dir("cache").repos))
    return check(load_file(paths[0]), tensors), repo.size_on_disk, repo.nb_files
