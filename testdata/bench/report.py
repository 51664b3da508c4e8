"""The text of make bench: what stands between the marks in docs/benchmarks.md."""

import statistics

BEGIN, END = "<!-- begin: BENCH_WRITE=1 make bench -->", "<!-- end -->"
GIB = 1 << 30


def text(results):
    parts = [preamble(results), *filter(None, [goals(results)]), *(table(results, f) for f in results["files"])]
    return "\n\n".join(parts)


def write(file, new):
    """Replaces what is between the marks."""
    old = file.read_text()
    before, rest = old.split(BEGIN)
    _, after = rest.split(END)
    file.write_text(f"{before}{BEGIN}\n\n{new}\n\n{END}{after}")


def preamble(results):
    v = results["versions"]
    spread = [
        x
        for f in results["files"]
        for r in f["results"].values()
        if r["turns"] > 1
        for k, x in r.items()
        if k.endswith("_spread")
    ]
    lines = [
        f"{results['date']}{', a quick run' if results['quick'] else ''}. {results['machine']}. "
        f"Go {v['Go']}, ZipNN {v['ZipNN']}, zstd {v['zstd']} (grouping: {v['pyzstd']}), "
        f"klauspost/compress {v['klauspost/compress']}.",
        f"Medians of {results['turns']}, {results['seconds'] / 60:.0f} minutes in all. "
        f"Others used {results['others']:.0%} of the processors.",
    ]
    if spread:
        lines[1] += f" The fastest and the slowest turn differ by {statistics.median(spread):.0%} (median over all cells)."
    return "\n".join(lines)


def table(results, file):
    n = results["cpus"]
    header = ["", "ratio", *(f"{way} {k}" for way in ("encode", "decode") for k in sorted({1, n})), "memory"]
    rows = []
    for key, name in results["contenders"].items():
        r = file["results"].get(key)
        if key in file["problems"]:
            name += f" (failed: {file['problems'][key]})"
        if r is None:
            if key in file["problems"]:
                rows.append([name] + ["–"] * (len(header) - 1))
            continue
        if not r["exact"]:
            name += " (NOT EXACT)"
        if r["logical_bytes"] < file["bytes"]:
            name += f" ({r['logical_bytes'] >> 20} MiB of it)"
        speeds = [r.get(f"{way}_{k}") for way in ("encode", "decode") for k in (["one", "all"] if n > 1 else ["one"])]
        rows.append([name, ratio(r["ratio"]), *map(speed, speeds), f"{r['memory_bytes'] / 1e6:.0f} MB"])
    bound = next((r["entropy_ratio"] for r in file["results"].values() if "entropy_ratio" in r), None)
    if bound:
        rows.append(["*order-0 entropy*", f"*{ratio(bound)}*"] + [""] * (len(header) - 2))
    title = f"### {file['name'].split('.')[0]}\n\n{file['what'][0].upper()}{file['what'][1:]}, {file['bytes'] / 1e6:.1f} MB."
    return f"{title}\n\n{markdown(header, rows)}"


def ratio(x):
    return f"{x:.3f}"


def speed(x):
    return "–" if x is None else f"{x / 1e9:.2f}" if x >= 1e8 else f"{x / 1e9:.4f}"


def markdown(header, rows):
    """A table, aligned: names to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells):
        first = cells[0].ljust(widths[0])
        return "| " + " | ".join([first, *(c.rjust(w) for c, w in zip(cells[1:], widths[1:]))]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def goals(results):
    """What is wanted of the codec, and what was measured."""
    files = {f["name"].split(".")[0]: f["results"] for f in results["files"]}
    n = results["cpus"]
    rows = []

    def add(what, goal, value, form, least=True):
        met = value >= goal if least else value <= goal
        rows.append([what, f"{'≥' if least else '≤'} {form(goal)}", form(value), "yes" if met else "no"])

    def note(what, value, form):
        rows.append([what, "", form(value), ""])

    def times(x):
        return f"{x:.2f}x"

    def gib(x):
        return f"{x / GIB:.2f} GiB/s"

    def gb(x):
        return f"{x / 1e9:.2f} GB/s"

    def percent(x):
        return f"{x:.2%}"

    def with_zipnn(name):
        r = files.get(name, {})
        return r.get("mithrilfs"), r.get("zipnn")

    for name in files:
        ours, zipnn = with_zipnn(name)
        if not ours or n < 2:
            continue
        if name == "minilm-bf16" or name.startswith("synthetic"):
            add(f"{name}: encode, 1 thread", 1.3e9, ours["encode_one"], gb)
            add(f"{name}: encode, {n} threads", 2.5 * GIB, ours["encode_all"], gib)
            add(f"{name}: decode, {n} threads", 3.5 * GIB, ours["decode_all"], gib)
            if zipnn:
                add(f"{name}: encode, ours / ZipNN, {n} threads", 4, ours["encode_all"] / zipnn["encode_all"], times)
                add(f"{name}: decode, ours / ZipNN, {n} threads", 1.15, ours["decode_all"] / zipnn["decode_all"], times)
            if kept := files[name].get("zipnn-kept"):
                for way in ("encode", "decode"):
                    quotient = ours[f"{way}_all"] / kept[f"{way}_all"]
                    note(f"{name}: {way}, ours / ZipNN with memory kept, {n} threads", quotient, times)
        if name == "minilm-fp32":
            add(f"{name}: encode, {n} threads", 2.5 * GIB, ours["encode_all"], gib)
            add(f"{name}: decode, {n} threads", 4 * GIB, ours["decode_all"], gib)
        if name in ("minilm-bf16", "minilm-fp16", "minilm-fp32"):
            if zipnn:
                add(f"{name}: ratio, ours and ZipNN's", zipnn["ratio"], ours["ratio"], ratio)
            below = 1 - ours["ratio"] / ours["entropy_ratio"]
            add(f"{name}: ratio below order-0 entropy", 0.006, max(below, 0), percent, least=False)
        if name == "minilm-bf16-as-fp32":
            add(f"{name}: ratio", 3, ours["ratio"], ratio)
        if name.startswith("random") and (copy := files[name].get("memcpy")):
            for way in ("encode", "decode"):
                for k, label in (("one", "1 thread"), ("all", f"{n} threads")):
                    key = f"{way}_{k}"
                    add(f"{name}: {way}, ours / memcpy, {label}", 0.5, ours[key] / copy[key], times)
            growth = max(ours["encoded_bytes"] / ours["logical_bytes"] - 1, 0)
            add(f"{name}: growth", 0.0001, growth, lambda x: f"{x:.4%}", least=False)
    return "### Goals\n\n" + markdown(["", "goal", "measured", "met"], rows) if rows else ""
