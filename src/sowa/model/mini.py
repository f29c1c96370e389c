"""``mini``, the embedded default: a hybrid vision-language transformer that needs no download.

Its patch embedding is two frozen networks, EfficientNet-Lite2 with ImageNet weights and MobileSAM's TinyViT (both
Apache-2.0); transformer blocks and text tower are trained by the scripts in ``pretrain/``. ``docs/MODEL_CARD.md`` says
on what, and what it is good for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import ResidualAttentionBlock
from safetensors.torch import load_file
from timm.layers.norm_act import BatchNormAct2d
from timm.models import tiny_vit as timm_tiny_vit
from torch import Tensor, nn

from sowa.core.files import packaged
from sowa.model.backbone import Backbone

IMAGE_SIZE, PATCH_SIZE = 384, 16
WIDTH, LAYERS, HEADS, MLP_RATIO = 256, 4, 8, 2.0
TEXT = CLIPTextCfg(width=128, heads=4, layers=4)
RESIDUAL_SCALE = 1e-3
MEAN = STD = (0.5, 0.5, 0.5)
SEED = 0
# Not in the file of weights: these are as `empty_clip` makes them.
UNTRAINED = ("visual.class_embedding", "visual.proj", "visual.positional_embedding", "logit_scale")
WORDS, WORD_STEPS = "token_embedding.weight", "token_embedding.steps"
# Channels of blocks 6 (folded), 10, 14 and 20 of EfficientNet-Lite2 and what each counts for in the joined vector. Four
# depths tell more than two (benchmarks/results/options-development.md, measured with Lite0).
SOURCES = {"fine": (192, 0.7), "middle": (88, 1.0), "coarse": (120, 1.0), "deep": (352, 1.0)}
JOINED = sum(channels for channels, _ in SOURCES.values())
EDGES, REGIONS, SUMMARY = 160, 320, 1280
THINGS_LEVEL = 2
NEIGHBOURS = 4


@dataclass(frozen=True)
class Part:
    """A share of a token.

    Attributes:
        source: So many channels of a source
        width: are made so many of the token.
        gains: Its gain before each block.
    """

    source: int
    width: int
    gains: tuple[float, float, float, float]


# Fine first, coarse last: what is deep in a network says which region a patch belongs to, what is early how its surface
# looks. Every level sees all of it, each with its own emphasis.
PARTS = {
    "edges": Part(EDGES, 64, (2.0, 1.0, 0.1, 0.5)),
    "things": Part(JOINED, 128, (1.0, 1.0, 1.0, 0.3)),
    "regions": Part(REGIONS, 64, (0.3, 0.1, 1.0, 2.0)),
}


class WindowAttention(timm_tiny_vit.Attention):
    """TinyViT's attention with its biases shaped (1, heads, N, N), for which PyTorch's fused attention has a kernel."""

    def get_attention_biases(self, device: torch.device) -> Tensor:
        """Of every pair of the N tokens of a window."""
        biases: Tensor = super().get_attention_biases(device)
        return biases.unsqueeze(0)


class HybridStem(nn.Module):
    """Images (B, 3, H, W) to patch tokens (B, 256, H / 16, W / 16) and summaries (B, 256).

    Two frozen networks look at an image. EfficientNet-Lite2 knows what things are: four of its depths are each
    L2-normalised and joined, since standardising them costs accuracy (benchmarks/results/options-development.md).
    MobileSAM's TinyViT, which learned to outline anything, knows where one thing ends and the next begins: "edges" are
    what enters its third stage, "regions" what leaves its last. Fixed projections keep the directions in which each
    source differs most; they aren't centred, so cosines stay. The summary is what the whole image shows.
    """

    def __init__(self, efficientnet: Any, tiny_vit: Any) -> None:
        super().__init__()
        self.entry = nn.Sequential(efficientnet.conv_stem, efficientnet.bn1)
        self.fine = efficientnet.blocks[:3]
        self.middle = efficientnet.blocks[3]
        self.coarse = efficientnet.blocks[4]
        self.deep = efficientnet.blocks[5:7]
        self.head = nn.Sequential(efficientnet.conv_head, efficientnet.bn2)
        self.outline = nn.Sequential(tiny_vit.patch_embed, *tiny_vit.stages[:2], tiny_vit.stages[2].downsample)
        tiny_vit.stages[2].downsample = nn.Identity()
        tiny_vit.stages[3].downsample.conv2.conv.stride = (1, 1)  # as MobileSAM has it: one token for 16 pixels
        self.segment = tiny_vit.stages[2:4]
        for module in (*self.outline.modules(), *self.segment.modules()):
            if isinstance(module, timm_tiny_vit.Attention):
                module.__class__ = WindowAttention  # timm has no way to name another
        self.projections = nn.ModuleDict(
            {name: nn.Conv2d(part.source, part.width, 1, bias=False) for name, part in PARTS.items()}
        )
        self.summary = nn.Linear(SUMMARY, WIDTH)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As the class says."""
        patches, summary, _ = self.read(images)
        return patches, summary

    def read(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As ``forward``, and Lite2's pooled features (B, 1280)."""
        sources, pooled = self.sources(images)
        with torch.autocast(images.device.type, enabled=False):
            parts = [projection(sources[name]) for name, projection in self.projections.items()]
            return torch.cat(parts, dim=1), self.summary(pooled), pooled

    def sources(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What each of ``PARTS`` is made of, (B, C, h, w), and Lite2's pooled features (B, 1280).

        All of it is as precise as what calls this: rounded to bf16, no source tells less
        (benchmarks/results/mini.md).
        """
        things, pooled = self.things(images)
        height, width = things.shape[-2:]
        edges = self.outline(images)
        regions = self.segment(edges)
        sources = {
            "edges": F.normalize(edges[..., :height, :width].to(images.dtype), dim=1),
            "things": things,
            "regions": F.normalize(regions[..., :height, :width].to(images.dtype), dim=1),
        }
        return sources, pooled

    def things(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Lite2's depths joined, (B, 752, h, w), and its pooled features (B, 1280)."""
        fine = self.fine(self.entry(images))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        deep = self.deep(coarse)
        # "Same" padding rounds up; an image that 16 doesn't divide loses its rest, as in a plain patch embedding.
        height, width = images.shape[-2] // PATCH_SIZE, images.shape[-1] // PATCH_SIZE
        depths = (
            F.pixel_unshuffle(fine[..., : 2 * height, : 2 * width], 2),
            middle[..., :height, :width],
            coarse[..., :height, :width],
            F.interpolate(deep, size=(height, width), mode="bilinear", align_corners=False),
        )
        scales = (scale for _, scale in SOURCES.values())
        joined = torch.cat(
            [scale * F.normalize(x.to(images.dtype), dim=1) for scale, x in zip(scales, depths, strict=True)], dim=1
        )
        return joined, self.head(deep).to(images.dtype).mean(dim=(2, 3))


class EmphasisBlock(ResidualAttentionBlock):  # type: ignore[misc]  # open_clip isn't typed
    """A transformer block that first gives each channel the weight that it has at its level."""

    emphasis: Tensor

    def __init__(self, emphasis: Tensor) -> None:
        super().__init__(WIDTH, HEADS, MLP_RATIO, ls_init_value=RESIDUAL_SCALE)
        self.register_buffer("emphasis", emphasis, persistent=False)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Tokens (B, N, D) to tokens (B, N, D)."""
        tokens: Tensor = super().forward(x_BND * self.emphasis)
        return tokens

    def attention(self, q_x: Tensor, *_: Any, **__: Any) -> Tensor:
        """What each of N tokens (B, N, D) makes of all: the class token of each one, a patch of `NEIGHBOURS` at a time.

        Which of neighbours a patch attends to changes nothing that shows, and all pairs of 1600 patches are a third of
        what an image costs (benchmarks/results/mini.md).
        """
        joined = F.linear(q_x, self.attn.in_proj_weight, self.attn.in_proj_bias)
        queries, keys, values = joined.unflatten(2, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        few_keys, few_values = (F.avg_pool2d(x, (NEIGHBOURS, 1), ceil_mode=True) for x in (keys, values))
        attended = torch.cat(
            [
                F.scaled_dot_product_attention(queries[:, :, :1], keys, values),
                F.scaled_dot_product_attention(queries[:, :, 1:], few_keys, few_values),
            ],
            dim=2,
        )
        mixed: Tensor = self.attn.out_proj(attended.transpose(1, 2).flatten(2))
        return mixed


def emphases() -> list[Tensor]:
    """What each block multiplies the channels (D,) by: the ratio of its level's gains to those of the one before."""
    gains = torch.tensor([part.gains for part in PARTS.values()]).T
    widths = torch.tensor([part.width for part in PARTS.values()])
    ratios = torch.cat([gains[:1], gains[1:] / gains[:-1]])
    return [ratio.repeat_interleave(widths) for ratio in ratios]


class MiniBackbone(Backbone):
    """``mini`` as a backbone: its class token begins with what the stem makes of the whole image."""

    any_size = True
    balanced = True

    @property
    def whole_level(self) -> int | None:
        """The level that knows best what things are."""
        return self.levels.index(THINGS_LEVEL) if THINGS_LEVEL in self.levels else None

    def _embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        patches_BDhw, summary_BD = self.visual.conv1(images)
        tokens = torch.cat([summary_BD.unsqueeze(1), patches_BDhw.flatten(2).transpose(1, 2)], dim=1)
        return tokens

    def early(self, images: Tensor) -> Tensor:
        """As `Backbone.early`: here Lite2's first two stages, at a quarter of an image's sides."""
        stem = self.visual.conv1
        features: Tensor = stem.fine[:2](stem.entry(images))
        return features


def weights_path() -> Path:
    """Where the package keeps the backbone's weights."""
    return packaged("mini.safetensors")


def trained_weights_path() -> Path:
    """Where the package keeps the adapters and prompts that were trained on this backbone."""
    return packaged("mini-sowa.safetensors")


def compress(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as the package keeps them: in half precision, words in steps of a 127th of each one's largest value.

    Half of all weights are the words'.

    Raises:
        ValueError: a value is too large for half precision.
    """
    kept = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    words = tensors[WORDS]
    steps = (words.abs().amax(dim=1) / 127).half()
    kept[WORDS] = (words / steps[:, None].float()).nan_to_num().round().clamp(-127, 127).to(torch.int8)
    kept[WORD_STEPS] = steps
    if not all(bool(value.isfinite().all()) for value in kept.values()):
        raise ValueError("a value is too large for half precision")
    return {name: value.contiguous() for name, value in kept.items()}


def read_weights(path: Path) -> dict[str, Tensor]:
    """What `compress` made, by name, the words in full."""
    tensors = load_file(path)
    tensors[WORDS] = tensors[WORDS].float() * tensors.pop(WORD_STEPS).float()[:, None]
    return tensors


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
        clip.visual.conv1 = HybridStem(
            timm.create_model("tf_efficientnet_lite2"), timm.create_model("tiny_vit_5m_224", num_classes=0)
        )
        clip.visual.transformer.resblocks = nn.ModuleList(EmphasisBlock(each) for each in emphases())
    # The joint space is the vision space, and positions add nothing: what a patch is doesn't depend on where it lies.
    nn.init.eye_(clip.visual.proj)
    nn.init.zeros_(clip.visual.positional_embedding)
    return clip


def build_mini(levels: Sequence[int] | None = None, random: bool = False) -> Backbone:
    """The embedded backbone.

    Args:
        levels: Numbers of the blocks behind which tokens are taken; all four by default.
        random: Whether its weights are seeded random ones throughout.
    """
    clip = empty_clip()
    if not random:
        clip.load_state_dict(read_weights(weights_path()), strict=False)  # strict but for UNTRAINED: a test sees to it
    fold_norms(clip.visual.conv1)
    clip.visual.conv1 = clip.visual.conv1.to(memory_format=torch.channels_last)  # twice as fast on a CPU
    return MiniBackbone(clip, "mini:random" if random else "mini", levels, mean=MEAN, std=STD)


def fold_norms(module: nn.Module) -> None:
    """Lets each convolution do what the batch normalisation behind it does, whose activation, if any, stays.

    The same to the last digits, in less time (benchmarks/results/options-development.md). Computed in float64, where
    every step is exact by the standard, so that the weights' fingerprint is the same on every machine.
    """
    for (_, conv), (name, norm) in pairwise(list(module.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            assert norm.running_var is not None
            assert norm.running_mean is not None
            shift = torch.zeros(()) if conv.bias is None else conv.bias
            gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            bias = norm.bias.double() + (shift.double() - norm.running_mean.double()) * gain
            conv.weight = nn.Parameter((conv.weight.double() * gain[:, None, None, None]).float())
            conv.bias = nn.Parameter(bias.float())
            setattr(module, name, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())
    for child in module.children():
        fold_norms(child)
