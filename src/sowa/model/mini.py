"""``mini``, the embedded default: a hybrid vision transformer that needs no download.

Its patch embedding is the convolutional stem of EfficientNet-Lite0 with ImageNet weights (Apache-2.0, converted by
``scripts/convert_stem.py``). Blocks 4 and 10 of the stem both feed the tokens. The transformer and the text tower are
drawn from a fixed seed; LayerScale starts the residual branches near zero, so that the stem's features survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file
from torch import Tensor, nn

from sowa.model.backbone import Backbone

IMAGE_SIZE, PATCH_SIZE = 384, 16
FINE_CHANNELS, COARSE_CHANNELS = 40, 112
WIDTH = FINE_CHANNELS * 4 + COARSE_CHANNELS
# Block 10 counts twice block 4. Four-shot image AUROC of the stem alone, 1:1 -> 1:2: auxiliary data 0.881 -> 0.890,
# nineteen generated products 0.912 -> 0.912 (three seeds).
COARSE_SCALE = 2**0.5
LAYERS, HEADS = 4, 8
RESIDUAL_SCALE = 1e-3
MEAN = STD = (0.5, 0.5, 0.5)
SEED = 0


class HybridStem(nn.Module):
    """Pictures (B, 3, H, W) to patch tokens (B, 272, H / 16, W / 16).

    Block 4 (stride 8) is folded from space to depth, block 10 (stride 16) is taken as it is. Each source is
    L2-normalised before they are joined: standardising and projecting them instead costs up to 0.15 image AUROC.
    """

    def __init__(self, efficientnet: Any) -> None:
        super().__init__()
        self.entry = nn.Sequential(efficientnet.conv_stem, efficientnet.bn1)
        self.fine = efficientnet.blocks[:3]
        self.coarse = efficientnet.blocks[3:5]

    def forward(self, images: Tensor) -> Tensor:
        """As the class says."""
        fine = self.fine(self.entry(images))
        coarse = self.coarse(fine)
        # "Same" padding rounds up; a picture that 16 doesn't divide loses its rest, as in a plain patch embedding.
        height, width = images.shape[-2] // PATCH_SIZE, images.shape[-1] // PATCH_SIZE
        fine = F.pixel_unshuffle(fine[..., : 2 * height, : 2 * width], 2)
        coarse = coarse[..., :height, :width]
        return torch.cat([F.normalize(fine, dim=1), COARSE_SCALE * F.normalize(coarse, dim=1)], dim=1)


def weights_path() -> Path:
    """Where the package keeps the stem's weights."""
    with as_file(files("sowa") / "weights" / "mini.safetensors") as path:
        return path


def build_mini(levels: Sequence[int] | None = None, random: bool = False) -> Backbone:
    """The embedded backbone with its weights, or with seeded random ones throughout."""
    vision = CLIPVisionCfg(
        layers=LAYERS,
        width=WIDTH,
        head_width=WIDTH // HEADS,
        patch_size=PATCH_SIZE,
        image_size=IMAGE_SIZE,
        ls_init_value=RESIDUAL_SCALE,
        no_ln_pre=True,
    )
    text = CLIPTextCfg(width=128, heads=4, layers=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        clip = CLIP(WIDTH, vision_cfg=vision, text_cfg=text)
        stem = HybridStem(timm.create_model("tf_efficientnet_lite0"))
    if not random:
        stem.load_state_dict(load_file(weights_path()))
    clip.visual.conv1 = stem.to(memory_format=torch.channels_last)  # twice as fast on a CPU
    # The joint space is the vision space and positions add nothing: a patch's feature is what the stem saw there.
    nn.init.eye_(clip.visual.proj)
    nn.init.zeros_(clip.visual.positional_embedding)
    return Backbone(clip, "mini:random" if random else "mini", levels, mean=MEAN, std=STD)
