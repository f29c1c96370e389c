"""The confusion matrix (PNG)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sowa.evaluation.benchmark.figures import save

INCHES, LARGEST = 0.45, 16.0  # of a class, and of the figure
COUNTED = 25  # classes up to which the cells hold their counts


def draw(confusion: Sequence[Sequence[int]], names: Sequence[str], path: Path) -> None:
    """Draws it to a file. Raises InputError where the file can't be written."""
    save(confusion_figure(confusion, names), path)


def confusion_figure(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """Rows are true classes, columns predicted ones; shades are shares of a row, numbers are images."""
    table = np.array(confusion)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = min(LARGEST, 2.5 + INCHES * len(names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) <= COUNTED:
        for row, column in np.argwhere(table):
            shade = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(table[row, column]), ha="center", va="center", color=shade)
    return figure
