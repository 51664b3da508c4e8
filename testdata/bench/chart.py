"""The picture of make bench: speed against ratio, as SVG."""

import math
from xml.sax.saxutils import escape

PANELS = ["minilm-bf16", "minilm-fp16", "minilm-fp32"]
COLORS = {
    "mithrilfs": "#c2255c",
    "zipnn": "#1864ab",
    "zipnn-kept": "#1c7ed6",
    "grouped": "#2b8a3e",
    "zstd-1": "#a05a00",
    "zstd-3": "#a05a00",
    "zstd-19": "#a05a00",
    "klauspost": "#6741d9",
    "memcpy": "#495057",
}
SHORT = {"grouped": "grouping + zstd -3", "klauspost": "klauspost fastest"}

WIDTH, LEFT, TOP = 960, 64, 96
PANEL_W, PANEL_H, GAP_X, GAP_Y = 400, 190, 64, 74
SLOWEST = 0.1  # GB/s; what is slower stands at the edge, with its speed
SPEEDS = ("encode_one", "encode_all", "decode_one", "decode_all")
SIZE, CHAR, LINE = 12, 6.6, 13  # of labels: font size, and about what a character takes


def svg(results):
    """One row of panels for each file, encoding at the left and decoding at the right."""
    files = {f["name"].split(".")[0]: f for f in results["files"]}
    shown = [files[name] for name in PANELS if name in files]
    height = TOP + len(shown) * (PANEL_H + GAP_Y)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="{SIZE}" fill="#212529">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(LEFT, 30, "Speed against ratio", size=20, weight="bold"),
        text(
            LEFT,
            52,
            f"filled: {results['cpus']} threads, hollow: one. Up and to the right is better. "
            f"{results['machine']}, {results['date']}",
            color="#495057",
        ),
    ]
    for row, file in enumerate(shown):
        for column, way in enumerate(("encode", "decode")):
            x = LEFT + column * (PANEL_W + GAP_X)
            y = TOP + row * (PANEL_H + GAP_Y)
            out += panel(results, file, way, x, y)
    out.append("</svg>")
    return "\n".join(out) + "\n"


def text(x, y, s, size=SIZE, color="#212529", anchor="start", weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(s)}</text>'
    )


def line(x1, y1, x2, y2, color, dash="", width=1.0):
    dash = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"{dash}/>'


def panel(results, file, way, left, top):
    """A panel: logarithmic speed to the right, ratio upwards."""
    points = []
    for key in COLORS:
        r = file["results"].get(key)
        if not r:
            continue
        one, everyone = r.get(f"{way}_one"), r.get(f"{way}_all")
        if one or everyone:
            points.append((key, r["ratio"], one, everyone))
    bound = next((r["entropy_ratio"] for r in file["results"].values() if "entropy_ratio" in r), None)

    fastest = max(s for f in results["files"] for r in f["results"].values() for k, s in r.items() if k in SPEEDS)
    low, high = math.log10(SLOWEST), max(math.log10(fastest / 1e9), 1) + 0.1
    most = max([r for _, r, *_ in points] + [bound or 1])
    step = next(s for s in (0.05, 0.1, 0.2, 0.5, 1) if (most - 1) / s <= 6)
    ceiling = most + step * 0.6
    floor = min(min(r for _, r, *_ in points), 1) - step * 0.6

    def px(s):
        return left + max(math.log10(s / 1e9) - low, 0) / (high - low) * PANEL_W

    def py(r):
        return top + (ceiling - r) / (ceiling - floor) * PANEL_H

    out = [text(left, top - 10, f"{file['what'][0].upper()}{file['what'][1:]}: {way}", size=14, weight="bold")]
    for k in range(math.ceil((ceiling - 1) / step)):
        r = 1 + k * step
        out.append(line(left, py(r), left + PANEL_W, py(r), "#e9ecef"))
        out.append(text(left - 8, py(r) + 4, f"{r:.2f}", color="#495057", anchor="end"))
    for decade in range(math.floor(low), math.floor(high) + 1):
        for m in (1, 2, 5):
            s = m * 10**decade
            if low <= math.log10(s) <= high:
                out.append(line(px(s * 1e9), top, px(s * 1e9), top + PANEL_H, "#e9ecef" if m == 1 else "#f4f5f7"))
                out.append(text(px(s * 1e9), top + PANEL_H + 17, f"{s:g}", color="#495057", anchor="middle"))
    out.append(text(left + PANEL_W, top + PANEL_H + 34, "GB/s", color="#495057", anchor="end"))
    out.append(line(left, top, left, top + PANEL_H, "#868e96"))
    out.append(line(left, top + PANEL_H, left + PANEL_W, top + PANEL_H, "#868e96"))

    taken = []
    if bound:
        out.append(line(left, py(bound), left + PANEL_W, py(bound), "#868e96", dash="5 4"))
        label = "order-0 entropy"
        out.append(text(left + 6, py(bound) - 5, label, color="#495057"))
        taken.append((left + 6, py(bound) - 16, left + 6 + len(label) * CHAR, py(bound) - 2))
    for _, r, one, everyone in points:
        xs = [px(s) for s in (one, everyone) if s]
        taken.append((min(xs) - 5, py(r) - 5, max(xs) + 5, py(r) + 5))
    for key, r, one, everyone in points:
        color, y = COLORS[key], py(r)
        if one and everyone:
            out.append(line(px(one), y, px(everyone), y, color, width=1.5))
        if one:
            out.append(f'<circle cx="{px(one):.1f}" cy="{y:.1f}" r="4" fill="#ffffff" stroke="{color}" stroke-width="1.5"/>')
        if everyone:
            out.append(f'<circle cx="{px(everyone):.1f}" cy="{y:.1f}" r="{6 if key == "mithrilfs" else 4.5}" fill="{color}"/>')
    for key, r, one, everyone in points:
        name = SHORT.get(key, results["contenders"][key])
        if (everyone or one) < SLOWEST * 1e9:
            name += f" ({(everyone or one) / 1e9:.3f} GB/s)"
        width = len(name) * CHAR * (1.08 if key == "mithrilfs" else 1)
        x, y, leader = place(px(everyone or one), py(r), width, taken, left, top)
        taken.append((x, y - LINE + 2, x + width, y + 2))
        if leader:
            out.append(line(px(everyone or one), py(r), x + width / 2, y - LINE + 3 if y > py(r) else y + 3, COLORS[key], width=0.7))
        out.append(text(x, y, name, color=COLORS[key], weight="bold" if key == "mithrilfs" else "normal"))
    return out


def place(x, y, width, taken, left, top):
    """Where the label of the point at (x, y) covers least: beside it, else above or below."""
    candidates = [(x + 10, y + 4, False), (x - 10 - width, y + 4, False)]
    for k in range(1, 8):
        for dx in (-width / 2, 4, -width - 4):
            candidates += [(x + dx, y - 10 - (k - 1) * LINE, k > 1), (x + dx, y + 18 + (k - 1) * LINE, k > 1)]

    def bad(c):
        box = (c[0], c[1] - LINE + 2, c[0] + width, c[1] + 2)
        overlap = sum(
            max(0, min(box[2], t[2]) - max(box[0], t[0])) * max(0, min(box[3], t[3]) - max(box[1], t[1])) for t in taken
        )
        outside = max(0, left + 2 - box[0]) + max(0, box[2] - left - PANEL_W) + max(0, top - box[1]) + max(0, box[3] - top - PANEL_H + 2)
        return overlap + 20 * outside + candidates.index(c) * 0.5

    return min(candidates, key=bad)
