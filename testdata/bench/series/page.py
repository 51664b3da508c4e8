"""The text of make bench-series: what stands between its marks in docs/benchmarks.md."""

import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import report
import rivals

BEGIN, END = "<!-- begin: BENCH_WRITE=1 make bench-series -->", "<!-- end of the series -->"
MB = 1e6


def write(file, new):
    """Replaces what is between the marks."""
    before, rest = file.read_text().split(BEGIN)
    _, after = rest.split(END)
    file.write_text(f"{before}{BEGIN}\n\n{new}\n\n{END}{after}")


def text(results):
    parts = [preamble(results), goals(results), directories(results), files(results), codecs(results), reads(results), while_saving(results)]
    return "\n\n".join(filter(None, parts))


def preamble(results):
    v = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        f"{results['date']}. {results['machine']}. {v}.",
        f"Times are medians of {results['turns']}; {results['seconds'] / 60:.0f} minutes in all, without training. "
        f"Others used {statistics.median(results['others']):.0%} of the processors at the beginning.",
    ]
    return "\n".join(lines + [f"**{p}**" for p in results["problems"]])


def in_order(results, part):
    return [(k, results[part][k]) for k in results["order"] if k in results[part]]


# Series, how many times smaller a file given its neighbours should be than raw, and
# than XOR + zstd -1 makes it.
WANTED = (("export", 12, 2.3), ("bf16", 40, 3.5), ("fp32", 2, None))


def goals(results):
    """What is wanted, and what was measured."""
    rows = []

    def add(what, goal, value, form, least=True):
        met = value >= goal if least else value <= goal
        rows.append([what, f"{'≥' if least else '≤'} {form(goal)}", form(value), "yes" if met else "no"])

    for key, alone, xor in WANTED:
        if key in results["sizes"]:
            s = results["sizes"][key]
            if key == "bf16":
                add(f"{key}: the whole directory, newest full", 10, s["raw"] / s["deltas"], times)
            m = s["names"]["model.safetensors"]
            if m["ours"]:
                add(f"{key}: delta only", alone, m["ours"], times)
                if xor:
                    add(f"{key}: delta only, ours / XOR + zstd", xor, m["ours"] / m["xor_ratio"], times)
    for key, r in in_order(results, "reads"):
        add(f"{key}: the newest, loaded as fast as with series off", 0.9, r["off"] / r["newest"], times)
    if s := results["saves"]:
        add("saving while the compactor works, against series off", 0.9, s["off"] / s["on"], times)
    if p := results["pace"]:
        add("files left to code when 500 MB more are due every minute", 0, max(p["left"]), str, least=False)
    return "### Goals\n\n" + report.markdown(["", "goal", "measured", "met"], rows) if rows else ""


def times(x):
    return "–" if x is None else f"{x:.2f}x" if x < 100 else f"{x:.0f}x"


def megabytes(x):
    return f"{x / MB:.1f}"


def directories(results):
    header = ["", "type, lr, steps between", "checkpoints", "raw", "full frames", "with deltas", "ratio", "XOR + zstd -1", "--patch-from"]
    rows = []
    for key, s in in_order(results, "sizes"):
        _, regime = results["order"][key]
        rows.append([key, regime, str(s["checkpoints"]), *(megabytes(s[k]) for k in ("raw", "full", "deltas"))])
        rows[-1] += [f"**{times(s['raw'] / s['deltas'])}**", *(times(s["raw"] / s[k]) for k in ("xor", "patch"))]
    if not rows:
        return ""
    what = "\n".join(f"- **{k}**: {results['order'][k][0]}." for k, _ in in_order(results, "sizes"))
    return (
        "### Whole directories\n\nMB on disk (`du` of the backing directory: pins, indexes, what is stored plain, and the "
        "newest of each series in full), and raw bytes over that. Others: their bytes, the newest by itself.\n\n"
        f"{report.markdown(header, rows)}\n\n{what}"
    )


