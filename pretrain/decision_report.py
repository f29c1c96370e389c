"""What a learned boundary is worth on products that taught it nothing: tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_auc_score

from sowa.core.config import WRONG
from sowa.core.decision import DecisionRule

if TYPE_CHECKING:
    from decision import Floats, Judged

COLUMNS = (
    *("AUROC", "accuracy", "false alarms", "found"),
    *("accuracy halfway", "at a rate of 1 %", "best", "unsure", "sure"),
)


def best_accuracy(good: Floats, bad: Floats) -> float:
    """Balanced accuracy of the threshold that is best in hindsight."""
    return max(balanced(good, bad, cut) for cut in np.r_[-np.inf, good, bad])


def balanced(good: Floats, bad: Floats, cut: float) -> float:
    return float((np.mean(good <= cut) + np.mean(bad > cut)) / 2)


def row(judged: Judged, band: tuple[float, float]) -> tuple[float, ...]:
    run, good, bad = judged.run, judged.good, judged.bad
    sure_good, sure_bad = (part[(part <= band[0]) | (part >= band[1])] for part in (good, bad))
    sure = balanced(sure_good, sure_bad, 0.5) if len(sure_good) and len(sure_bad) else np.nan
    return (
        float(roc_auc_score(np.r_[np.zeros(len(good)), np.ones(len(bad))], np.r_[run.good, run.bad])),
        balanced(good, bad, 0.5),
        float(np.mean(good > 0.5)),
        float(np.mean(bad > 0.5)),
        balanced(run.good, run.bad, 0.5 * run.traits.damage),
        balanced(run.good, run.bad, float(np.log(run.image.bound(0.01)) - run.image.centre)),
        best_accuracy(good, bad),
        1 - (len(sure_good) / len(good) + len(sure_bad) / len(bad)) / 2,
        sure,
    )


def report(left_out: Sequence[Judged], rule: DecisionRule) -> None:
    band, rows = rule.band(WRONG), dict[tuple[str, int], list[tuple[float, ...]]]()
    for judged in left_out:
        rows.setdefault((judged.run.product, judged.run.shots), []).append(row(judged, band))
    print("| product | references | " + " | ".join(COLUMNS) + " |\n|---|---|" + "---|" * len(COLUMNS))
    means = {key: np.array([mean(column) for column in zip(*lines, strict=True)]) for key, lines in rows.items()}
    for (name, shots), values in sorted(means.items()):
        print(f"| {name} | {shots} | {cells(values)} |")
    for shots in sorted({shots for _, shots in means}):
        table = [values for (_, own), values in means.items() if own == shots]
        print(f"| mean | {shots} | {cells([mean(column) for column in zip(*table, strict=True)])} |")
    report_reliability(left_out)


def report_reliability(left_out: Sequence[Judged]) -> None:
    """How often an image of a score is bad, products and of each good and bad images counting equally."""
    from decision import Table

    table = Table.of([(one.run.product, one.good, one.bad) for one in left_out])
    tenth = np.minimum((table.values * 10).astype(int), 9)
    weight = np.bincount(tenth, table.weights, 10)
    score, bad = (
        np.bincount(tenth, table.weights * part, 10) / np.where(weight > 0, weight, np.nan)
        for part in (table.values, table.bad)
    )
    print(f"\nExpected calibration error: {np.nansum(weight * np.abs(score - bad)):.3f}\n")
    print("| score | mean | of these bad | of all |\n|---|---|---|---|")
    for number in range(10):
        told = (score[number], bad[number], weight[number])
        print(f"| {number / 10:.1f}–{(number + 1) / 10:.1f} | {cells(told)} |")


def mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan


def cells(values: Sequence[float] | Floats) -> str:
    return " | ".join("–" if np.isnan(value) else f"{value:.3f}" for value in values)
