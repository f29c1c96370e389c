"""The tables of attention.py in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

METRICS = ("image", "pixel", "AUPRO")
GLANCES = ("", "## Glances", "", "[glances.md](glances.md), by `benchmarks/glances.py`.")


def tables(found: dict[str, Any], types: Sequence[str], observers: int, weight: float) -> list[str]:
    """Everything that was measured; ``types`` of magnetic tile, simulated ``observers``, saliency's ``weight``."""
    text = [*bottom_up(found), *both(found, weight), *names(found["named"], types)]
    return [*text, *gaze(found["gaze"], observers), *GLANCES]


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def bottom_up(found: dict[str, Any]) -> list[str]:
    shares = ", ".join(f"{share:.1%} of the encoder at batch {count}" for count, share in found["cost"].items())
    heads = ["product, shots", *(f"{metric} {way}" for metric in METRICS for way in ("without", "with"))]
    rows = []
    for row, without in found["trained without"].items():
        pairs = zip(without, found["trained with"][row], strict=True)
        rows.append([row, *(f"{value:.3f}" for pair in pairs for value in pair)])
    text = ["", "## Bottom-up", "", f"Saliency takes {shares}.", ""]
    text += ["Adapters and prompts trained on the auxiliary data, one epoch, without and with saliency:", ""]
    return text + table(heads, rows)


def both(found: dict[str, Any], weight: float) -> list[str]:
    steered = {name: values for name, values in found.items() if name.startswith("steered ")}
    ways = list(next(iter(steered.values())))
    text = ["", "## Saliency weighs distances, names decide, and both", ""]
    text += [
        "Image / pixel AUROC of the memory with four references, mean of seeds 0, 1, 2. Saliency multiplies distances"
    ]
    text += [
        f"by exp(weight * saliency), names by the probability of any of nine; both: saliency {weight:+g} and names.",
        "",
    ]
    rows = [
        [name.removeprefix("steered "), *(f"{values[way][0]:.3f} / {values[way][1]:.3f}" for way in ways)]
        for name, values in steered.items()
    ]
    return text + table(["", *ways], rows)


def names(found: dict[str, Any], types: Sequence[str]) -> list[str]:
    text = ["", "## Top-down: what the defects of magnetic tile are called", ""]
    text += [
        "Rows: the defect; columns: what it was called; all three seeds together. AUROC: each type's map against the"
    ]
    text += ["images of the other types, mean of the seeds."]
    for way, part in found.items():
        matrix, areas = np.array(part["confusion"]), np.mean(part["auroc"], axis=0)
        right = np.trace(matrix) / matrix.sum()
        text += ["", f"By {way}: {right:.3f} right (chance {1 / len(types):g}), AUROC {areas.mean():.3f}.", ""]
        rows = [[kind, *row, f"{area:.3f}"] for kind, row, area in zip(types, matrix.tolist(), areas, strict=True)]
        text += table(["", *types, "AUROC"], rows)
    return text


def gaze(found: dict[str, Any], observers: int) -> list[str]:
    learned, tested = found["images"]
    text = ["", "## Gaze (simulated)", ""]
    text += [
        f"{observers} simulated observers (`sowa.extensions.gaze.observers`) look for generated defects. Learned on"
    ]
    text += [f"{learned} images of four products, tested on {tested} of three others. All simulated.", ""]
    heads = list(next(iter(found["metrics"].values())))
    rows = [
        [name, *("–" if math.isnan(value) else f"{value:.3f}" for value in metrics.values())]
        for name, metrics in found["metrics"].items()
    ]
    return text + table(["", *heads], rows)