def files(results):
    header = ["", "coded", "alone", "ours", "XOR + zstd -1", "--patch-from", "ours / XOR", "ours / patch", "difference"]
    rows = []
    for key, s in in_order(results, "sizes"):
        dtype = results["order"][key][1].split(",")[0]
        for name, m in s["names"].items():
            if m["stored"][0] >= m["logical"][0] and not m["coded"]:
                continue  # stored as it is
            rows.append([key if len(s["names"]) == 1 else f"{key}: {name}", f"{m['coded']} of {len(m['stored'])}"])
            rows[-1] += [times(m["logical"][-1] / m["stored"][-1]), f"**{times(m['ours'])}**"]
            rows[-1] += [times(m["xor_ratio"]), times(m["patch_ratio"])]
            rows[-1] += [times(m["ours"] and m["ours"] / m[f"{r}_ratio"]) for r in ("xor", "patch")]
            rows[-1].append(bound(m["bits"], dtype))
    if not rows:
        return ""
    return (
        "### A file given its neighbours\n\nThe median over the files that are coded: raw bytes over stored bytes, tables and "
        "index and all. *Alone*: the newest, in full frames. *Difference*: what the entropy of the plain difference "
        "from the next file allows, given the exponent there; ours passes it where two files predict a third.\n\n"
        + report.markdown(header, rows)
    )


def bound(bits, dtype):
    return times(rivals.FLOATS[dtype][0] / bits) if bits > 0.01 else "–"


def speed(x):
    return f"{x / MB:.0f}"


def codecs(results):
    rows = []
    for key, s in in_order(results, "sizes"):
        if key not in results["codec"]:
            continue
        coded = sum(m["logical"][i] for m in s["names"].values() for i, n in enumerate(m["bases"]) if n)
        rows.append([key, *(speed(results["codec"][key][way]) for way in ("encode", "decode"))])
        rows[-1] += [speed(coded / s["compact_cpu_seconds"]), speed(coded / s["compact_seconds"])]
    if not rows:
        return ""
    return (
        "### Speed of coding\n\nMB of the files a second: of the codec alone, on one core; of all that `mithrilfs compact` does "
        "(finding families, decoding bases, coding, decoding again to compare) a second of processor time, and by the clock.\n\n"
        + report.markdown(["", "encode", "decode", "compact, processor", "compact, clock"], rows)
    )


def reads(results):
    rows = []
    for key, r in in_order(results, "reads"):
        rows.append([key, str(r["depth"]), *(speed(r["bytes"] / r[k]) for k in ("worst", "previous", "newest", "off"))])
        rows[-1].append(f"{r['random'] * 1e3:.2f} ms")
    if not rows:
        return ""
    return (
        "### Reading\n\nMB/s of `load_file`, cold, on both cores: of the oldest member, with so many others in the longest chain "
        "behind it; of the one before the newest; of the newest; of the same file on a mount without series. And the median "
        "time of a cold random read of 4 KiB of the oldest.\n\n"
        + report.markdown(["", "depth", "oldest", "previous", "newest", "series off", "random read"], rows)
    )


def while_saving(results):
    lines = []
    if s := results["saves"]:
        lines.append(
            f"`save_file` of {s['bytes'] / MB:.0f} MB while the compactor works on another series: {s['bytes'] / s['on'] / 1e9:.2f} GB/s; "
            f"with series off: {s['bytes'] / s['off'] / 1e9:.2f} GB/s. Medians of {s['turns']}, in turns."
        )
        if s["finished"]:
            lines[-1] += f" In {s['finished']} of them the compactor had finished before the save did."
    if p := results["pace"]:
        lines.append(
            f"A checkpoint of {p['bytes'] / MB:.0f} MB with the optimizer's state, saved every {p['interval']:.0f} s, which is 500 MB a minute: "
            f"the daemon took {max(p['cpu_seconds']):.1f} s of processor time between two saves at most, and left "
            f"{', '.join(map(str, p['left']))} files to code when the next was due; {p['coded']} were coded in the end."
        )
    return "### While checkpoints are saved\n\n" + "\n\n".join(lines) if lines else ""
