"""``export``: a detector's graph, in a format of the field, checked against the original before it counts as done."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from sowa.core.calibration import Calibration
from sowa.core.files import make_folder
from sowa.core.progress import Report, silent
from sowa.detector.detector import Sowa
from sowa.detector.exported_metadata import NAME, ExportedBoundary, Metadata, sha256
from sowa.encoders.engines import open_engine
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import ExportError, InputError
from sowa.export.compare import TOLERANCES, Comparison, compare
from sowa.export.examples import examples
from sowa.export.formats import write_model

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "fp16", "int8"]
FORMATS, PRECISIONS = get_args(Format), get_args(Precision)
# Rates at which normal images are exceeded, between which the table of percentiles runs, and its length.
RATES, TABLE = (1 - 1e-4, 1e-5), 513


def export(
    detector: Sowa,
    out: str | Path,
    format: Format = "onnx",
    precision: Precision = "fp32",
    *,
    images: Any = None,
    tolerance: float | None = None,
    report: Report = silent,
) -> Metadata:
    """Writes the fitted detector into a folder as one graph with ``metadata.json`` beside it.

    Memory bank, prompts and scoring are in the graph, the thresholds in the metadata. Nothing is left behind where
    anything fails.

    Args:
        detector: Fitted.
        out: The folder; an earlier export in it is replaced.
        format: "onnx", "openvino" or "torch".
        precision: "fp32"; "fp16" halves the size; "int8" (onnx, openvino) is faster on a CPU and is fitted to
            ``images``.
        images: What the export is compared on: a folder or what else `Sowa.fit` takes, by default the references, read
            again from disk.
        tolerance: The largest difference of raw scores and maps, a part of the threshold; by default that of
            `TOLERANCES`.
        report: Told of the progress.

    Raises:
        InputError: the detector isn't fitted, the images can't be read, or ``out`` is taken.
        ExportError: raw scores or maps differ from the original's by more than ``tolerance``.
    """
    _check(detector, format, precision)
    shown = examples(detector, images, report)
    with _folder(Path(out)) as folder:
        report("write the graph", 0, 1)
        model = write_model(detector, folder, format, precision, shown)
        report("write the graph", 1, 1)
        engine = open_engine(format, folder / model)
        exact = copy(detector)
        exact.encoder = detector.encoder.at_precision("fp32")  # the yardstick, whatever the detector itself computes in
        comparison = compare(exact, engine, shown, report)
        allowed = TOLERANCES[precision] if tolerance is None else tolerance
        if not comparison.within(allowed):
            raise ExportError(_refused(comparison, allowed, precision))
        metadata = _metadata(detector, folder, model, format, precision, comparison.to_dict(allowed))
        metadata.write(folder)
    return metadata


def _check(detector: Sowa, format: str, precision: str) -> None:
    if not detector.is_fitted:
        raise InputError("the detector isn't fitted, so there is nothing to export; fit it first")
    if judge := detector.image_judge:
        raise InputError(f"{judge.name} judge images by themselves, which a graph can't do; fit a detector without")
    for what, value, allowed in (("format", format, FORMATS), ("precision", precision, PRECISIONS)):
        if value not in allowed:
            raise InputError(f"{what} is {value!r}, allowed are {', '.join(allowed)}")
    if format == "torch" and precision == "int8":
        raise InputError("precision int8 isn't there for torch; choose onnx or openvino, or fp16")


def _refused(comparison: Comparison, tolerance: float, precision: str) -> str:
    return (
        f"the export differs from the original by {comparison.raw_score:.2%} of the threshold in raw score and "
        f"{comparison.anomaly_map:.2%} in maps, allowed are {tolerance:.2%} ({comparison.flips} of "
        f"{comparison.images} verdicts flip), so nothing was written; "
        + ("allow more with --tolerance" if precision == "fp32" else "choose a higher precision, or --tolerance")
    )


def _metadata(
    detector: Sowa, folder: Path, model: str, format: str, precision: str, comparison: dict[str, Any]
) -> Metadata:
    import sowa

    encoder = detector.encoder
    assert isinstance(encoder, TorchEncoder)
    backbone = encoder.network.backbone
    return Metadata(
        runtime=format,
        precision=precision,
        model=model,
        sha256={file.name: sha256(file) for file in sorted(folder.iterdir())},
        image_size=detector.image_size,
        mean=tuple(backbone.mean.flatten().tolist()),
        std=tuple(backbone.std.flatten().tolist()),
        boundary=boundary(detector.calibration_),
        detector={
            "sowa": sowa.__version__,
            "backbone": backbone.name,
            "levels": list(backbone.levels),
            "whole_level": backbone.whole_level if encoder.windows.whole else None,
            "prompts_trained": encoder.trained,
            "category": encoder.category,
            "tiled": encoder.tiled,
            "references": detector.references_,
            "seed": detector.seed_,
            "rule": detector.calibration_.rule,
            "normal_images_seen": detector.calibration_.seen,
            "false_alarms_expected": detector.calibration_.false_alarms,
            "missed_expected": detector.calibration_.missed,
            "prior": detector.calibration_.prior,
        },
        comparison=comparison,
    )


def boundary(calibration: Calibration) -> ExportedBoundary:
    """What of a calibration is needed to judge, percentiles as a table of raw scores evenly spread in logarithm."""
    scores: tuple[float, ...] = ()
    percentiles: tuple[float, ...] = ()
    if calibration.image is not None:
        low, high = (calibration.image.bound(rate) for rate in RATES)
        scores = tuple(np.geomspace(low, high, TABLE).tolist())
        percentiles = tuple(calibration.image.percentile(score) for score in scores)
    return ExportedBoundary(
        threshold=calibration.threshold,
        pixel_threshold=calibration.pixel_threshold,
        width=calibration.width,
        unsure=calibration.unsure,
        normal_raw_scores=scores,
        normal_percentiles=percentiles,
    )


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` when the block ends well, in place of an earlier export."""
    if out.exists() and not (out / NAME).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there and isn't an export; choose another folder, or remove it")
    make_folder(out.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    except OSError as error:
        raise InputError(f"{out} can't be written ({error.strerror}); choose another place") from error
    try:
        made = temporary / "new"
        made.mkdir()
        yield made
        if out.exists():
            out.rename(temporary / "old")
        made.rename(out)
    except OSError as error:
        raise InputError(f"{out} can't be written ({error.strerror or error}); free some space") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
