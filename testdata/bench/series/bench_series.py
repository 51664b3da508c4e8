#!/usr/bin/env python3
"""Measures what coding the checkpoints of a run against each other brings, and
what it costs, on runs of the real transformers Trainer.

Each series is saved through a mount, as checkpoint-N/model.safetensors or what
its client saves, compacted with default options, and compared byte for byte. The
runs are trained once and lie in the user's cache, 3.5 GB of them.

In the environment:
  BENCH_SERIES=…  these of all series: those whose keys contain one of the words
  BENCH_PARTS=…   these of sizes, codec, reads, saves and pace
  BENCH_TURNS=n   so many turns where times are taken
  BENCH_WRITE=1   also put the results into docs/benchmarks.md
"""

import argparse
import datetime
import filecmp
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
import rivals
import times
import trained

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import bench

ROOT = bench.ROOT
WORK = ROOT / ".bench"
PARTS = ("sizes", "codec", "reads", "saves", "pace")
READ = ("export", "bf16", "fp32")  # series that are read
SMALL = 64 << 10  # files below are stored as they are


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--json", type=pathlib.Path, default=WORK / "series.json", help="where the results go")
    p.add_argument("--results", type=pathlib.Path, help="print a run's results again instead of measuring")
    p.add_argument("--merge", action="store_true", help="keep what the last run measured and this one does not")
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))  # and unmount all
    write = os.environ.get("BENCH_WRITE", "0") not in ("", "0")
    if args.results:
        results = json.loads(args.results.read_text())
    else:
        results = measure_all(json.loads(args.json.read_text()) if args.merge and args.json.exists() else None)
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    text = page.text(results)
    print(text)
    if write:
        if results["missing"]:
            sys.exit(f"bench: only a whole run is for docs/benchmarks.md, and this one lacks {', '.join(results['missing'])}")
        page.write(ROOT / "docs/benchmarks.md", text)
    if any("WRONG" in p for p in results["problems"]):
        sys.exit("bench: wrong bytes")


def chosen(all_of, variable):
    words = os.environ.get(variable, "").split()
    return [k for k in all_of if not words or any(w in k for w in words)]


def measure_all(before):
    every = {s.key: s for s in trained.SERIES}
    wanted = [every[k] for k in chosen(every, "BENCH_SERIES")]
    parts = chosen(PARTS, "BENCH_PARTS")
    turns = int(os.environ.get("BENCH_TURNS") or 5)
    began, load = time.time(), bench.busy()
    for s in wanted:
        s.run.train()
    trained_at = time.time()
    work = pathlib.Path(tempfile.mkdtemp(prefix="series-", dir=WORK))
    out = before or {"sizes": {}, "codec": {}, "reads": {}, "saves": None, "pace": None, "seconds": 0, "others": []}
    out.update(date=datetime.date.today().isoformat(), machine=bench.machine(), versions=versions(), turns=turns, problems=[])
    out["order"] = {s.key: [s.what, s.regime] for s in trained.SERIES}
    try:
        for s in wanted:
            one(work, s, parts, turns, out)
        if "saves" in parts and any(s.key == "fp32" for s in wanted):
            attempt(out, "saving", lambda: out.update(saves=times.saves(work / "saves", every["export"], every["fp32"], turns)))
        if "pace" in parts and any(s.key == "trainer" for s in wanted):
            attempt(out, "keeping pace", lambda: out.update(pace=times.pace(work / "pace", every["trainer"])))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    out["seconds"] += time.time() - trained_at
    out["trained_seconds"] = trained_at - began
    out["others"].append(load)
    out["missing"] = [f"{part} of {k}" for part, keys in (("sizes", every), ("codec", READ), ("reads", READ)) for k in keys if k not in out[part]]
    out["missing"] += [part for part in ("saves", "pace") if not out[part]]
    return out


def attempt(out, what, do):
    try:
        do()
    except (bench.Failed, OSError, subprocess.SubprocessError) as e:
        out["problems"].append(f"{what}: {e}")
        print(f"bench: {what}: {e}", file=sys.stderr)


def one(work, series, parts, turns, out):
    """All that is measured of one series alone."""
    directory = work / series.key
    reads = "reads" in parts and series.key in READ
    if "sizes" in parts:
        attempt(out, f"{series.key}, sizes", lambda: out["sizes"].update({series.key: sizes(directory, series)}))
    elif reads:
        fill(directory, series)
        out["sizes"].get(series.key, {}).update(compact(directory))
    if reads:
        attempt(out, f"{series.key}, reading", lambda: out["reads"].update({series.key: times.reads(directory, series, turns)}))
    shutil.rmtree(directory, ignore_errors=True)
    if "codec" in parts and series.key in READ:
        attempt(out, f"{series.key}, codec", lambda: out["codec"].update({series.key: times.codec(series)}))


