"""Rows of categories brought together: means over categories and seeds, as they are published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

Row = dict[str, Any]
TITLES = {
    "mvtec": "MVTec AD",
    "visa": "VisA",
    "btad": "BTAD",
    "dagm": "DAGM",
    "dtd-synthetic": "DTD-Synthetic",
    "mvtec2": "MVTec AD 2",
    "mpdd": "MPDD",
    "kolektor": "KolektorSDD",
    "kolektor2": "KolektorSDD2",
    "magnetic-tile": "Magnetic Tile",
}
FIELDS = {"image_AUROC": "AC AUROC", "image_AP": "AC AP", "pixel_AUROC": "AS AUROC", "pixel_AUPRO": "AS AUPRO"}


class Summary(NamedTuple):
    """A metric over seeds, fractions in 0..1; NaN where undefined.

    Attributes:
        mean: Over seeds.
        std: The standard deviation over seeds.
    """

    mean: float
    std: float


def summary(rows: Sequence[Row], k_shot: int, metric: str) -> Summary:
    """A metric of several categories: the mean over categories for each seed, then over seeds.

    Args:
        rows: Of the categories.
        k_shot: The number of shots.
        metric: Its name.
    """
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        for run in row["runs"]:
            if run["k_shot"] == k_shot:
                by_seed.setdefault(run["seed"], []).append(_number(run["metrics"][metric]))
    means = [np.mean(values) for values in by_seed.values()]
    return Summary(float(np.mean(means)), float(np.std(means))) if means else Summary(np.nan, np.nan)


def by_dataset(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of each data set, in the order in which they come."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["dataset"], []).append(row)
    return found


def shots(rows: Sequence[Row]) -> list[int]:
    """All numbers of shots, rising."""
    return sorted({run["k_shot"] for row in rows for run in row["runs"]})


def size_ranges(rows: Sequence[Row]) -> list[str]:
    """What the ranges of defect size are called, from the smallest up; shares of the image."""
    return [_range(100 * found["smallest"], 100 * found["largest"]) for found in rows[0]["by_size"]]


def size_mean(rows: Sequence[Row], index: int, metric: str) -> float:
    """Mean over the categories that have defects of a range of sizes, in 0..1; NaN where none has.

    Args:
        rows: Of the categories.
        index: Of the range, from the smallest up.
        metric: Its name.
    """
    values = [row["by_size"][index][metric] for row in rows]
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else np.nan


def size_regions(rows: Sequence[Row], index: int) -> int:
    """How many defects there are of the ``index``-th range."""
    return sum(row["by_size"][index]["regions"] for row in rows)


def _range(low: float, high: float) -> str:
    if low == 0:
        return f"under {high:g} %"
    return f"over {low:g} %" if high == 100 else f"{low:g} to {high:g} %"


def _number(value: float | None) -> float:
    return np.nan if value is None else value
