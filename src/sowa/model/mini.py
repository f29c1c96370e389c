"""``mini``, the embedded default: a hybrid vision-language transformer that needs no download.

Its patch embedding is EfficientNet-Lite0 with ImageNet weights (Apache-2.0); transformer blocks and text tower are
trained by the scripts in ``pretrain/``. ``docs/MODEL_CARD.md`` says on what, and what it is good for.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from sowa.model.backbone import Backbone

IMAGE_SIZE, PATCH_SIZE = 384, 16
WIDTH, LAYERS, HEADS, MLP_RATIO = 256, 4, 8, 2.0
TEXT = CLIPTextCfg(width=128, heads=4, layers=4)
RESIDUAL_SCALE = 1e-3
MEAN = STD = (0.5, 0.5, 0.5)
SEED = 0
# Not in the file of weights: these are as `empty_clip` makes them.
UNTRAINED = ("visual.proj", "visual.positional_embedding", "logit_scale")
# Channels of blocks 4 (folded), 7, 10 and 15 of EfficientNet-Lite0 and what each counts for in the joined vector.
# Four-shot AUROC of the stem alone (image / pixels, three auxiliary data sets | nineteen generated products):
# blocks 4 and 10 0.903 / 0.881 | 0.858 / 0.909, these four 0.914 / 0.902 | 0.865 / 0.911.
SOURCES = {"fine": (160, 0.7), "middle": (80, 1.0), "coarse": (112, 1.0), "deep": (320, 1.0)}
JOINED = sum(channels for channels, _ in SOURCES.values())


class HybridStem(nn.Module):
    """Pictures (B, 3, H, W) to patch tokens (B, 256, H / 16, W / 16).

    Four depths of one network are each L2-normalised and joined: standardising them instead costs up to 0.15 image
    AUROC. A fixed projection keeps the directions in which they differ most; it isn't centred, so cosines stay.
    """

    def __init__(self, efficientnet: Any) -> None:
        super().__init__()
        self.entry = nn.Sequential(efficientnet.conv_stem, efficientnet.bn1)
        self.fine = efficientnet.blocks[:3]
        self.middle = efficientnet.blocks[3]
        self.coarse = efficientnet.blocks[4]
        self.deep = efficientnet.blocks[5:7]
        self.projection = nn.Conv2d(JOINED, WIDTH, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """As the class says."""
        joined, _ = self.sources(images)
        tokens: Tensor = self.projection(joined)
        return tokens

    def sources(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The joined depths (B, 672, h, w), and the deepest as the network made it (B, 320, H / 32, W / 32)."""
        fine = self.fine(self.entry(images))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        deep = self.deep(coarse)
        # "Same" padding rounds up; a picture that 16 doesn't divide loses its rest, as in a plain patch embedding.
        height, width = images.shape[-2] // PATCH_SIZE, images.shape[-1] // PATCH_SIZE
        depths = (
            F.pixel_unshuffle(fine[..., : 2 * height, : 2 * width], 2),
            middle[..., :height, :width],
            coarse[..., :height, :width],
            F.interpolate(deep, size=(height, width), mode="bilinear", align_corners=False),
        )
        scales = (scale for _, scale in SOURCES.values())
        return torch.cat([scale * F.normalize(x, dim=1) for scale, x in zip(scales, depths, strict=True)], 1), deep


def weights_path() -> Path:
    """Where the package keeps the backbone's weights."""
    return _packaged("mini.safetensors")


def trained_weights_path() -> Path:
    """Where the package keeps the adapters and prompts that were trained on this backbone."""
    return _packaged("mini-sowa.safetensors")


def _packaged(name: str) -> Path:
    with as_file(files("sowa") / "weights" / name) as path:
        return path


def empty_clip() -> Any:
    """The network with seeded random weights, as an open_clip ``CLIP``."""
    vision = CLIPVisionCfg(
        layers=LAYERS,
        width=WIDTH,
        head_width=WIDTH // HEADS,
        mlp_ratio=MLP_RATIO,
        patch_size=PATCH_SIZE,
        image_size=IMAGE_SIZE,
        ls_init_value=RESIDUAL_SCALE,
        no_ln_pre=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        clip = CLIP(WIDTH, vision_cfg=vision, text_cfg=TEXT)
        clip.visual.conv1 = HybridStem(timm.create_model("tf_efficientnet_lite0"))
    # The joint space is the vision space, and positions add nothing: what a patch is doesn't depend on where it lies.
    nn.init.eye_(clip.visual.proj)
    nn.init.zeros_(clip.visual.positional_embedding)
    return clip


def build_mini(levels: Sequence[int] | None = None, random: bool = False) -> Backbone:
    """The embedded backbone with its weights, or with seeded random ones throughout."""
    clip = empty_clip()
    if not random:
        clip.load_state_dict(load_file(weights_path()), strict=False)  # strict but for UNTRAINED: a test sees to it
    fold_norms(clip.visual.conv1)
    clip.visual.conv1 = clip.visual.conv1.to(memory_format=torch.channels_last)  # twice as fast on a CPU
    return Backbone(clip, "mini:random" if random else "mini", levels, mean=MEAN, std=STD)


def fold_norms(module: nn.Module) -> None:
    """Lets each convolution do what the batch normalisation behind it does, of timm's kind, whose activation stays.

    The same to the last digits, in a third less time. Computed in float64, where every step is exact by the standard,
    so that the weights' fingerprint is the same on every machine.
    """
    for (_, conv), (name, norm) in pairwise(list(module.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
            assert norm.running_var is not None
            assert norm.running_mean is not None
            shift = torch.zeros(()) if conv.bias is None else conv.bias
            gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            bias = norm.bias.double() + (shift.double() - norm.running_mean.double()) * gain
            conv.weight = nn.Parameter((conv.weight.double() * gain[:, None, None, None]).float())
            conv.bias = nn.Parameter(bias.float())
            setattr(module, name, norm.act)
    for child in module.children():
        fold_norms(child)
