"""``sowa export``: a detector's file to a folder with one graph."""

from __future__ import annotations

from pathlib import Path

from sowa.cli.console import Console
from sowa.core.config import Settings
from sowa.detector.detector import Sowa
from sowa.export import export
from sowa.export.write import Format, Precision


def export_file(
    model: Path,
    out: Path,
    format: Format,
    precision: Precision,
    images: Path | None,
    tolerance: float | None,
    backbone: str | None,
    console: Console,
) -> None:
    """Exports the detector and says how far the export is from it."""
    detector = Sowa.load(model, backbone=backbone, settings=Settings("cpu", "fp32"))
    with console.progress() as report:
        metadata = export(detector, out, format, precision, images=images, tolerance=tolerance, report=report)
    found = metadata.comparison
    console.say(
        f"{out}: {metadata.model}, {sum(file.stat().st_size for file in out.iterdir()) / 1e6:.1f} MB; on "
        f"{found['images']} images raw scores differ by {found['raw_score']:.2%} of the threshold at most, maps by "
        f"{found['anomaly_map']:.2%}, {found['flips']} verdicts flip",
        event="export",
        out=str(out),
        format=format,
        precision=precision,
        comparison=found,
    )
