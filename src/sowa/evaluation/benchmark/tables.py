"""The benchmark's numbers in words: Markdown and CSV, beside what others have published."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from importlib.resources import files
from io import StringIO
from typing import Any

import numpy as np

from sowa.evaluation.benchmark.summary import (
    FIELDS,
    TITLES,
    Row,
    by_dataset,
    shots,
    size_mean,
    size_ranges,
    size_regions,
    summary,
)
from sowa.evaluation.results import METRICS

CATEGORIES = {"mvtec": 15, "visa": 12, "btad": 3, "dagm": 10, "dtd-synthetic": 12}  # as published
OURS = "this run"


def markdown(rows: Sequence[Row], command: str, machine: str) -> str:
    """The whole result as Markdown with links to the images that lie beside it.

    Args:
        rows: Of the benchmark.
        command: What was typed.
        machine: What it ran on, in words.
    """
    most = shots(rows)[-1]
    parts = [
        "# Benchmark",
        f"    {command}",
        f"{machine} Numbers are percent: the mean over categories, then mean ± standard deviation over seeds. AC: "
        "anomaly classification (images), AS: anomaly segmentation (pixels).",
        _trained_on(rows),
        *_warnings(rows, most),
        f"## {_with(most)}, beside published values with 4",
        _fields_table(rows, most),
        _methods_table(rows, most),
        f"Published: {published()['source']}",
        "## Shots",
        "![The four published metrics against the number of shots](shots.png)",
        _shots_table(rows),
        f"## Defect size, {_with(most)}",
        "Shares of the image that one connected defect covers. Defects of other sizes are left out of each number.",
        "![AUROC and AUPRO of pixels by defect size](sizes.png)",
        _sizes_table(rows),
        f"## Categories, {_with(most)}",
        _categories_table(rows, most),
        "## Levels",
        "The image, what each level adds (enlarged as if all saw it), and their sum; the true defect is outlined.",
        *_strips(rows),
    ]
    return "\n\n".join(parts) + "\n"


def comma_separated(rows: Sequence[Row]) -> str:
    """A line per category, number of shots and seed; metrics in 0..1, undefined ones empty."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["dataset", "category", "k_shot", "seed", *METRICS])
    for row in rows:
        for run in row["runs"]:
            values = [run["metrics"][name] for name in METRICS]
            writer.writerow([row["dataset"], row["category"], run["k_shot"], run["seed"], *values])
    return text.getvalue()


def published() -> dict[str, Any]:
    """What others have published: ``source``, and ``rows`` with [mean, standard deviation] in percent."""
    found: dict[str, Any] = json.loads(
        (files("sowa.evaluation.benchmark") / "published.json").read_text(encoding="utf-8")
    )
    return found


