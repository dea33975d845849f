"""The picture of ``bench.limits``: the roofline model, and each kernel as a share of its limit.

Colours are from the palette of Okabe and Ito, which the colour-blind can tell apart; shapes tell the same.
Williams, Waterman & Patterson (2009), "Roofline: an insightful visual performance model".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOOKS = {  # family: colour, marker
    "linear": ("#000000", "s"),
    "conv forward": ("#0072B2", "o"),
    "conv grad-weight": ("#56B4E9", "^"),
    "conv grad-input": ("#009E73", "v"),
    "activation": ("#D55E00", "D"),
    "pooling": ("#CC79A7", "P"),
    "loss": ("#E69F00", "X"),
    "update": ("#7F3F98", "<"),
    "norm": ("#7F8C99", ">"),
    "dropout": ("#7F8C99", "h"),
    "im2col": ("#7F8C99", "d"),
}
ROW = 0.185  # inches a kernel takes in the lower panels
TITLES = {"arithmetic": "of the multiply-add limit", "memory": "of the copy limit, {megabytes} MB an array"}


def _roofs(axes: Axes, run: dict[str, Any], counts: list[str]) -> None:
    """A line a number of threads: what memory allows, up to what arithmetic allows."""
    low, high = axes.get_xlim()
    x = np.geomspace(low, high, 400)
    for n, style in zip(counts, ("--", "-"), strict=False):
        peak, bandwidth = (run["limits"][n][limit] for limit in ("arithmetic", "memory"))
        label = f"{n} thread{'s' if n != '1' else ''}: {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.0f} GB/s"
        roof = np.minimum(peak, x * bandwidth) / 1e9
        axes.plot(x, roof, style, color="#555555", linewidth=1.2, label=label, zorder=1)


def _roofline(axes: Axes, run: dict[str, Any], counts: list[str]) -> None:
    seen = set()
    for kernel in run["kernels"]:
        seconds = kernel["seconds"][counts[-1]]
        if kernel["operations"] <= 0 or seconds <= 0:
            continue  # what only moves memory has no place here
        family = kernel["family"]
        colour, marker = LOOKS[family]
        label = None if family in seen else family
        seen.add(family)
        at = kernel["operations"] / kernel["traffic"], kernel["operations"] / seconds / 1e9
        axes.plot(*at, marker, color=colour, markersize=6, alpha=0.85, linewidth=0, label=label, zorder=2)
    axes.set(xscale="log", yscale="log", xlabel="operations per byte of compulsory traffic", ylabel="GFLOP/s")
    axes.set_xlim(0.03, 400)
    _roofs(axes, run, counts)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    axes.set_title("Operations a second under the machine's two limits", loc="left", fontsize=11)


def _shares(axes: Axes, kernels: list[dict[str, Any]], count: str, title: str) -> None:
    """A row a kernel: its share of the limit, and a stroke at the share it means to reach."""
    for row, kernel in enumerate(kernels):
        colour, marker = LOOKS[kernel["family"]]
        share = max(0.0, 100 * kernel["share"][count])  # a difference of two times can come out below zero
        axes.plot([0, share], [row, row], color=colour, linewidth=1, alpha=0.45, zorder=1)
        axes.plot(share, row, marker, color=colour, markersize=5.5, zorder=3, clip_on=False)
        if kernel["bar"] is not None:
            axes.plot(100 * kernel["bar"], row, "|k", markersize=9, markeredgewidth=1.2, zorder=2)
    axes.set_yticks(range(len(kernels)), [kernel["name"] for kernel in kernels], fontsize=8)
    axes.set_ylim(len(kernels) - 0.4, -0.6)
    axes.set_xlim(0, max(105.0, *(103 * kernel["share"][count] for kernel in kernels)))
    axes.set_xlabel(f"% {title}", fontsize=9)


def draw(run: dict[str, Any], path: Path) -> None:
    """Draw a run of ``bench.limits`` to `path`, a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = sorted(run["limits"], key=int)
    held = {limit: [k for k in run["kernels"] if k["limit"] == limit] for limit in TITLES}
    held = {limit: kernels for limit, kernels in held.items() if kernels}
    lower = 1.0 + ROW * max(map(len, held.values()))
    figure = Figure(figsize=(12, 4.4 + lower), layout="constrained")
    FigureCanvasAgg(figure)
    upper, below = figure.subfigures(2, 1, height_ratios=[4.4, lower])
    axes = [upper.subplots()]
    _roofline(axes[0], run, counts)
    panels = np.atleast_1d(below.subplots(1, len(held)))
    for panel, (limit, kernels) in zip(panels, held.items(), strict=True):
        _shares(panel, kernels, counts[-1], TITLES[limit].format(megabytes=run["megabytes"]))
        axes.append(panel)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25, linewidth=0.6, axis="x" if one is not axes[0] else "both")
        one.set_axisbelow(True)
    title = f"Share of its limit that each kernel reaches, {counts[-1]} threads; strokes are aims"
    below.suptitle(title, fontsize=11, x=0.01, ha="left")
    when = f"{run['machine']['processor']}, {run['date'][:10]}"
    upper.suptitle(when, fontsize=9, color="#555555", x=0.99, ha="right")
    figure.savefig(path, dpi=150)
