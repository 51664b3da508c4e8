#!/usr/bin/env python3
"""Measures mithrilfs beside its peers, on the same files, in one run.

Prints a table for each file. Every measurement is a process of its own, which
reads the file into memory and then encodes and decodes it there for a time, on
one thread and on all; the fastest round counts. Contenders take turns, and the
table has the median of all turns.

In the environment:
  BENCH_QUICK=1   fewer and smaller files, three turns
  BENCH_WRITE=1   also put the results into docs/benchmarks.md and .svg
  BENCH_FILES=…   these of all files: those whose names contain one of the words
  BENCH_TURNS=n   so many turns
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import chart
import report

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / ".bench"
CPUS = len(os.sched_getaffinity(0))

# ZipNN returns new memory from every call. What glibc's malloc keeps, instead of
# giving it back to the kernel, need not be faulted in again.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20)}

KEPT = ("minilm-bf16.safetensors", "minilm-fp32.safetensors", "synthetic-500MB.safetensors")

SAMPLE, SAMPLES = 1 << 20, 16  # zstd -19 gets so many pieces of the file, each so long

# Name, what it is, type that contenders are told, who is measured (None: all).
FILES = [
    ("minilm-bf16.safetensors", "all-MiniLM-L6-v2 in bf16", "bf16", None),
    ("minilm-fp16.safetensors", "all-MiniLM-L6-v2 in fp16", "fp16", None),
    ("minilm-fp32.safetensors", "all-MiniLM-L6-v2 in fp32", "fp32", None),
    ("synthetic-500MB.safetensors", "synthetic transformer in bf16, normal weights with a scale for each row", "bf16", None),
    ("minilm-bf16-as-fp32.safetensors", "all-MiniLM-L6-v2: bf16 values stored as fp32", "fp32", None),
    ("random.bin", "random bytes", "bf16", None),
    ("random-bf16.safetensors", "tensors of random bits, as bf16", "bf16", ["mithrilfs", "zipnn", "memcpy"]),
]
QUICK_FILES = [f for f in FILES if f[0] in ("minilm-bf16.safetensors", "minilm-fp32.safetensors", "random.bin")]
QUICK_FILES.insert(2, ("synthetic-64MB.safetensors", *FILES[3][1:]))

# Keys and names, in the order of the tables.
CONTENDERS = {
    "mithrilfs": "mithrilfs",
    "zipnn": "ZipNN",
    "zipnn-kept": "ZipNN, memory kept",
    "grouped": "byte grouping + zstd -3",
    "zstd-1": "zstd -1",
    "zstd-3": "zstd -3",
    "zstd-19": "zstd -19",
    "klauspost": "klauspost zstd fastest",
    "memcpy": "memcpy",
}


class Failed(Exception):
    """A contender did not get through."""


def run(args, env=None):
    """Runs a program; returns what it printed and its peak memory."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        p = subprocess.Popen([str(a) for a in args], stdout=out, stderr=err, env={**os.environ, **(env or {})})
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if p.returncode:
            last = err.read().decode(errors="replace").strip().splitlines()[-1:]
            raise Failed(f"exit status {p.returncode} {' '.join(last)}".strip())
        return out.read().decode(), usage.ru_maxrss << 10


class Bench:
    def __init__(self, packages, least):
        self.packages, self.least = packages, least

    def measure(self, contender, file, dtype):
        """One turn of a contender."""
        milliseconds = f"{round(self.least * 1000)}ms"
        if contender == "mithrilfs":
            return json.loads(run([WORK / "mithrilfs", "bench", "--json", "--time", milliseconds, file])[0])[0]
        if contender in ("klauspost", "memcpy"):
            return json.loads(run([WORK / "peers", "-time", milliseconds, contender, file])[0])
        if contender.startswith("zstd-"):
            return self.zstd(int(contender.removeprefix("zstd-")), file)
        env = {"PYTHONPATH": str(self.packages)}
        if contender == "zipnn-kept":
            env |= KEEP_MEMORY
        script = [sys.executable, ROOT / "testdata/bench/contender.py", "--time", self.least]
        return json.loads(run([*script, contender.removesuffix("-kept"), dtype, file], env)[0])

    def zstd(self, level, file):
        """The program's own benchmark, which also works in memory, again and again."""
        if level > 3:
            file = sample(file)
        size = file.stat().st_size
        result = {"logical_bytes": size, "memory_bytes": 0, "threads": []}
        for n in [1] if level > 3 else sorted({1, CPUS}):
            speeds, spent = [], 0.0
            while not speeds or spent < self.least:
                out, memory = run(["zstd", f"-b{level}", f"-e{level}", "-i0", f"-T{n}", "-q", file])
                m = re.search(r"^-\d+ +(\d+) \([\d.]+\) +([\d.]+) MB/s +([\d.]+) MB/s", out, re.M)
                if not m:
                    raise Failed(f"zstd -b printed {out!r}")
                result["encoded_bytes"] = int(m[1])
                result["memory_bytes"] = max(result["memory_bytes"], memory - size)
                speeds.append((float(m[2]) * 1e6, float(m[3]) * 1e6))
                spent += size / speeds[-1][0]
            encode, decode = map(max, zip(*speeds))
            result["threads"].append({"threads": n, "encode_bytes_per_second": encode})
            if n == 1:  # one frame is decoded by one thread
                result["threads"][0]["decode_bytes_per_second"] = decode
        return result