def say(series, text):
    print(f"bench: {series.key}: {text}", file=sys.stderr)


def fill(directory, series, options=("--series=off",)):
    """Saves the series through a mount."""
    with times.Mount(directory, *options) as mount:
        for step, files in series.checkpoints().items():
            checkpoint = mount.point / f"checkpoint-{step}"
            checkpoint.mkdir()
            for name, file in files.items():
                subprocess.run(["cp", file, checkpoint / name], check=True)


def sizes(directory, series):
    checkpoints = series.checkpoints()
    say(series, f"saving {len(checkpoints)} checkpoints")
    fill(directory, series)
    full = disk_usage(directory)
    say(series, "compacting")
    compacted = compact(directory)
    deltas = disk_usage(directory)
    say(series, "comparing")
    compare(directory, checkpoints)
    listed = {s["path"]: s for s in json.loads(bench.run([WORK / "mithrilfs", "ls", "--json", "-R", directory])[0])}
    say(series, "measuring others")
    out = {
        "checkpoints": len(checkpoints),
        "files": sum(map(len, checkpoints.values())),
        "raw": sum(f.stat().st_size for files in checkpoints.values() for f in files.values()),
        "full": full,
        "deltas": deltas,
        **compacted,
        "names": {},
    }
    for name, chain in chains(checkpoints).items():
        entries = [listed[str(directory / f"checkpoint-{step}" / name)] for step in checkpoints]
        out["names"][name] = of_files(chain, entries, series)
    small = out["raw"] - sum(m["raw"] for m in out["names"].values())
    for rival in ("xor", "patch"):
        out[rival] = small + sum(sum(m[rival]) for m in out["names"].values())
    return out


def chains(checkpoints):
    """The files of one name, oldest first, of those that are worth a container."""
    names = [n for n, f in next(iter(checkpoints.values())).items() if f.stat().st_size >= SMALL and not n.endswith(".json")]
    return {n: [files[n] for files in checkpoints.values()] for n in sorted(names)}


def of_files(chain, entries, series):
    """What becomes of the files of one name, which are one series."""
    xor, patch = rivals.measure(chain, series.width)
    coded = [i for i, e in enumerate(entries) if e["bases"]]
    middle = len(chain) // 2
    out = {
        "raw": sum(f.stat().st_size for f in chain),
        "stored": [e["stored_bytes"] for e in entries],
        "logical": [e["logical_bytes"] for e in entries],
        "bases": [len(e["bases"]) for e in entries],
        "xor": xor,
        "patch": patch,
        "coded": len(coded),
        "bits": rivals.difference_bits(chain[middle - 1], chain[middle], series.dtype),
    }
    for key, stored in (("ours", out["stored"]), ("xor_ratio", xor), ("patch_ratio", patch)):
        ratios = [out["logical"][i] / stored[i] for i in coded if i < len(chain) - 1]
        out[key] = statistics.median(ratios) if ratios else None
    return out


def compare(directory, checkpoints):
    """Every byte of every file, as a mount gives it."""
    with times.Mount(directory, "--series=off") as mount:
        for step, files in checkpoints.items():
            for name, file in files.items():
                if not filecmp.cmp(file, mount.point / f"checkpoint-{step}" / name, shallow=False):
                    raise bench.Failed(f"WRONG BYTES in checkpoint-{step}/{name}")


def disk_usage(directory):
    """What all that lies in it takes, each inode once: pins are second names."""
    os.sync()
    inodes = {}
    for p in pathlib.Path(directory).rglob("*"):
        st = p.lstat()
        inodes[st.st_ino] = st.st_blocks * 512
    return sum(inodes.values())


def compact(directory):
    """Compacts what is not mounted; what that reports, and what it takes."""
    began, before = time.time(), os.times()
    out = bench.run([WORK / "mithrilfs", "compact", "--json", directory])[0]
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"report": json.loads(out), "compact_cpu_seconds": cpu, "compact_seconds": time.time() - began}


def versions():
    import importlib.metadata

    zstd = subprocess.run(["zstd", "--version"], capture_output=True, text=True).stdout
    out = {"zstd": zstd.split("v")[-1].split(",")[0]}
    return {**out, **{name: importlib.metadata.version(name) for name in ("torch", "transformers")}}


if __name__ == "__main__":
    main()
