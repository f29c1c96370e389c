"""``sowa test``: the table of metrics, the result as JSON, and a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sowa.cli.console import Console
from sowa.cli.describe import describe_evaluation, metrics_table
from sowa.core.files import write_bytes
from sowa.core.types import Sample
from sowa.data import split
from sowa.detector.detector import Sowa
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.evaluate import evaluate
from sowa.evaluation.inspection import Inspected
from sowa.evaluation.results import Evaluation
from sowa.report import ReportWriter, open_report


@dataclass(frozen=True)
class DataSet:
    """What was loaded, and from where."""

    name: str
    root: Path
    samples: Sequence[Sample]


def measure_to_files(
    detector: Sowa,
    data: DataSet,
    config: EvaluationConfig,
    json_file: Path | None,
    report_file: Path | None,
    console: Console,
    command: str = "",
) -> None:
    """Measures, prints the table, and writes what is asked for; ``command`` is what the report says was typed."""
    with ExitStack() as stack:
        writer = None
        if report_file:
            writer = stack.enter_context(open_report(report_file, len(split(data.samples, "test"))))
        show = _shown_by(writer) if writer else None
        with console.progress() as report:
            evaluation = evaluate(detector, data.name, data.samples, config, report, show)
        if writer:
            writer.finish(describe_evaluation(evaluation, detector, data.root, command))
    console.skipped(evaluation.skipped)
    print_evaluation(evaluation, console)
    if json_file:
        write_bytes(json_file, (json.dumps(evaluation.to_dict(), indent=1) + "\n").encode())


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


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Prints the table of metrics, and what is to be said of it."""
    table = metrics_table(evaluation)
    title = f"{evaluation.dataset}, {evaluation.backbone}, {evaluation.config.scoring} scoring"
    console.table(title, table.header, table.rows)
    for note in table.notes:
        console.note(note)
    console.note(f"{evaluation.images_per_second:.1f} images a second through the network, which all runs share")
