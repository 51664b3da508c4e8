"""What make bench-series takes the time of."""

import collections
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[i]) for i in (1,)]
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "mount"))
import bench
import bench_mount
import sides

PROGRAM = bench.ROOT / ".bench/mithrilfs"
TOUCHES = 32  # random reads of a member
SAVES = 4  # to keep pace with
PACE = 500e6 / 60  # bytes a second that compaction should keep pace with


class Mount(sides.Side):
    """A backing directory and, while entered, a mount of it beside it."""

    def __init__(self, directory, *options):
        super().__init__(directory)
        self.data, self.options = self.dir, options
        self.dir = self.data.with_name(self.data.name + "-mount")
        self.point = self.dir / "mnt"

    def __enter__(self):
        self.data.mkdir(parents=True, exist_ok=True)
        self.point.mkdir(parents=True, exist_ok=True)
        self.start(PROGRAM, "mount", "--foreground", *self.options, self.data, self.point)
        return self

    def __exit__(self, *_):
        self.stop(PROGRAM, "umount", self.point)
        shutil.rmtree(self.dir)


def codec(series):
    """MB a second of processor time, of the package codec/delta alone: one core."""
    with_steps = next(iter(series.checkpoints().values()))["model.safetensors"].parent
    command = ["go", "test", "-count=1", "./codec/delta", "-run", "^TestSeries$", "-v", "-series", with_steps, "-series-peers=false"]
    out = subprocess.run([str(c) for c in command], cwd=bench.ROOT, check=True, capture_output=True, text=True).stdout
    speeds = re.findall(r"encode (\d+)  decode (\d+) MB/s", out)
    if not speeds:
        raise bench.Failed("TestSeries printed no speeds")
    encode, decode = (statistics.median(float(s[i]) * 1e6 for s in speeds) for i in (0, 1))
    return {"encode": encode, "decode": decode}


def depths(directory):
    """For each file how long the longest chain of bases behind it is."""
    listed = json.loads(bench.run([PROGRAM, "ls", "--json", "-R", directory])[0])
    names = {os.stat(e["path"]).st_ino: e["path"] for e in listed}
    pins = {p.name: names.get(p.stat().st_ino) for p in (directory / ".mithrilfs/bases").glob("*")}
    bases = {e["path"]: [pins.get(b) for b in e["bases"]] for e in listed}

    def depth(path):
        return 1 + max(map(depth, bases[path])) if bases.get(path) else 0

    return {e["path"]: depth(e["path"]) for e in listed}


def reads(directory, series, turns):
    """Members of a compacted series, each read on a fresh mount, cold."""
    deep = {p: d for p, d in depths(directory).items() if p.endswith("/model.safetensors")}
    in_order = sorted(deep, key=lambda p: int(re.search(r"checkpoint-(\d+)", p)[1]))
    worst = max(in_order, key=deep.get)
    newest, previous = in_order[-1], in_order[-2]
    full = directory.with_name(directory.name + "-full")
    (full / "newest").mkdir(parents=True)
    original = list(series.checkpoints().values())[-1]["model.safetensors"]
    with Mount(full, "--series=off") as m:
        subprocess.run(["cp", original, m.point / "newest/model.safetensors"], check=True)
    clients = bench_mount.Clients(original)
    machine = bench_mount.Machine(directory.parent, original.stat().st_size)
    seconds = collections.defaultdict(list)

    def once(key, backing, rel, order):
        with Mount(backing) as mount:
            machine.drop_caches()
            machine.warm_memory(1)
            result = clients({**order, "path": mount.point / rel})
            seconds[key].append(result.get("median_seconds", result["seconds"]))

    try:
        for turn in range(turns):
            for key, path in (("worst", worst), ("previous", previous)):
                if turn < 3:
                    once(key, directory, pathlib.Path(path).relative_to(directory), {"op": "load"})
            touch = {"op": "read_random", "count": TOUCHES, "seed": turn}
            if turn < 3:
                once("random", directory, pathlib.Path(worst).relative_to(directory), touch)
            pair = [("newest", directory, pathlib.Path(newest).relative_to(directory)), ("off", full, "newest/model.safetensors")]
            for key, backing, rel in pair if turn % 2 else pair[::-1]:
                once(key, backing, rel, {"op": "load"})
    finally:
        clients.close()
        shutil.rmtree(full)
    out = {k: statistics.median(s) for k, s in seconds.items()}
    return {**out, "bytes": original.stat().st_size, "depth": deep[worst]}


