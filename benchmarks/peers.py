"""The peers as installed from PyPI, in an environment of their own: anomalib's WinCLIP and PatchCore.

    python benchmarks/peers.py ENVIRONMENT      makes the environment, once
    ENVIRONMENT/bin/python benchmarks/peers.py  reads lines "NAME BATCH", writes seconds per image; with
        --memory NAME BATCH it judges one batch and writes the most that it ever held, in MiB

Random weights, since speed doesn't ask what a network has learned; four references of random pixels. ``speed.py``
starts it and asks in each of its rounds.
"""

from __future__ import annotations

import subprocess
import sys
import time
import venv
import warnings
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("anomalib==2.7.0", "open_clip_torch<2.27")
SHOTS = 4
NAMES = ("anomalib WinCLIP, 4 shots", "anomalib PatchCore, 4 shots")


def install(environment: Path) -> Path:
    """The environment's Python, made where it isn't there."""
    python = environment / "bin" / "python"
    if not (environment / "installed").is_file():
        venv.create(environment, with_pip=True, clear=True)
        subprocess.check_call([python, "-m", "pip", "install", "--quiet", *PACKAGES])
        (environment / "installed").write_text("\n".join(PACKAGES))
    return python


def winclip() -> Callable[[int], object]:
    """ViT-B-16-plus-240, scales 2 and 3, text and references encoded once."""
    import torch
    from anomalib.models.image.winclip import torch_model

    torch.set_grad_enabled(False)

    torch_model.PRETRAINED = None
    model = torch_model.WinClipModel("tile", torch.rand(SHOTS, 3, 240, 240)).eval()
    return lambda batch: model(torch.rand(batch, 3, 240, 240))


def patchcore() -> Callable[[int], object]:
    """Wide ResNet-50 at 224 pixels, a tenth of the patches kept, as anomalib has it by default."""
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    torch.set_grad_enabled(False)
    model = PatchcoreModel(("layer2", "layer3"), pre_trained=False)
    model.train()
    model(torch.rand(SHOTS, 3, 224, 224))
    model.subsample_embedding(0.1)
    model.eval()
    return lambda batch: model(torch.rand(batch, 3, 224, 224))


MAKERS = dict(zip(NAMES, (winclip, patchcore), strict=True))


def peak() -> int:
    """The most memory that this process has held, in MiB; Linux only. (What getrusage says is inherited.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def serve() -> None:
    models = {name: make() for name, make in MAKERS.items()}
    print("ready", flush=True)
    for line in sys.stdin:
        name, _, batch = line.strip().rpartition(" ")
        started = time.perf_counter()
        models[name](int(batch))
        print((time.perf_counter() - started) / int(batch), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--memory"]:
        MAKERS[sys.argv[2]]()(int(sys.argv[3]))
        print(peak())
    elif len(sys.argv) > 1:
        install(Path(sys.argv[1]))
    else:
        serve()
