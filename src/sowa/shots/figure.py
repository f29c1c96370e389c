"""Curves of the metric against the number of shots (PNG)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from sowa.evaluation.benchmark.figures import STYLES, save
from sowa.shots.curve import Choice

MEASURED_ON = {"real": "real defects", "generated": "generated defects", "none": "predicted"}


def draw(choices: Sequence[Choice], path: Path) -> None:
    """A line per method with intervals of 95 %, a ring round the number to take.

    Raises InputError where the file can't be written.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for choice, (colour, marker) in zip(choices, STYLES, strict=False):
        shots = [point.shots for point in choice.points]
        means = [point.mean for point in choice.points]
        spans = [[p.mean - p.low for p in choice.points], [p.high - p.mean for p in choice.points]]
        label = f"{choice.method} ({MEASURED_ON[choice.labels]})"
        axes.errorbar(shots, means, spans, color=colour, marker=marker, capsize=3, label=label)
        at = means[shots.index(choice.chosen)]
        axes.plot([choice.chosen], [at], "o", markersize=15, fillstyle="none", color=colour)
    every = sorted({point.shots for choice in choices for point in choice.points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(every, [str(count) for count in every])
    axes.minorticks_off()
    axes.set_xlabel("reference images (shots)")
    axes.set_ylabel("image AUROC")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)
