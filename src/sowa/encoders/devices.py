"""Where and how precisely to compute."""

from __future__ import annotations

import os
import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, cast, get_args

import torch

from sowa.errors import InputError

Computed = Literal["fp32", "bf16"]
DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" takes the best that there is.

    Args:
        name: One of `DEVICES`, or with a number as "cuda:1".

    Raises:
        InputError: an unknown device or one that isn't there.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    if name.partition(":")[0] not in there:
        raise InputError(f"device {name!r} is unknown, allowed are {', '.join(DEVICES)}")
    if not there[name.partition(":")[0]]:
        raise InputError(f"device {name!r} isn't there; use --device auto or cpu")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> Computed:
    """The precision of a name; "auto" is bf16 where the processor or GPU multiplies it faster, and fp32 elsewhere.

    Args:
        name: "auto", "fp32" or "bf16".
        device: That computes.

    Raises:
        InputError: an unknown precision.
    """
    if name == "auto":
        has_bf16 = {"cpu": _cpu_has_bf16, "cuda": torch.cuda.is_bf16_supported}.get(device.type, lambda: False)
        return "bf16" if has_bf16() else "fp32"
    if name not in get_args(Computed):
        raise InputError(f"precision {name!r} is unknown, allowed are auto, fp32, bf16")
    return cast(Computed, name)


def _cpu_has_bf16() -> bool:
    """Without such instructions bf16 is converted for every product, and slower than fp32.

    Intel's cores gain by their matrix unit (AMX) alone, which a virtual machine may hide: AVX-512's instruction for
    bf16 does no more products a cycle there than the one for fp32, and takes longer; on AMD's cores it saves time
    (benchmarks/results/speed-ViT-L-14-336.md).
    """
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if "Intel" in str(capabilities.get("cpu_name")):
        return bool(capabilities.get("amx_bf16"))
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def synchronise(device: torch.device) -> None:
    """Waits until a GPU has done what it was told, so that a clock read afterwards is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def autocast(device: torch.device, precision: Computed) -> AbstractContextManager[object]:
    """The context in which the network runs.

    Args:
        device: That computes.
        precision: As `choose_precision` gives it.
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def describe_machine() -> str:
    """Processor, cores, GPU, system and Python in one line, for whoever reads a measured number."""
    cpus = Path("/proc/cpuinfo")
    named = [line for line in cpus.read_text().splitlines() if "model name" in line] if cpus.is_file() else []
    processor = named[0].partition(":")[2].strip() if named else platform.processor()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{processor}, {os.cpu_count()} cores, {gpu}, {platform.system()}, Python {platform.python_version()}."
