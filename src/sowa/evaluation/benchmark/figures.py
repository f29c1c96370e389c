"""The benchmark's numbers in images (PNG)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sowa.core.files import write_bytes
from sowa.evaluation.benchmark.summary import FIELDS, TITLES, Row, by_dataset, shots, size_mean, size_ranges, summary

# Okabe and Ito's colours, which colour-blind readers tell apart, each with a marker of its own; then dashed.
STYLES = tuple(zip(("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"), "os^Dv", strict=True))
SIZE_COLOURS = ("#FDE0A6", "#F4A259", "#C8553D", "#6B2737")  # darker with size, also in grey


def draw_shots(rows: Sequence[Row], path: Path) -> None:
    """The four published metrics against the number of shots, a line per data set, bars of one standard deviation.

    Args:
        rows: Of the benchmark.
        path: The PNG.

    Raises:
        InputError: the file can't be written.
    """
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    every = shots(rows)
    for axes, (metric, label) in zip(figure.subplots(1, len(FIELDS)), FIELDS.items(), strict=True):
        for number, (name, of_set) in enumerate(by_dataset(rows).items()):
            turn, place = divmod(number, len(STYLES))
            colour, marker = STYLES[place]
            means, deviations = np.transpose([summary(of_set, k_shot, metric) for k_shot in every])
            line = ("-", "--")[turn]
            axes.errorbar(
                range(len(every)),
                means,
                deviations,
                color=colour,
                marker=marker,
                linestyle=line,
                markersize=5,
                capsize=3,
                label=TITLES[name],
            )
        axes.set_xticks(range(len(every)), [str(k_shot) for k_shot in every])
        axes.margins(x=0.1)
        axes.set_xlabel("shots")
        _finish(axes, label)
    _legend_below(figure, axes)
    save(figure, path)


def draw_sizes(rows: Sequence[Row], path: Path) -> None:
    """AUROC and AUPRO of pixels by defect size, a group of bars per data set; a size without defects has no bar.

    Args:
        rows: Of the benchmark.
        path: The PNG.

    Raises:
        InputError: the file can't be written.
    """
    found, ranges = by_dataset(rows), size_ranges(rows)
    lines, columns = (1, 2) if len(found) <= len(STYLES) else (2, 1)  # names would run into each other
    figure = Figure(figsize=(11, 3.6 * lines), layout="constrained")
    width = 0.8 / len(ranges)
    metrics = {"pixel_AUROC": "AUROC of pixels", "pixel_AUPRO": "AUPRO"}
    for axes, (metric, label) in zip(figure.subplots(lines, columns), metrics.items(), strict=True):
        for index, size in enumerate(ranges):
            heights = [size_mean(of_set, index, metric) for of_set in found.values()]
            places = np.arange(len(found)) + (index - (len(ranges) - 1) / 2) * width
            bars = axes.bar(places, heights, width, color=SIZE_COLOURS[index], edgecolor="black", lw=0.5, label=size)
            axes.bar_label(bars, ["" if np.isnan(h) else f"{100 * h:.0f}" for h in heights], fontsize=7, padding=1)
        axes.set_xticks(range(len(found)), [TITLES[name] for name in found], fontsize=9)
        axes.set_xlim(-0.6, len(found) - 0.4)
        axes.set_ylim(0, 1.08)
        axes.set_yticks(np.linspace(0, 1, 6))
        _finish(axes, label)
    _legend_below(figure, axes, title="size of the defect, share of the image")
    save(figure, path)


def _finish(axes: Axes, label: str) -> None:
    axes.set_title(label, fontsize=11)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend_below(figure: Figure, axes: Axes, title: str | None = None) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, title=title, loc="outside lower center", ncols=min(len(labels), 5), frameon=False)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG.

    Args:
        figure: What is drawn.
        path: The file.

    Raises:
        InputError: the file can't be written.
    """
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getvalue())
