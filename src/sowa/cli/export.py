"""``sowa export``: a detector's file to a folder with one graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from sowa.cli.console import Console
from sowa.cli.options import MovedBackbone, advanced, basic
from sowa.core.config import Settings


def export(
    *,
    model: Annotated[Path, basic("the detector that sowa fit wrote")],
    out: Annotated[Path, basic("folder for the graph and metadata.json; an earlier export is replaced")],
    format: Annotated[
        Literal["onnx", "openvino", "torch"], basic("onnx, openvino, or torch (a program of torch.export)")
    ] = "onnx",
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        basic("fp32, fp16 (half the size), or int8 (onnx and openvino; fastest on a CPU)"),
    ] = "fp32",
    images: Annotated[
        Path | None, advanced("what the export is compared on, and int8 fitted to; by default the references")
    ] = None,
    tolerance: Annotated[
        float | None, advanced("largest difference in thresholds; by default 0.001, for fp16 0.02, for int8 0.05")
    ] = None,
    backbone: MovedBackbone = None,
) -> None:
    """Write a detector as one graph for onnxruntime, OpenVINO or torch.export, and compare it with the original."""
    from sowa.detector.detector import Sowa
    from sowa.export import export as write_export

    console = Console()
    detector = Sowa.load(model, backbone=backbone, settings=Settings("cpu", "fp32"))
    with console.progress() as report:
        metadata = write_export(detector, out, format, precision, images=images, tolerance=tolerance, report=report)
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
