"""``sowa test``: the table of metrics, the result as JSON, and a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sowa.cli.console import Console
from sowa.cli.options import (
    COMPUTE,
    NETWORK,
    SEEING,
    Augment,
    Aupro,
    Category,
    ComputeFlags,
    Dataset,
    Expect,
    JsonFile,
    KShots,
    NetworkFlags,
    Root,
    SaliencyWeight,
    Scoring,
    Seeds,
    SeeingFlags,
    Typed,
    advanced,
    augmentation,
    basic,
    extensions,
    numbers,
)
from sowa.core.files import write_bytes
from sowa.evaluation.config import EvaluationConfig

if TYPE_CHECKING:
    from sowa.core.types import Sample
    from sowa.detector.detector import Sowa
    from sowa.evaluation.inspection import Inspected
    from sowa.evaluation.results import Evaluation
    from sowa.report import ReportWriter


def run_test(
    *,
    dataset: Dataset,
    root: Root,
    category: Category = None,
    k_shot: KShots = "0,1,2,4",
    seeds: Seeds = "0,1,2",
    seeing: SeeingFlags = SEEING,
    json_file: JsonFile = None,
    report: Annotated[Path | None, basic("HTML file with metrics, curves and the verdict on every image")] = None,
    network: NetworkFlags = NETWORK,
    bootstrap: Annotated[int, advanced("resamples for 95 % confidence intervals, such as 1000; 0 for none")] = 0,
    scoring: Scoring = "inductive",
    aupro: Aupro = "standard",
    augment: Augment = "auto",
    saliency_weight: SaliencyWeight = 0.0,
    expect: Expect = None,
    compute: ComputeFlags = COMPUTE,
    typed: Typed = None,
) -> None:
    """Measure accuracy on a labelled data set, for several numbers of shots and seeds in one pass."""
    from sowa.data import load
    from sowa.data.views import check
    from sowa.detector.detector import Sowa

    shots, draws, views = numbers("k-shot", k_shot), numbers("seeds", seeds), check(augmentation(augment))
    config = EvaluationConfig(shots, draws, scoring, aupro, compute.batch_size, bootstrap, views)
    samples, settings = load(dataset, root, category), seeing.settings(compute)
    plugged = extensions(saliency_weight, expect)
    detector = Sowa.from_pretrained(**network.arguments(), settings=settings, extensions=plugged)
    console = Console()
    evaluation = _evaluate(detector, DataSet(dataset, root, samples), config, report, typed or "", console)
    console.skipped(evaluation.skipped)
    _print(evaluation, console)
    if json_file:
        write_bytes(json_file, (json.dumps(evaluation.to_dict(), indent=1) + "\n").encode())


@dataclass(frozen=True)
class DataSet:
    """What was loaded, and from where."""

    name: str
    root: Path
    samples: Sequence[Sample]


def _evaluate(
    detector: Sowa, data: DataSet, config: EvaluationConfig, page: Path | None, command: str, console: Console
) -> Evaluation:
    """Measures, and writes a report where a ``page`` is asked for; ``command`` is what it says was typed."""
    from sowa.data import split
    from sowa.evaluation.evaluate import evaluate
    from sowa.report import open_report
    from sowa.report.describe import describe_evaluation

    with ExitStack() as stack:
        writer = stack.enter_context(open_report(page, len(split(data.samples, "test")))) if page else None
        show = _shown_by(writer) if writer else None
        with console.progress() as report:
            evaluation = evaluate(detector, data.name, data.samples, config, report, show)
        if writer:
            writer.finish(describe_evaluation(evaluation, detector, data.root, command))
    return evaluation


def _shown_by(writer: ReportWriter) -> Callable[[Inspected], None]:
    def show(inspected: Inspected) -> None:
        sample = inspected.sample
        writer.add(
            inspected.prediction,
            category=sample.category,
            label=sample.label,
            true_mask=inspected.mask,
            defect_type=sample.defect_type,
        )

    return show


def _print(evaluation: Evaluation, console: Console) -> None:
    """Prints the table of metrics, and what is to be said of it."""
    from sowa.report.describe import decisions_table, metrics_table

    table, decisions = metrics_table(evaluation), decisions_table(evaluation)
    title = f"{evaluation.dataset}, {evaluation.backbone}, {evaluation.config.scoring} scoring"
    console.table(title, table.header, table.rows)
    if evaluation.config.scoring == "inductive":
        console.table("what the default thresholds make of it", decisions.header, decisions.rows)
    for note in table.notes:
        console.note(note)
    console.note(f"{evaluation.images_per_second:.1f} images a second through the network, which all runs share")
