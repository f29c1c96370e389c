"""8-bit integers for the linear layers of transformer and adapters; all else keeps 32-bit floats."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sowa.encoders.engines import INPUT, OUTPUTS

KINDS = ["Gemm", "MatMul"]
# Distances to the bank show in the third digit, so rounded patch embeddings cost accuracy; rounded products of queries,
# keys and values do too, and save no time (benchmarks/results/exports.md).
ROUNDED, LINEAR = ("network.backbone.visual.transformer", "network.adapters"), "aten.linear"
EXACT = "exact_"


def mark_exact(graph: Any) -> None:
    """Gives the nodes of a graph (of onnx_ir) that aren't to be rounded names that begin with ``EXACT``."""
    for node in graph:
        scope = node.metadata_props.get("namespace", "")
        if LINEAR not in scope or not any(part in scope for part in ROUNDED):
            node.name = f"{EXACT}{node.name}"


def quantise_onnx(file: Path, made: Path, images: NDArray[np.uint8]) -> None:
    """Quantises an ONNX file.

    Args:
        file: The original.
        made: The quantised one.
        images: (N, H, W, 3) uint8; the ranges of activations come from them.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[NDArray[np.uint8]] = iter(images[:, None])

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    nodes = onnx.load(file, load_external_data=False).graph.node
    quantize_static(
        file,
        made,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
        op_types_to_quantize=KINDS,
        nodes_to_exclude=[node.name for node in nodes if node.name.startswith(EXACT)],
        use_external_data_format=True,
    )


def quantised_openvino(model: Any, images: NDArray[np.uint8]) -> Any:
    """An OpenVINO model, quantised.

    Args:
        model: The original.
        images: (N, H, W, 3) uint8; the ranges of activations come from them.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # which nncf asks for CUDA
    import nncf

    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(StringIO()):  # it draws progress bars where results belong
        return nncf.quantize(
            model,
            nncf.Dataset(list(images[:, None])),
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER,
            # Processors without VNNI add products of 8 bits in 16, which overflow: with weights of 7 bits none does.
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
            # What an output comes from is called like the output.
            ignored_scope=nncf.IgnoredScope(patterns=[f"{EXACT}.*", *OUTPUTS], validate=False),
        )
