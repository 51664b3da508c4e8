#!/usr/bin/env python3
"""The clients of make bench-mount: what loaders and savers do with a filesystem.

Reads orders from standard input, a JSON object a line, and answers each with a
line: seconds, cpu_seconds, bytes, and what else the order measures; or failed.
Each order is carried out by a process of its own, a fork of this one, which has
torch loaded and the model in memory.
"""

import argparse
import itertools
import json
import mmap
import os
import pathlib
import random
import re
import resource
import statistics
import subprocess
import sys
import threading
import time

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

PAGE = 4096
BLOCK = 4 << 20
SLICES = 4  # get_slice gets one of so many parts of every row
THREADS = 16


class Client:
    def __init__(self, file):
        self.reference = file
        self.model = {k: t.clone() for k, t in load_file(file).items()}
        # Where loaded tensors go, one after the other, as load_state_dict copies
        # them into a model that is there: new memory would cost more than reading.
        self.room = torch.zeros(max(t.nbytes for t in self.model.values()), dtype=torch.uint8)

    def save(self, path, fsync=False):
        """save_file, which writes under another name, renames and closes."""
        # Pages that the parent has as well would be copied one by one when FUSE
        # pins them to read from them: no trainer's weights are a fork's.
        model = {k: t.clone() for k, t in self.model.items()}
        took = clock()
        save_file(model, path, metadata={"format": "pt"})
        if fsync:
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        return took(size(path))

    def take(self, tensor):
        n = tensor.nbytes
        self.room[:n].view(tensor.dtype).copy_(tensor.reshape(-1))
        return n

    def load(self, path):
        """load_file, which maps the file, and every tensor copied out."""
        self.room.zero_()  # its pages are this process's own now
        took = clock()
        return took(sum(map(self.take, load_file(path).values())))

    def load_by_name(self, path):
        """Tensor by tensor, layer 2 before layer 10, which is not the file's order."""
        self.room.zero_()
        took, done = clock(), 0
        with safe_open(path, framework="pt") as f:
            for name in sorted(f.keys(), key=natural):
                done += self.take(f.get_tensor(name))
        return took(done)

    def load_slices(self, path):
        """A part of every row of every matrix, as a rank of a tensor-parallel group takes."""
        self.room.zero_()
        took, done = clock(), 0
        with safe_open(path, framework="pt") as f:
            for name in f.keys():
                s = f.get_slice(name)
                shape = s.get_shape()
                if len(shape) == 2:
                    part = shape[1] // SLICES
                    done += self.take(s[:, part : 2 * part])
        return took(done)

    def load_by_many(self, path, processes=4):
        """So many processes load the file at once."""
        gate, open_gate = os.pipe()
        children = []
        for _ in range(processes):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    self.room.zero_()
                    os.close(open_gate)
                    os.read(gate, 1)
                    sum(map(self.take, load_file(path).values()))
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        time.sleep(0.3)  # they have their memory
        took = clock()
        os.close(open_gate)
        if any(os.waitpid(child, 0)[1] for child in children):
            raise RuntimeError("a process could not load")
        return took(processes * size(path))

    def read_pieces(self, path):
        """fastsafetensors: threads that pread 16 MiB pieces into buffers of their own."""
        piece, n = 16 << 20, size(path)
        offsets, lock = iter(range(0, n, piece)), threading.Lock()
        fd = os.open(path, os.O_RDONLY)

        def work(buffer):
            done = 0
            while True:
                with lock:
                    off = next(offsets, None)
                if off is None:
                    return done
                end = min(off + piece, n)
                while off < end:
                    got = os.preadv(fd, [memoryview(buffer)[: end - off]], off)
                    off, done = off + got, done + got

        try:
            return in_threads(work, [filled(piece) for _ in range(THREADS)])
        finally:
            os.close(fd)

    def read_streams(self, path):
        """runai-model-streamer: threads, each with a part of the file, that read 2 MiB in sequence."""
        n = size(path)
        part = -(-n // THREADS)

        def work(argument):
            i, buffer = argument
            off, end = i * part, min((i + 1) * part, n)
            fd, done = os.open(path, os.O_RDONLY), 0
            os.lseek(fd, off, os.SEEK_SET)
            while off < end:
                got = os.readv(fd, [memoryview(buffer)[: end - off]])
                off, done = off + got, done + got
            os.close(fd)
            return done

        return in_threads(work, [(i, filled(2 << 20)) for i in range(THREADS)])

    def read_direct(self, path):
        """InstantTensor: O_DIRECT and libaio, 8 MiB at a time, 32 at once; by fio."""
        command = ["fio", "--name=direct", f"--filename={path}", "--rw=read", "--bs=8M", "--iodepth=32"]
        command += ["--ioengine=libaio", "--direct=1", "--readonly", "--output-format=json"]
        p = subprocess.run(command, capture_output=True, text=True)
        if p.returncode:
            raise RuntimeError(f"fio: {(p.stderr or p.stdout).strip().splitlines()[-1]}")
        job = json.loads(p.stdout[p.stdout.index("{") :])["jobs"][0]
        done, seconds = job["read"]["io_bytes"], job["read"]["runtime"] / 1000
        return {"seconds": seconds, "cpu_seconds": (job["usr_cpu"] + job["sys_cpu"]) / 100 * seconds, "bytes": done}

    def fault(self, path, count, seed):
        """Bytes of a mapping, each on another page."""
        pages = random.Random(seed).sample(range(size(path) // PAGE), count)
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
            took, disk = clock(), read_from_disk()
            for page in pages:
                m[page * PAGE]
            result = took(count * PAGE)
            result["client_read_bytes"] = read_from_disk() - disk
        return result

    def read_random(self, path, count, seed):
        """Pages by pread; also the median of what one takes."""
        pages = random.Random(seed).sample(range(1, size(path) // PAGE), count)
        fd = os.open(path, os.O_RDONLY)
        took, disk, each = clock(), read_from_disk(), []
        for page in pages:
            began = time.perf_counter()
            os.pread(fd, PAGE, page * PAGE)
            each.append(time.perf_counter() - began)
        result = took(count * PAGE)
        result["client_read_bytes"] = read_from_disk() - disk
        os.close(fd)
        return {**result, "median_seconds": statistics.median(each)}

    def check(self, path):
        """Fails unless the file has the reference's bytes."""
        took = clock()
        with open(path, "rb") as f, open(self.reference, "rb") as g:
            for off in itertools.count(0, BLOCK):
                a, b = f.read(BLOCK), g.read(BLOCK)
                if a != b:
                    raise RuntimeError(f"{path}: WRONG BYTES in the {BLOCK >> 20} MiB at {off}")
                if not a:
                    return took(off)


def clock():
    """Starts; what it returns, given the bytes, stops and makes the result."""

    def cpu():
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    began, used = time.perf_counter(), cpu()
    return lambda n: {"seconds": time.perf_counter() - began, "cpu_seconds": cpu() - used, "bytes": n}


def in_threads(work, arguments):
    """Runs work in a thread for each argument; it returns how many bytes it read."""
    done = [0] * len(arguments)

    def run(i):
        done[i] = work(arguments[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(arguments))]
    took = clock()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return took(sum(done))


def filled(n):
    """A buffer with its pages in memory."""
    return bytearray(b"\x01") * n


def natural(name):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def size(path):
    return os.stat(path).st_size


def read_from_disk():
    """Bytes that the kernel read from disks for this process."""
    text = pathlib.Path("/proc/self/io").read_text()
    return int(re.search(r"^read_bytes: (\d+)", text, re.M)[1])


def carry_out(client, order):
    """Forks, and returns what the child has to say."""
    out, result = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(out)
            op = order.pop("op")
            try:
                answer = getattr(client, op)(**order)
            except Exception as e:  # whatever it is, it is the row's result
                answer = {"failed": f"{type(e).__name__}: {e}"}
            with open(result, "w") as f:
                json.dump(answer, f)
        finally:
            os._exit(0)
    os.close(result)
    with open(out) as f:
        text = f.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"failed": "the client died"}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("model", type=pathlib.Path, help="the file that save saves and check compares with")
    args = p.parse_args()
    torch.set_num_threads(1)  # threads of the parent are not there after a fork
    client = Client(args.model)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(carry_out(client, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
