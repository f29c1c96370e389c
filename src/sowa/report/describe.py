"""What a report says of a run: what was judged, when, and with what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sowa.detector.exported import ExportedSowa
from sowa.detector.prediction import Boundary
from sowa.evaluation.results import DECISIONS, METRICS, Evaluation, Run
from sowa.report import Plot, Summary, Table
from sowa.report.summary import now

if TYPE_CHECKING:
    from sowa.detector.detector import Sowa

AREAS = {"ROC": "image_AUROC", "PR": "image_AP", "PRO": "pixel_AUPRO"}


def describe_predictions(
    detector: Sowa | ExportedSowa, source: Path, judged: int, seconds: float, command: str
) -> Summary:
    """The head of the report of ``sowa predict`` on ``source``."""
    if isinstance(detector, ExportedSowa):
        boundary: Boundary = detector.boundary
        facts = _exported(detector)
    else:
        boundary, facts = detector.calibration_, _fitted(detector)
    facts |= {
        "Shots": str(len(detector.references_)),
        "Threshold": f"{boundary.threshold:.4g} (raw score)",
        "Unsure": "from {:.4g} to {:.4g} (raw score)".format(*boundary.unsure),
        "Pixel threshold": f"{boundary.pixel_threshold:.4g}",
        "Time": f"{seconds:.1f} s, {judged / seconds:.1f} images a second",
    }
    return Summary(
        title="Inspection report",
        subject=str(source),
        made=now(),
        facts=facts,
        references={"": detector.references_},
        skipped=list(detector.skipped_),
        command=command,
    )


def _fitted(detector: Sowa) -> dict[str, str]:
    method = "memory of the references" if detector.is_fitted else "no reference (zero-shot)"
    return _network(detector, [detector.image_size]) | {
        "Judged by": method + (" and trained prompts" if detector.is_fitted and detector.encoder.trained else ""),
        "Seed": "–" if detector.seed_ is None else str(detector.seed_),
        "Augmented by": ", ".join(detector.augment_) or "–",
        "Thresholds by": detector.calibration_.rule,
        "To expect": _expected(detector.calibration_.false_alarms, detector.calibration_.missed),
    }


def _expected(false_alarms: float | None, missed: float | None) -> str:
    """Of thresholds."""
    known = {"of good images called anomalous": false_alarms, "of bad ones missed": missed}
    return ", ".join(f"{share:.0%} {what}" for what, share in known.items() if share is not None) or "–"


def _exported(detector: ExportedSowa) -> dict[str, str]:
    metadata = detector.metadata
    return {
        "Backbone": str(metadata.detector["backbone"]),
        "Image size": "{} × {} pixels".format(*metadata.image_size),
        "Judged by": f"an export to {metadata.runtime}, {metadata.precision}",
        "To expect": _expected(*(metadata.detector.get(f"{kind}_expected") for kind in ("false_alarms", "missed"))),
    }


def describe_evaluation(evaluation: Evaluation, detector: Sowa, root: Path, command: str) -> Summary:
    """The head of the report of ``sowa test`` on the data set at ``root``; images are those of the inspected run."""
    shown = [run for run in evaluation.runs if run.curves]
    categories = list(dict.fromkeys(run.category for run in evaluation.runs))
    config = evaluation.config
    facts = _network(detector, [run.image_size for run in evaluation.runs]) | {
        "Data set": f"{evaluation.dataset}, {root}",
        "Categories": ", ".join(categories),
        "Shots": ", ".join(str(k_shot) for k_shot in config.k_shots),
        "Seeds": ", ".join(str(seed) for seed in config.seeds),
        "Scoring": {
            "inductive": "inductive: each image by itself",
            "paper": "paper: metrics mix the whole test set; verdicts are on each image by itself",
        }[config.scoring],
        "AUPRO": config.aupro,
        "Shown below": f"{max(config.k_shots)} shots, seed {config.seeds[0]}; thresholds from those references alone",
        "Speed": f"{evaluation.images_per_second:.1f} images a second through the network",
    }
    return Summary(
        title="Evaluation report",
        subject=f"{root.resolve().name}, "
        + (categories[0] if len(categories) == 1 else f"{len(categories)} categories"),
        made=now(),
        facts=facts,
        references={run.category: run.references for run in shown},
        skipped=evaluation.skipped,
        metrics={"Metrics": metrics_table(evaluation)}
        | ({"At the default thresholds": decisions_table(evaluation)} if config.scoring == "inductive" else {}),
        plots={run.category: _plots(run, config.scoring == "inductive") for run in shown},
        command=command,
    )


def metrics_table(evaluation: Evaluation) -> Table:
    """Means over seeds with their standard deviation, a line per category and number of shots; undefined ones as a
    dash, with the reason in a note."""
    rows: list[list[Any]] = []
    for category in dict.fromkeys(run.category for run in evaluation.runs):
        rows += _rows(category, evaluation, category)
    if len({run.category for run in evaluation.runs}) > 1:
        rows += _rows("mean", evaluation, None)
    notes = []
    if not evaluation.trained and (evaluation.config.scoring == "paper" or any(not r.k_shot for r in evaluation.runs)):
        notes = ["zero shots and paper scores say nothing here: the prompts aren't trained; give --model WEIGHTS"]
    if evaluation.config.bootstrap:
        notes.append(
            f"95 %: intervals over the images, {evaluation.config.bootstrap} resamples; ends averaged over seeds"
        )
    whys = dict.fromkeys(v.why for run in evaluation.runs for v in run.metrics.values() if v.why)
    return Table(["category", "shots", "seeds", *METRICS], rows, [*notes, *(f"–: {why}" for why in whys)])


def decisions_table(evaluation: Evaluation) -> Table:
    """As `metrics_table`, what the default thresholds make of it."""
    categories = list(dict.fromkeys(run.category for run in evaluation.runs))
    rows = [row for category in categories for row in _means(category, evaluation, category, DECISIONS)]
    if len(categories) > 1:
        rows += _means("mean", evaluation, None, DECISIONS)
    return Table(["category", "shots", "seeds", *DECISIONS], rows)


def _means(name: str, evaluation: Evaluation, category: str | None, metrics: Sequence[str]) -> list[list[Any]]:
    """A line for each number of shots."""
    rows = []
    for row in evaluation.mean(category):
        values = [row["metrics"][metric] for metric in metrics]
        cells = ["–" if value["mean"] is None else f"{value['mean']:.4f} ± {value['std']:.4f}" for value in values]
        rows.append([name, row["k_shot"], row["seeds"], *cells])
    return rows


def _rows(name: str, evaluation: Evaluation, category: str | None) -> list[list[Any]]:
    rows = []
    for row in _means(name, evaluation, category, METRICS):
        rows.append(row)
        if category and evaluation.config.bootstrap:
            runs = [run for run in evaluation.runs if (run.category, run.k_shot) == (category, row[1])]
            rows.append(["", "", "95 %", *(_interval(runs, metric) for metric in METRICS)])
    return rows


def _interval(runs: list[Run], metric: str) -> str:
    ends = [(run.intervals[metric].low, run.intervals[metric].high) for run in runs if metric in run.intervals]
    low, high = np.mean(ends, axis=0) if ends else (np.nan, np.nan)
    return "–" if np.isnan(low) else f"{low:.4f}–{high:.4f}"


def _network(detector: Sowa, sizes: Iterable[tuple[int, int]]) -> dict[str, str]:
    encoder = detector.encoder
    tiles = ", in tiles" if encoder.settings.tiled else ""
    return {
        "Backbone": encoder.name,
        "Prompts": "trained" if encoder.trained else "not trained",
        "Image size": ", ".join(f"{height} × {width}" for height, width in dict.fromkeys(sizes)) + " pixels" + tiles,
    }


def _plots(run: Run, inductive: bool) -> list[Plot]:
    """The run's curves. Paper scores aren't those that verdicts are on, so the threshold has no place among them."""
    areas = {name: run.metrics[metric] for name, metric in AREAS.items()}
    return [
        Plot(
            name,
            curve,
            f"{AREAS[name].replace('_', ' ')} " + (areas[name].why or f"{areas[name].value:.3f}"),
            inductive,
        )
        for name, curve in run.curves.items()
    ]
