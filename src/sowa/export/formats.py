"""Graphs in the formats of the field. Each function writes into a folder and returns the model's file name."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.fx.config
from numpy.typing import NDArray

from sowa.detector.detector import Sowa
from sowa.encoders.engines import INPUT, OUTPUTS
from sowa.errors import InputError
from sowa.export.graph import BANK, DetectorGraph
from sowa.export.optimise import optimise_onnx
from sowa.export.quantise import mark_exact, quantise_onnx, quantised_openvino

OPSET = 20
EXAMPLES = 2  # a batch of one would be taken for a constant


def write_model(detector: Sowa, folder: Path, format: str, precision: str, images: NDArray[np.uint8]) -> str:
    """Writes the detector's graph and returns the model's file name.

    Args:
        detector: Fitted.
        folder: For the model's files.
        format: "onnx", "openvino" or "torch".
        precision: "fp32", "fp16" or "int8".
        images: (N, H, W, 3) uint8; int8 is fitted to them.

    Raises:
        InputError: the format's packages aren't there.
    """
    try:
        if format == "torch":
            return _write_torch(_traced(detector, precision == "fp16"), folder)
        # OpenVINO keeps 16-bit weights of a 32-bit graph; in ONNX the graph itself is of 16 bits.
        program = _traced(detector, precision == "fp16" and format == "onnx")
        if format == "onnx":
            return _write_onnx(program, folder, images if precision == "int8" else None)
        return _write_openvino(program, folder, precision, images)
    except ImportError as error:
        raise InputError(
            f"the format {format} needs a package that isn't there ({error}); pip install sowa[export]"
        ) from None


def _traced(detector: Sowa, half: bool) -> torch.export.ExportedProgram:
    graph = DetectorGraph(detector, half).eval()
    images = torch.zeros(EXAMPLES, *detector.image_size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    with torch.no_grad(), _tracing():
        graph(images)  # fills what adapters keep for a grid: while it's traced, they'd keep tensors without values
        return torch.export.export(graph, (images,), dynamic_shapes=({0: batch},), strict=False)


@contextmanager
def _tracing() -> Iterator[None]:
    """No warnings of torch's own making, and no record in the graph of which line of which file made each node.

    The record would take a third of the time, and give away folders of this machine with every export.
    """
    before = getattr(torch.fx.config, "do_not_emit_stack_traces", False)  # not every PyTorch has it
    torch.fx.config.do_not_emit_stack_traces = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.fx.config.do_not_emit_stack_traces = before


def _write_torch(program: torch.export.ExportedProgram, folder: Path) -> str:
    for name, tensor in program.state_dict.items():
        if BANK in name:  # its chunks are parts of one tensor, which the file would hold once for each
            program.state_dict[name] = tensor.clone()
    torch.export.save(program, folder / "model.pt2")
    return "model.pt2"


def _write_onnx(program: torch.export.ExportedProgram, folder: Path, images: NDArray[np.uint8] | None = None) -> str:
    with _tracing():
        made = torch.onnx.export(
            program,
            (),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            verbose=False,
            optimize=False,
        )
        assert made is not None
        optimise_onnx(made.model)
    name = "model.onnx"
    mark_exact(made.model.graph)
    if images is None:
        made.save(folder / name, external_data=True)
        return name
    with tempfile.TemporaryDirectory(dir=folder.parent) as between:
        made.save(Path(between, name), external_data=True)
        quantise_onnx(Path(between, name), folder / name, images)
    return name


def _write_openvino(
    program: torch.export.ExportedProgram, folder: Path, precision: str, images: NDArray[np.uint8]
) -> str:
    import openvino

    with tempfile.TemporaryDirectory(dir=folder.parent) as between:
        model = openvino.convert_model(Path(between, _write_onnx(program, Path(between))))
        if precision == "int8":
            model = quantised_openvino(model, images)
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=precision == "fp16")
    return "model.xml"
