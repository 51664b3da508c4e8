"""The text and the picture of make bench-mount."""

import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import chart
import report

BEGIN, END = "<!-- begin: BENCH_WRITE=1 make bench-mount -->", "<!-- end of the mount -->"
GIB = 1 << 30


def write(file, new):
    """Replaces what is between the marks."""
    before, rest = file.read_text().split(BEGIN)
    _, after = rest.split(END)
    picture = "![times as fast as ext4](mount.svg)"
    file.write_text(f"{before}{BEGIN}\n\n{picture}\n\n{new}\n\n{END}{after}")


def text(results):
    parts = [preamble(results), goals(results), speeds(results), costs(results), notes(results)]
    return "\n\n".join(filter(None, parts))


def preamble(results):
    v = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    spread = [c["spread"] for r in results["rows"] for c in r["cells"].values() if c["turns"] > 1]
    lines = [
        f"{results['date']}{', a quick run' if results['quick'] else ''}. {results['machine']}. {v}. "
        f"Model of {results['bytes'] / 1e6:.0f} MB, large file of {results['large_bytes'] / GIB:.2f} GiB.",
        f"Medians of {results['turns']}, {results['seconds'] / 60:.0f} minutes in all. "
        f"Others used {results['others']:.0%} of the processors.",
    ]
    if spread:
        lines[1] += f" The fastest and the slowest turn differ by {statistics.median(spread):.0%} (median over all cells)."
    return "\n".join(lines + [f"**{p}**" for p in results["problems"]])


def speed(cell):
    return cell["bytes"] / cell["seconds"]


def against(row, key, other="ext4"):
    """How many times as fast as another side, or None."""
    a, b = row["cells"].get(key), row["cells"].get(other)
    if not a or not b:
        return None
    if "median_seconds" in a:
        return b["median_seconds"] / a["median_seconds"]
    return speed(a) / speed(b)


def per_gib(cell, what):
    return cell[what] * GIB / cell["bytes"]


def goals(results):
    rows = {r["key"]: r for r in results["rows"]}
    out = []

    def add(what, goal, value, form, least=True):
        if value is not None:
            met = value >= goal if least else value <= goal
            out.append([what, f"{'≥' if least else '≤'} {form(goal)}", form(value), "yes" if met else "no"])

    def times(x):
        return f"{x:.2f}x"

    def ours(key, what=None, scale=per_gib):
        cell = rows.get(key, {"cells": {}})["cells"].get("mithrilfs")
        return None if not cell or what and what not in cell else scale(cell, what) if what else cell

    def race(key, other, goal, what):
        if key in rows:
            add(f"{rows[key]['what']}: ours / {what}", goal, against(rows[key], "mithrilfs", other), times)

    race("save", "ext4", 0.40, "ext4")
    race("save", "btrfs", 1.8, "btrfs")
    race("save", "juicefs", 3, "JuiceFS")
    race("fsync", "ext4", 1.0, "ext4")
    for key in ("save", "fsync"):
        cpu = ours(key, "daemon_cpu_seconds")
        if cpu is not None:
            add(f"{rows[key]['what']}: the daemon's processor time per GiB", 1.0, cpu, lambda x: f"{x:.2f} s", least=False)
    race("load-cold", "ext4", 1.15, "ext4")
    race("load-warm", "ext4", 0.97, "ext4")
    race("pieces", "ext4", 1.1, "ext4")
    race("direct", "null", 0.35, "null FUSE")
    if "random" in rows and (x := against(rows["random"], "mithrilfs")):
        add(f"{rows['random']['what']}: median, ours / ext4's", 5, 1 / x, times, least=False)
    read = ours("faults", None)
    if read:
        what = rows["faults"]["what"]
        add(f"{what}: read / asked by the program", 8, read["daemon_read_bytes"] / read["bytes"], times, least=False)
        if bare := rows["faults"]["cells"].get("ext4"):
            out.append([f"{what}: ext4 read / asked by the program", "", times(bare["client_read_bytes"] / bare["bytes"]), ""])
        # What the daemon writes are its answers: the kernel reads ahead of faults.
        add(f"{what}: read / asked by the kernel", 8, read["daemon_read_bytes"] / read["daemon_written_bytes"], times, least=False)
    read = ours("slices", None)
    if read and results["ratios"].get("mithrilfs"):
        stored = results["bytes"] / results["ratios"]["mithrilfs"]
        add(f"{rows['slices']['what']}: read / stored", 1.02, read["daemon_read_bytes"] / stored, times, least=False)
    return "### Goals of the mount\n\n" + report.markdown(["", "goal", "measured", "met"], out) if out else ""