def sample(file):
    """Pieces from all over the file, or the file itself if it is small."""
    size = file.stat().st_size
    if size <= SAMPLE * SAMPLES:
        return file
    out = WORK / ("sample-" + file.name)
    with open(file, "rb") as f, open(out, "wb") as g:
        for i in range(SAMPLES):
            f.seek((size - SAMPLE) * i // (SAMPLES - 1) & ~7)
            g.write(f.read(SAMPLE))
    return out


def summed(turns):
    """What the table has of a contender's turns on a file, and how much they differ."""
    last = turns[-1]
    out = {k: last[k] for k in ("logical_bytes", "encoded_bytes")}
    out["ratio"] = last["logical_bytes"] / last["encoded_bytes"]
    if "entropy_ratio" in last:
        out["entropy_ratio"] = last["entropy_ratio"]
    out["exact"] = all(t.get("exact", True) for t in turns)
    out["memory_bytes"] = statistics.median(t["memory_bytes"] for t in turns)
    out["turns"] = len(turns)
    for i, thread in enumerate(last["threads"]):
        n = "one" if thread["threads"] == 1 else "all"
        for way in ("encode", "decode"):
            if f"{way}_bytes_per_second" not in thread:
                continue
            speeds = [t["threads"][i][f"{way}_bytes_per_second"] for t in turns]
            out[f"{way}_{n}"] = statistics.median(speeds)
            out[f"{way}_{n}_spread"] = (max(speeds) - min(speeds)) / statistics.median(speeds)
    return out


def machine():
    """The class of the machine, without its name."""
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    vector = next((name for flag, name in (("avx512vbmi", "AVX-512"), ("avx2", "AVX2")) if flag in cpu), None)
    kernel = ".".join(platform.release().split(".")[:2])
    arch = platform.machine().replace("_", "-")
    return f"{CPUS} cores, {arch}{f' with {vector}' if vector else ''}, Linux {kernel}"


def versions(packages):
    def first(pattern, *args):
        m = re.search(pattern, subprocess.run(args, capture_output=True, text=True, cwd=ROOT).stdout)
        return m[1] if m else "?"

    zipnn = next(iter(pathlib.Path(packages).glob("zipnn-*.dist-info")), pathlib.Path("-?"))
    return {
        "Go": first(r"go([\d.]+)", "go", "version"),
        "ZipNN": zipnn.name.removesuffix(".dist-info").split("-")[1],
        "zstd": first(r"v([\d.]+)", "zstd", "--version"),
        "klauspost/compress": first(r"v([\d.]+)", "go", "list", "-m", "github.com/klauspost/compress"),
        "pyzstd": first(r"(.*)", sys.executable, "-c", "import pyzstd; print('libzstd', pyzstd.zstd_version)"),
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--packages", required=True, help="directory that requirements.txt is installed in")
    p.add_argument("--results", type=pathlib.Path, help="print a run's .bench/results.json again instead of measuring")
    args = p.parse_args()
    quick, write = (os.environ.get(f"BENCH_{v}", "0") not in ("", "0") for v in ("QUICK", "WRITE"))
    if write and (quick or os.environ.get("BENCH_FILES") or os.environ.get("BENCH_TURNS")):
        sys.exit("bench: only a whole run is for docs/benchmarks.md")

    if args.results:
        results = json.loads(args.results.read_text())
    else:
        results = measure_all(args.packages, quick)
        (WORK / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.text(results)
    print(text)
    if write:
        report.write(ROOT / "docs/benchmarks.md", text)
        (ROOT / "docs/benchmarks.svg").write_text(chart.svg(results))


def measure_all(packages, quick):
    files, turns, least = (QUICK_FILES, 3, 0.1) if quick else (FILES, 5, 0.2)
    if words := os.environ.get("BENCH_FILES", "").split():
        files = [f for f in FILES if any(w in f[0] for w in words)]
    subprocess.run(
        [sys.executable, ROOT / "testdata/bench/files.py", WORK / "files", *(f[0] for f in files)], check=True
    )
    turns = int(os.environ.get("BENCH_TURNS") or turns)
    bench = Bench(packages, least)
    began, load = time.time(), []
    measured = {f[0]: {} for f in files}
    problems = {f[0]: {} for f in files}
    for turn in range(turns):
        for name, _, dtype, only in files:
            load.append(busy())
            keys = [k for k in CONTENDERS if not only or k in only]
            # Each is first sometimes.
            for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
                if key == "zstd-19" and (quick or turn > 0):
                    continue
                if key == "zipnn-kept" and name not in KEPT:
                    continue
                print(f"bench: turn {turn + 1} of {turns}, {name}, {CONTENDERS[key]}", file=sys.stderr)
                try:
                    one = bench.measure(key, WORK / "files" / name, dtype)
                    measured[name].setdefault(key, []).append(one)
                except Failed as e:
                    problems[name][key] = str(e)
                    print(f"bench: {name}, {CONTENDERS[key]}: {e}", file=sys.stderr)
    return {
        "date": datetime.date.today().isoformat(),
        "quick": quick,
        "machine": machine(),
        "cpus": CPUS,
        "versions": versions(packages),
        "turns": turns,
        "seconds": time.time() - began,
        "others": statistics.median(load),
        "contenders": CONTENDERS,
        "files": [
            {
                "name": name,
                "what": what,
                "bytes": (WORK / "files" / name).stat().st_size,
                "results": {k: summed(t) for k, t in measured[name].items()},
                "problems": problems[name],
            }
            for name, what, _, _ in files
        ],
    }


def busy():
    """The share of the processors that others use just now, while we do nothing."""

    def read():
        times = [int(x) for x in open("/proc/stat").readline().split()[1:9]]
        return sum(times), times[3] + times[4]

    (total, idle), _ = read(), time.sleep(0.2)
    after, idle_after = read()
    return 1 - (idle_after - idle) / max(after - total, 1)


if __name__ == "__main__":
    main()
