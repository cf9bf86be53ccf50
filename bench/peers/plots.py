"""The figures of compare.py and scaling.py, from the rows of their CSV files."""

import math
import statistics

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from common import both_precisions

TITLES = {"lora": "LoRA", "adalora": "AdaLoRA", "sora": "SoRA"}
OURS, PEER = "#1f5fa8", "#c2703d"
COLORS = [OURS, PEER, "#3f8f5b", "#7a5ba8"]


# The peers' bars: the columns' name, the colour and the legend's text.
SERIES = [
    ("ours", OURS, "ours"),
    ("strongest", PEER, "the strongest of the peers (named)"),
    ("eager", "#b9b4ac", "eager: transformers with PEFT; SoRA in its authors' form"),
]


def peers(rows, path):
    """Step time of ours, the strongest peer and the eager one a setting, and how often ours goes into the strongest's."""
    times = [ms for row in rows for who, *_ in SERIES if (ms := number(row, f"{who}_ms"))]
    if not times:
        raise SystemExit("no figure: nothing was measured")
    places = positions(rows)
    figure, ax = pyplot.subplots(figsize=(9, 1.8 + 0.5 * places[-1]), layout="constrained")
    for at, (who, color, _) in enumerate(SERIES):
        bars = [(place + 0.27 * (at - 1), number(row, f"{who}_ms")) for place, row in zip(places, rows)]
        bars = [(place, ms) for place, ms in bars if ms]
        ax.barh([place for place, _ in bars], [ms for _, ms in bars], height=0.26, color=color)
    for place, row in zip(places, rows):
        if ratio := number(row, "ratio"):
            text = f"{ratio:.3g} × ({row['strongest']})"
            ax.annotate(text, (number(row, "strongest_ms"), place), (4, 0), textcoords="offset points", va="center")
    ax.set_xscale("log")
    # From a power of ten, and with room for the ratios.
    ax.set_xlim(10 ** math.floor(math.log10(min(times))), 2.5 * max(times))
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:,g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("time of a training step, ms (log)")
    ax.set_yticks(places, [setting(row) for row in rows])
    ax.set_ylim(places[-1] + 0.6, places[0] - 0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right"]].set_visible(False)
    handles = [matplotlib.patches.Patch(color=color, label=text) for _, color, text in SERIES]
    legend = figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False, alignment="left")
    legend.set_title(where(rows))
    save(figure, path)


def positions(rows):
    """Where each row's bars are, with a gap between the methods of two settings."""
    found, last = [], 0
    for before, row in zip([rows[0], *rows], rows):
        is_new = any(before[name] != row[name] for name in ("precision", "batch", "length"))
        last += 1.4 if is_new else 1
        found.append(last)
    return found


def setting(row):
    return f"{both_precisions(row)}   {row['batch']} × {row['length']}   {TITLES.get(row['method'], row['method'])}"


def scaling(rows, path):
    """Left the step time against the tokens of a batch with a least-squares line, right against the rank."""
    if not rows:
        raise SystemExit("no figure: nothing was measured")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5), width_ratios=[3, 2], layout="constrained")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for method, color in zip(methods, COLORS):
        mine = [row for row in rows if row["method"] == method]
        by_tokens, by_rank = ([row for row in mine if row["what"] == what] for what in ("tokens", "rank"))
        x, y = list(map(tokens, by_tokens)), list(map(milliseconds, by_tokens))
        left.plot(x, y, "o", color=color, label=TITLES.get(method, method) + fit(left, x, y, color))
        right.plot([int(row["r"]) for row in by_rank], list(map(milliseconds, by_rank)), "o-", color=color)
    ranked = [row for row in rows if row["what"] == "rank"]
    left.set(xlabel="tokens of a batch (batch × length)", ylabel="time of a training step, ms")
    left.xaxis.set_major_formatter("{x:,g}")
    right.set(xlabel="rank r", ylabel="time of a training step, ms", xticks=sorted({int(row["r"]) for row in ranked}))
    right.set_title(" and ".join(dict.fromkeys(map(shape, ranked))), loc="left", fontsize="medium")
    for ax in (left, right):
        ax.set_xlim(left=0)
        ax.set_ylim(0, 1.15 * ax.get_ylim()[1])
        ax.spines[["top", "right"]].set_visible(False)
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0)
    figure.suptitle(f"{where(rows)}, {rows[0]['precision']}", x=0.01, ha="left", fontsize="medium")
    # One label a shape: the methods' points lie above each other.
    first = [row for row in rows if row["what"] == "tokens" and row["method"] == methods[0]]
    label(left, [(tokens(row), milliseconds(row), shape(row)) for row in first])
    save(figure, path)


def fit(ax, x, y, color):
    """Draws the least-squares line, and says what it is."""
    if len(set(x)) < 3:
        return ""
    slope, fixed = statistics.linear_regression(x, y)
    ax.plot([0, max(x)], [fixed, fixed + slope * max(x)], color=color, linewidth=1)
    square = statistics.correlation(x, y) ** 2
    return f": fixed cost {fixed:.3g} ms + {1000 * slope:.3g} ms per 1,000 tokens, R² = {square:.4f}"


def label(ax, points):
    """Writes each point's text at the nearest place that covers no point, line or other text."""
    ax.figure.draw_without_rendering()
    renderer = ax.figure.canvas.get_renderer()
    drawn = [ax.transData.transform((x, y)) for line in ax.lines for x, y in dense(line.get_xydata())]
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in drawn]
    angles = [math.radians(degrees) for degrees in (90, 270, 0, 180, 45, 315, 135, 225)]
    places = [(distance * math.cos(a), distance * math.sin(a)) for distance in range(12, 72, 6) for a in angles]
    # From the top, so that of two points with the same tokens the upper one's text is above.
    for x, y, text in sorted(points, key=lambda point: -point[1]):
        note = ax.annotate(
            text, (x, y), (0, 0), textcoords="offset points", ha="center", va="center", fontsize="small",
            arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )
        note.set_in_layout(False)
        for place in places:
            note.set_position(place)
            note.update_positions(renderer)
            # The text's own: an annotation's holds its arrow.
            box = Text.get_window_extent(note, renderer)
            if inside(box, ax.bbox) and not box.count_overlaps(taken):
                break
        taken.append(box)


def dense(points):
    """A line's points, with 100 on the way where it is one segment."""
    if len(points) != 2:
        return points
    (x0, y0), (x1, y1) = points
    return [(x0 + (x1 - x0) * i / 100, y0 + (y1 - y0) * i / 100) for i in range(101)]


def inside(box, outer):
    return outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1


def where(rows):
    return f"{rows[0]['backbone']}, {rows[0]['device']}"


def shape(row):
    return f"{row['batch']} × {row['length']}"


def tokens(row):
    return int(row["batch"]) * int(row["length"])


def milliseconds(row):
    return 1000 * float(row["seconds"])


def number(row, name):
    """None where a run failed."""
    return float(row[name]) if row.get(name) else None


def save(figure, path):
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=150)
    pyplot.close(figure)
    print(f"figure: {path}.svg, {path}.png")


FIGURES = {"peers": peers, "scaling": scaling}
