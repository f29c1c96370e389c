"""``sowa test``: the table of metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from sowa.console import Console
from sowa.evaluate import METRICS, Evaluation, Run


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Means over seeds with their standard deviation, a line per category and number of shots; intervals below."""
    header = ["category", "shots", "seeds", *METRICS]
    rows: list[list[Any]] = []
    for category in dict.fromkeys(run.category for run in evaluation.runs):
        rows += _rows(category, evaluation, category)
    if len({run.category for run in evaluation.runs}) > 1:
        rows += _rows("mean", evaluation, None)
    console.table(f"{evaluation.dataset}, {evaluation.backbone}, {evaluation.config.scoring} scoring", header, rows)
    if not evaluation.trained and (evaluation.config.scoring == "paper" or any(not r.k_shot for r in evaluation.runs)):
        console.note("zero shots and paper scores say nothing here: the prompts aren't trained; give --model WEIGHTS")
    for why in dict.fromkeys(v.why for run in evaluation.runs for v in run.metrics.values() if v.why):
        console.note(f"–: {why}")
    if evaluation.config.bootstrap:
        console.note(
            f"95 %: intervals over the pictures, {evaluation.config.bootstrap} resamples; ends averaged over seeds"
        )
    console.note(f"{evaluation.images_per_second:.1f} pictures a second through the network, which all runs share")


def _rows(name: str, evaluation: Evaluation, category: str | None) -> list[list[Any]]:
    rows = []
    for row in evaluation.mean(category):
        cells = [
            "–" if value["mean"] is None else f"{value['mean']:.4f} ± {value['std']:.4f}"
            for value in row["metrics"].values()
        ]
        rows.append([name, row["k_shot"], row["seeds"], *cells])
        if category and evaluation.config.bootstrap:
            runs = [run for run in evaluation.runs if (run.category, run.k_shot) == (category, row["k_shot"])]
            rows.append(["", "", "95 %", *(_interval(runs, metric) for metric in METRICS)])
    return rows


def _interval(runs: list[Run], metric: str) -> str:
    ends = [(run.intervals[metric].low, run.intervals[metric].high) for run in runs if metric in run.intervals]
    low, high = np.mean(ends, axis=0) if ends else (np.nan, np.nan)
    return "–" if np.isnan(low) else f"{low:.4f}–{high:.4f}"
