"""The benchmark's loop: weights of each direction, then a row per category, each written as soon as it's there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sowa import __version__
from sowa.core.config import to_dict
from sowa.core.files import make_folder, write_bytes
from sowa.core.progress import Report, silent
from sowa.core.types import Sample
from sowa.detector.detector import Sowa
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.evaluation.benchmark.examples import Examples
from sowa.evaluation.benchmark.network import Network
from sowa.evaluation.benchmark.suite import BenchmarkConfig, DataSet, Step, plan
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.evaluate import evaluate
from sowa.evaluation.inspection import Inspected
from sowa.metrics import PixelMetricsBySize
from sowa.model.checkpoint import trained_tensors

Row = dict[str, Any]
SIZE_METRICS = ("pixel_AUROC", "pixel_AUPRO")


def run_benchmark(
    network: Network, root: Path, out: Path, config: BenchmarkConfig, report: Report = silent
) -> list[Row]:
    """Judges those data sets of the suite that a folder holds and returns a row per category.

    Weights, rows and images appear in ``out`` one by one; what is there from an earlier run with the same settings,
    images and weights isn't made again.

    Args:
        network: What detectors are made of.
        root: The folder of data sets.
        out: The folder for what is made.
        config: What is run.
        report: Told of the progress.

    Raises:
        InputError: as `plan`, `sowa.training.train.train` and `sowa.evaluation.evaluate.evaluate` say.
    """
    steps = plan(root, config)
    make_folder(out)
    rows: list[Row] = []
    for step in steps:
        detector = _detector(network, step, out, config, report)
        network_facts = _network_facts(detector)
        for data in step.judged:
            for row in _rows(detector, data, out, config.evaluation, network_facts, report):
                rows.append(row | {"trained_on": step.train_on.name if step.train_on else None})
    return rows


def _detector(network: Network, step: Step, out: Path, config: BenchmarkConfig, report: Report) -> Sowa:
    """With the weights of a direction, trained where they aren't there yet."""
    if step.train_on is None:
        return network.build()
    name = step.train_on.name
    weights = out / "weights" / f"{name}.safetensors"
    return network.trained(step.train_on.samples, config.epochs, weights, _under(report, f"train on {name}"))


def _rows(
    detector: Sowa, data: DataSet, out: Path, config: EvaluationConfig, network_facts: Row, report: Report
) -> Iterator[Row]:
    """A row per category of a data set, from its file where that is of the same settings."""
    categories = list(dict.fromkeys(sample.category for sample in data.samples))
    for number, category in enumerate(categories, 1):
        samples = [sample for sample in data.samples if sample.category == category]
        settings = _settings(config, samples, data.root, network_facts)
        file = out / "rows" / f"{data.name}-{category}.json"
        row = _read_row(file, out)
        if row is None or row["settings"] != settings:
            told = _under(report, f"{data.name}, category {number} of {len(categories)}")
            row = _judge(detector, data.name, samples, out, config, told) | {"settings": settings}
            write_bytes(file, (json.dumps(row, indent=1) + "\n").encode())
        yield row


def _judge(
    detector: Sowa, dataset: str, samples: Sequence[Sample], out: Path, config: EvaluationConfig, report: Report
) -> Row:
    """What is measured on one category. Defect sizes and examples are those of the most shots and the first seed."""
    category = samples[0].category
    examples, sizes = Examples(), PixelMetricsBySize()

    def inspect(inspected: Inspected) -> None:
        examples.add(inspected)
        if inspected.mask is not None:
            sizes.update(inspected.prediction.anomaly_map, inspected.mask)

    facts = evaluate(detector, dataset, samples, config, report, inspect).to_dict()
    levels = f"levels/{dataset}-{category}.png" if examples.chosen else None
    if levels:
        examples.save(out / levels)
    kept = ("backbone", "prompts_trained", "scoring", "aupro", "runs", "images_per_second", "skipped")
    return {
        "dataset": dataset,
        "category": category,
        **{name: facts[name] for name in kept},
        "by_size": _by_size(sizes),
        "levels": levels,
    }


def _by_size(sizes: PixelMetricsBySize) -> list[Row]:
    """From the smallest defects up; shares of the image, metrics in 0..1 or null."""
    return [
        {
            "smallest": found.smallest,
            "largest": found.largest,
            "regions": found.metrics.n_regions,
            **{name: found.metrics.metrics()[name].to_json() for name in SIZE_METRICS},
        }
        for found in sizes.compute()
    ]


def _network_facts(detector: Sowa) -> Row:
    weights = hashlib.sha256()
    encoder = detector.encoder
    assert isinstance(encoder, TorchEncoder)
    for name, tensor in sorted(trained_tensors(encoder.network).items()):
        weights.update(name.encode() + tensor.numpy().tobytes())
    return {
        "network": to_dict(encoder.config),
        "backbone": to_dict(encoder.identity),
        "weights": weights.hexdigest(),
        "image_size": encoder.settings.image_size,  # None where images tell, or the backbone
        "precision": encoder.precision,
    }


def _settings(config: EvaluationConfig, samples: Sequence[Sample], root: Path, network_facts: Row) -> Row:
    """What two runs must share for one's row to stand for the other's; how many images a batch holds needn't be."""
    images = hashlib.sha256()
    for sample in samples:
        where = os.path.relpath(sample.image_path, root)
        images.update(f"{where} {sample.split} {sample.label} {sample.image_path.stat().st_size}\n".encode())
        if sample.mask_path:
            images.update(f"{os.path.relpath(sample.mask_path, root)} {sample.mask_path.stat().st_size}\n".encode())
    evaluation = to_dict(replace(config, batch_size=1))
    settings = {"version": __version__, "evaluation": evaluation, "images": images.hexdigest()} | network_facts
    plain: Row = json.loads(json.dumps(settings))
    return plain


def _read_row(file: Path, out: Path) -> Row | None:
    """A row that an earlier run wrote; None where there is none, it's no row, or its image is gone."""
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
        whole = (
            isinstance(row, dict) and "settings" in row and (row["levels"] is None or (out / row["levels"]).is_file())
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return row if whole else None


def _under(report: Report, label: str) -> Report:
    """Tells how far a part is, under a label of its own: a bar's name ends at the first comma."""
    return lambda part, done, total: report(f"{label}, {part}", done, total)
