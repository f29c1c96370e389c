"""``sowa test``: the table of metrics."""

from __future__ import annotations

from typing import Any

from sowa.console import Console
from sowa.evaluate import METRICS, Evaluation


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Means over seeds with their standard deviation, a line per category and number of shots."""
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
    console.note(f"{evaluation.images_per_second:.1f} pictures a second through the network, which all runs share")


def _rows(name: str, evaluation: Evaluation, category: str | None) -> list[list[Any]]:
    rows = []
    for row in evaluation.mean(category):
        cells = [
            "–" if value["mean"] is None else f"{value['mean']:.4f} ± {value['std']:.4f}"
            for value in row["metrics"].values()
        ]
        rows.append([name, row["k_shot"], row["seeds"], *cells])
    return rows