def table(header: Sequence[Any], lines: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; columns after the first are aligned to the right.

    Args:
        header: What the columns are called.
        lines: As many cells each.

    Example:
        >>> print(table(["category", "AUROC"], [["bottle", 0.98]]))
        | category | AUROC |
        |---|--:|
        | bottle | 0.98 |
    """
    rule = "|---|" + "--:|" * (len(header) - 1)
    written = ["| " + " | ".join(map(str, line)) + " |" for line in (header, *lines)]
    return "\n".join([written[0], rule, *written[1:]])


def _with(k_shot: int) -> str:
    return f"{k_shot} shot{'' if k_shot == 1 else 's'}"


def _trained_on(rows: Sequence[Row]) -> str:
    whence = {
        TITLES[name]: f"trained on {TITLES[of_set[0]['trained_on']]}" if of_set[0]["trained_on"] else "as given"
        for name, of_set in by_dataset(rows).items()
    }
    return "Weights: " + "; ".join(f"for {name} {how}" for name, how in whence.items()) + "."


def _warnings(rows: Sequence[Row], most: int) -> list[str]:
    """Where these numbers aren't what the published ones are."""
    few = [
        f"{TITLES[name]} is {len(of_set)} of {CATEGORIES[name]} categories"
        for name, of_set in by_dataset(rows).items()
        if len(of_set) < CATEGORIES.get(name, 0)
    ]
    first, theirs = rows[0], published()["how"]
    how = {"backbone": first["backbone"], "scoring": first["scoring"], "aupro": first["aupro"], "shots": most}
    other = [f"{name} {how[name]} instead of {theirs[name]}" for name in how if how[name] != theirs[name]]
    warnings = [f"**Not comparable with published means**: {'; '.join(few)}."] if few else []
    if other:
        warnings.append(f"**Other settings than the published ones**: {', '.join(other)}.")
    if 0 in shots(rows) and not all(row["prompts_trained"] for row in rows):
        warnings.append("**Zero shots say nothing here**: the prompts aren't trained.")
    return warnings


def _fields_table(rows: Sequence[Row], k_shot: int) -> str:
    """The paper's first table: every data set and metric."""
    methods = ("WinCLIP", "April-GAN", "SOWA")
    lines = [
        [
            label,
            TITLES[name],
            *(_theirs(method, name, metric) for method in methods),
            _ours(of_set, k_shot, metric),
        ]
        for metric, label in FIELDS.items()
        for name, of_set in by_dataset(rows).items()
    ]
    return table(["metric", "data set", *methods, OURS], lines)


def _methods_table(rows: Sequence[Row], k_shot: int) -> str:
    """The paper's second table: every method on MVTec AD and VisA."""
    methods = ("PatchCore", "WinCLIP", "April-GAN", "PromptAD", "InCTRL", "SOWA")
    cells = [(name, metric) for name in ("mvtec", "visa") for metric in ("image_AUROC", "pixel_AUROC", "pixel_AUPRO")]
    found = by_dataset(rows)
    lines = [[method, *(_theirs(method, name, metric) for name, metric in cells)] for method in methods]
    lines.append([OURS, *(_ours(found.get(name, []), k_shot, metric) for name, metric in cells)])
    return table(["method", *(f"{TITLES[name]} {FIELDS[metric]}" for name, metric in cells)], lines)


def _shots_table(rows: Sequence[Row]) -> str:
    lines = [
        [TITLES[name], k_shot, *(_ours(of_set, k_shot, metric) for metric in METRICS)]
        for name, of_set in by_dataset(rows).items()
        for k_shot in shots(of_set)
    ]
    return table(["data set", "shots", *METRICS], lines)


def _sizes_table(rows: Sequence[Row]) -> str:
    lines = [
        [
            TITLES[name],
            size,
            size_regions(of_set, index),
            *(_percent(size_mean(of_set, index, metric)) for metric in ("pixel_AUROC", "pixel_AUPRO")),
        ]
        for name, of_set in by_dataset(rows).items()
        for index, size in enumerate(size_ranges(rows))
    ]
    return table(["data set", "size", "defects", "pixel_AUROC", "pixel_AUPRO"], lines)


def _categories_table(rows: Sequence[Row], k_shot: int) -> str:
    lines = [
        [
            TITLES[row["dataset"]],
            row["category"],
            *(_ours([row], k_shot, metric) for metric in METRICS),
            f"{row['images_per_second']:.1f}",
        ]
        for row in rows
    ]
    return table(["data set", "category", *METRICS, "images a second"], lines)


def _strips(rows: Sequence[Row]) -> list[str]:
    """The first category of each data set; the others lie beside it."""
    drawn = [[row for row in of_set if row["levels"]] for of_set in by_dataset(rows).values()]
    firsts = [of_set[0] for of_set in drawn if of_set]
    strips = [f"![{TITLES[row['dataset']]} {row['category']}]({row['levels']})" for row in firsts]
    more = any(len(of_set) > 1 for of_set in drawn)
    return [*strips, *(["The other categories are in [levels](levels)."] if more else [])]


def _ours(rows: Sequence[Row], k_shot: int, metric: str) -> str:
    mean, std = summary(rows, k_shot, metric)
    return "–" if np.isnan(mean) else f"{100 * mean:.1f} ± {100 * std:.1f}"


def _theirs(method: str, dataset: str, metric: str) -> str:
    for row in published()["rows"]:
        if (row["method"], row["dataset"]) == (method, dataset) and metric in row:
            mean, std = row[metric]
            return f"{mean:.1f} ± {std:.1f}"
    return "–"


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"