def saves(directory, worked_on, saved, turns):
    """Saving half a gigabyte while the compactor works on another series, and with
    series off."""
    directory.mkdir()
    model = directory / "half.safetensors"
    together(saved, model)
    start = directory / "start"
    with Mount(start, "--series=off") as mount:
        for step, files in worked_on.checkpoints().items():
            (mount.point / f"checkpoint-{step}").mkdir()
            subprocess.run(["cp", files["model.safetensors"], mount.point / f"checkpoint-{step}/model.safetensors"], check=True)
    clients = bench_mount.Clients(model)
    machine = bench_mount.Machine(directory, model.stat().st_size)
    seconds = {"on": [], "off": []}
    finished = 0
    try:
        for turn in range(turns):
            for side in ("on", "off") if turn % 2 else ("off", "on"):
                data = directory / side
                subprocess.run(["cp", "-a", start, data], check=True)
                os.sync()
                with Mount(data, f"--series={side}") as mount:
                    if side == "on":
                        until_pinned(data)
                    else:
                        time.sleep(6)  # about as long as the compactor waits
                    machine.warm_memory(2)  # only now: the host takes what lies idle for seconds
                    result = clients({"op": "save", "path": mount.point / "other.safetensors"})
                    if side == "on" and dependents(data) >= len(worked_on.checkpoints()) - 1:
                        finished += 1
                seconds[side].append(result["seconds"])
                shutil.rmtree(data)
    finally:
        clients.close()
    out = {k: statistics.median(s) for k, s in seconds.items()}
    return {**out, "all": seconds, "bytes": model.stat().st_size, "turns": turns, "finished": finished}


def together(series, file):
    """All checkpoints of a series in one file: a larger model of real weights, none twice."""
    from safetensors.torch import load_file, save_file

    tensors = {}
    for step, files in series.checkpoints().items():
        tensors.update({f"{step}.{k}": t for k, t in load_file(files["model.safetensors"]).items()})
    save_file(tensors, file, metadata={"format": "pt"})


def until_pinned(data, seconds=60):
    """Waits until the compactor has begun with a first file."""
    for _ in range(seconds * 50):
        if any((data / ".mithrilfs/bases").glob("*")):
            return
        time.sleep(0.02)
    raise bench.Failed("the compactor does not begin")


def dependents(data):
    return sum(bool(e["bases"]) for e in json.loads(bench.run([PROGRAM, "ls", "--json", "-R", data])[0]))


def pace(directory, series):
    """Saves a checkpoint again and again, as fast as 500 MB a minute, and sees what
    the compactor has left to do when the next is due."""
    out = {"left": [], "cpu_seconds": [], "interval": 0, "bytes": 0, "coded": 0}
    with Mount(directory) as mount:
        for step, files in list(series.checkpoints().items())[:SAVES]:
            nbytes = sum(f.stat().st_size for f in files.values())
            out["bytes"], out["interval"] = nbytes, nbytes / PACE
            due = time.monotonic() + out["interval"]
            cpu = mount.counters()["cpu_seconds"]
            checkpoint = mount.point / f"checkpoint-{step}"
            checkpoint.mkdir()
            for name, file in files.items():
                subprocess.run(["cp", file, checkpoint / name], check=True)
            time.sleep(max(0, due - time.monotonic()))
            out["cpu_seconds"].append(mount.counters()["cpu_seconds"] - cpu)
            report = json.loads(bench.run([PROGRAM, "compact", "--dry-run", "--json", mount.point])[0])
            out["left"].append(sum(r["planned"] for r in report))
    out["coded"] = dependents(directory)
    return out
