"""What an evaluation found: metrics of every run, and their means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sowa.evaluation.config import EvaluationConfig
from sowa.metrics import Curve, Interval, MetricValue

METRICS = ("image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "pixel_F1Max", "pixel_AUPRO")
"""How well images and pixels are ranked."""
DECISIONS = (
    "image_BalancedAccuracy",
    "image_TPR",
    "image_FPR",
    "image_Unsure",
    "image_SureBalancedAccuracy",
    "pixel_F1",
)
"""What the default thresholds make of it."""


@dataclass(frozen=True)
class Run:
    """Metrics of one category with one set of references.

    Attributes:
        category: Its name.
        k_shot: The number of references.
        seed: That drew them.
        metrics: By name, in 0..1.
        references: Their paths.
        image_size: (H, W) in pixels at which images were seen.
        intervals: By name, where `EvaluationConfig.bootstrap` asks.
        curves: By name, where the run was inspected.
    """

    category: str
    k_shot: int
    seed: int
    metrics: dict[str, MetricValue]
    references: list[str]
    image_size: tuple[int, int]
    intervals: dict[str, Interval] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """All runs on a data set.

    Attributes:
        dataset: Its name.
        backbone: Its name.
        trained: Whether prompts are; without it zero shots are chance.
        config: How the data set was judged.
        runs: One for each category, number of shots and seed.
        images_per_second: The rate of the network, which all runs share.
        tiled: Whether through windows.
        skipped: Images that couldn't be read, and why.
    """

    dataset: str
    backbone: str
    trained: bool
    config: EvaluationConfig
    runs: list[Run]
    images_per_second: float
    tiled: bool
    skipped: list[tuple[str, str]]

    def mean(self, category: str | None = None) -> list[dict[str, Any]]:
        """For each number of shots, mean and standard deviation over seeds.

        Args:
            category: Of one category; None for the mean of all.
        """
        rows = []
        runs = [run for run in self.runs if category in (None, run.category)]
        for k_shot in sorted({run.k_shot for run in runs}):
            chosen = [run for run in runs if run.k_shot == k_shot]
            metrics = {name: _mean_over_seeds(chosen, name) for name in (*METRICS, *DECISIONS)}
            rows.append({"k_shot": k_shot, "seeds": len({run.seed for run in chosen}), "metrics": metrics})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON. Undefined metrics are null, with the reason under ``why``."""
        return {
            "dataset": self.dataset,
            "backbone": self.backbone,
            "prompts_trained": self.trained,
            "scoring": self.config.scoring,
            "aupro": self.config.aupro,
            "tiled": self.tiled,
            "runs": [
                {
                    "category": run.category,
                    "k_shot": run.k_shot,
                    "seed": run.seed,
                    "metrics": {name: value.to_json() for name, value in run.metrics.items()},
                    "why": {name: value.why for name, value in run.metrics.items() if value.why},
                    "references": run.references,
                    "image_size": list(run.image_size),
                    **({"intervals": _to_json(run.intervals)} if self.config.bootstrap else {}),
                }
                for run in self.runs
            ],
            "mean": self.mean(),
            "images_per_second": round(self.images_per_second, 3),
            "skipped": [{"image_path": path, "why": why} for path, why in self.skipped],
        }


def _to_json(intervals: dict[str, Interval]) -> dict[str, list[float] | None]:
    return {name: interval.to_json() for name, interval in intervals.items()}


def _mean_over_seeds(runs: Sequence[Run], name: str) -> dict[str, float | None]:
    seeds = dict.fromkeys(run.seed for run in runs)
    values = [np.mean([run.metrics[name].value for run in runs if run.seed == seed]) for seed in seeds]
    mean, std = float(np.mean(values)), float(np.std(values))
    return {"mean": None, "std": None} if np.isnan(mean) else {"mean": mean, "std": std}
