"""What runs an exported graph. Each engine takes images (B, H, W, 3) uint8 and may be called from many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sowa.core.types import Judgement
from sowa.errors import InputError

Precision = Literal["fp32", "bf16"]
INPUT, OUTPUTS = "images", ("raw_scores", "anomaly_maps", "level_maps")
Engine = Callable[[NDArray[np.uint8]], Judgement]


def open_engine(
    runtime: str, model: Path, device: str = "cpu", precision: Precision = "fp32", threads: int | None = None
) -> Engine:
    """The engine for a model's file.

    Args:
        runtime: Of the model, as its metadata says.
        model: The file.
        device: Which of the runtime's devices.
        precision: "fp32", and for openvino "bf16".
        threads: On the CPU, 1 or more; None leaves it to the runtime.

    Raises:
        InputError: the runtime isn't installed or can't do what is asked.
    """
    engines: dict[str, Callable[[Path, str, Precision, int | None], Engine]] = {
        "onnx": OnnxEngine,
        "openvino": OpenVinoEngine,
        "torch": TorchEngine,
    }
    if runtime not in engines:
        raise InputError(f"{model} is for the runtime {runtime!r}, allowed are {', '.join(engines)}")
    if precision not in ("fp32", "bf16") or (precision == "bf16" and runtime != "openvino"):
        raise InputError(f"precision is {precision!r}, allowed is fp32, and for openvino bf16")
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}, allowed is 1 and more")
    try:
        return engines[runtime](model, device, precision, threads)
    except ImportError as error:
        package = {"onnx": "onnxruntime"}.get(runtime, runtime)
        raise InputError(f"{model} needs {package}, which isn't there ({error}); pip install {package}") from None
    except InputError:
        raise
    except Exception as error:  # each runtime has errors of its own
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{model} can't be opened by {runtime} on {device!r} ({reason}); export it anew") from None


class OnnxEngine:
    """onnxruntime.

    Args:
        model: The file.
        device: "cpu" or "cuda".
        precision: "fp32".
        threads: On the CPU; None leaves it to the runtime.

    Raises:
        InputError: a device that isn't there.
    """

    def __init__(self, model: Path, device: str, precision: Precision, threads: int | None) -> None:
        import onnxruntime

        providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
        if providers.get(device) not in onnxruntime.get_available_providers():
            raise InputError(
                f"device {device!r} isn't there for onnxruntime, allowed are cpu, and cuda with its package"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # warns of every initialiser that it folds
        if threads:
            options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(model), options, [providers[device]])

    def __call__(self, images: NDArray[np.uint8]) -> Judgement:
        """As `Engine`."""
        return Judgement(*self.session.run(list(OUTPUTS), {INPUT: images}))


class OpenVinoEngine:
    """OpenVINO.

    Args:
        model: The file.
        device: Any of its own: "cpu", "gpu", "auto".
        precision: "fp32" or "bf16", that it computes with.
        threads: On the CPU; None leaves it to the runtime.
    """

    def __init__(self, model: Path, device: str, precision: Precision, threads: int | None) -> None:
        import openvino

        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        self.compiled = openvino.Core().compile_model(str(model), device.upper(), config)
        self.requests = threading.local()  # a request holds its tensors, so no two threads share one

    def __call__(self, images: NDArray[np.uint8]) -> Judgement:
        """As `Engine`."""
        if not hasattr(self.requests, "own"):
            self.requests.own = self.compiled.create_infer_request()
        found = self.requests.own.infer({INPUT: images})
        return Judgement(*(found[name].copy() for name in OUTPUTS))


class TorchEngine:
    """A program of ``torch.export``.

    Args:
        model: The file.
        device: "cpu".
        precision: "fp32".
        threads: Of torch; None leaves them.

    Raises:
        InputError: another device.
    """

    def __init__(self, model: Path, device: str, precision: Precision, threads: int | None) -> None:
        import torch

        if device != "cpu":
            raise InputError(f"device {device!r} isn't there for an exported program, which runs on the cpu")
        if threads:
            torch.set_num_threads(threads)
        self.module = torch.export.load(model).module()

    def __call__(self, images: NDArray[np.uint8]) -> Judgement:
        """As `Engine`."""
        import torch

        with torch.inference_mode():
            return Judgement(*(part.numpy() for part in self.module(torch.from_numpy(images))))