def speeds(results):
    """GB/s of each side, and times ext4's."""
    keys = list(results["sides"])
    header = [""] + [results["sides"][k] for k in keys]
    table = []
    for row in results["rows"]:
        cells = []
        for k in keys:
            c, x = row["cells"].get(k), against(row, k)
            if not c:
                cells.append("–")
                continue
            value = f"{c['median_seconds'] * 1e6:.0f} µs" if "median_seconds" in c else rate(speed(c))
            cells.append(value if k == "ext4" or x is None else f"{value} ({times(x)})")
        table.append([row["what"], *cells])
    ratios = [f"{results['ratios'][k]:.3f}" if results["ratios"].get(k) else "–" for k in keys]
    table.append(["*ratio of the model on disk*", *ratios])
    return (
        "### Speed\n\nGB/s, and how many times as fast as on ext4; for random reads the median time of one.\n\n"
        + report.markdown(header, table)
    )


def rate(x):
    return f"{x / 1e9:.2f}" if x >= 1e8 else f"{x / 1e9:.4f}"


def times(x):
    return f"{x:.2f}x" if x < 10 else f"{x:.0f}x"


def costs(results):
    """Processor time, memory and reads."""
    header = ["", "client", "null FUSE", "daemon", "JuiceFS", "memory", "read / asked", "of which disk"]
    against = results["sides"].get("against")
    if against:
        header.append(against)
    table = []
    for row in results["rows"]:
        c, null, juice = (row["cells"].get(k) for k in ("mithrilfs", "null", "juicefs"))
        if not c:
            continue
        table.append(
            [
                row["what"],
                f"{per_gib(c, 'cpu_seconds'):.2f}",
                f"{per_gib(null, 'daemon_cpu_seconds'):.2f}" if null else "–",
                f"{per_gib(c, 'daemon_cpu_seconds'):.2f}",
                f"{per_gib(juice, 'daemon_cpu_seconds'):.2f}" if juice else "–",
                f"{c['daemon_rss_bytes'] / (1 << 20):.0f} MiB",
                "–" if row["key"] in ("save", "fsync") else f"{c['daemon_read_bytes'] / c['bytes']:.2f}",
                "–" if row["key"] in ("save", "fsync") else f"{c['daemon_disk_read_bytes'] / c['bytes']:.2f}",
            ]
        )
        if against and (other := row["cells"].get("against")):
            table[-1].append(f"{per_gib(other, 'daemon_cpu_seconds'):.2f}")
    return (
        "### What it costs\n\nProcessor seconds per GiB that the client asked for: of the client on mithrilfs and of the daemons; "
        "the most memory mithrilfs' daemon had; the bytes that it read from the backing files for each byte asked.\n\n"
        + report.markdown(header, table)
        if table
        else ""
    )


def notes(results):
    repeats = sum(c.get("repeats", 0) > 0 for r in results["rows"] for c in r["cells"].values())
    if not repeats:
        return ""
    return f"In {repeats} cells most turns had to be repeated, since the client waited for the host's memory."


WIDTH, LEFT, BAR, GROUP = 960, 350, 9, 14
COLORS = {"null": "#868e96", "mithrilfs": "#c2255c", "btrfs": "#2b8a3e", "juicefs": "#1864ab"}
MOST = 2.0  # times ext4; what is faster is cut, with its number


def svg(results):
    """A bar for each side in each row: how many times as fast as ext4."""
    keys = [k for k in COLORS if k in results["sides"]]
    rows = [r for r in results["rows"] if any(against(r, k) for k in keys)]
    height = 110 + len(rows) * (len(keys) * BAR + GROUP)
    span = WIDTH - LEFT - 60
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#212529">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        chart.text(24, 30, "The mount: how many times as fast as bare ext4", size=20, weight="bold"),
        chart.text(24, 52, f"{results['machine']}, {results['date']}. Right is better.", color="#495057"),
    ]
    x = 24
    for k in keys:
        out.append(f'<rect x="{x}" y="66" width="10" height="10" fill="{COLORS[k]}"/>')
        out.append(chart.text(x + 15, 75, results["sides"][k]))
        x += 30 + len(results["sides"][k]) * 7
    for tick in (0, 0.5, 1, 1.5, 2):
        at = LEFT + tick / MOST * span
        out.append(chart.line(at, 88, at, height - 14, "#868e96" if tick == 1 else "#e9ecef"))
        out.append(chart.text(at, 84, "ext4" if tick == 1 else f"{tick:g}", color="#495057", anchor="middle"))
    y = 96
    for r in rows:
        out.append(chart.text(LEFT - 8, y + len(keys) * BAR / 2 + 4, r["what"], anchor="end"))
        for k in keys:
            value = against(r, k)
            if value is not None:
                w = min(value, MOST) / MOST * span
                out.append(f'<rect x="{LEFT}" y="{y}" width="{max(w, 1):.1f}" height="{BAR - 1}" fill="{COLORS[k]}"/>')
                out.append(chart.text(LEFT + w + 4, y + BAR - 1.5, times(value), size=9, color=COLORS[k]))
            y += BAR
        y += GROUP
    out.append("</svg>")
    return "\n".join(out) + "\n"
