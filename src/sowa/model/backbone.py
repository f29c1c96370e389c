"""The frozen CLIP vision transformer, read at several levels, and its text tower (paper section 3.1).

Shapes: B images, H x W pixels, P = h * w patches, D vision width, E joint width, N prompts, T text tokens,
W text width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from sowa.errors import InputError
from sowa.model.types import FrozenAttention, Levels

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
VOCABULARY = 49408


class Backbone(nn.Module):
    """A CLIP model whose weights never change.

    ``forward`` returns the levels explicitly; nothing is hooked and nothing is remembered between calls. Any
    ``open_clip`` model whose image tower is a plain vision transformer with a class token fits.

    Args:
        clip: The model of ``open_clip``.
        name: What files call it.
        levels: Numbers of the blocks behind which tokens are taken, from 0; by default four, evenly spread.
        mean: Of the images that it was trained on, by channel, in 0..1.
        std: Their standard deviation.

    Raises:
        InputError: another image tower, or levels that the transformer doesn't have.
    """

    any_size = False
    """Whether images are seen as well at any other size as at its own: positions that were learned for one are not."""
    balanced = False
    """Whether its levels see so differently that references tell what the distances of each count
    (`sowa.core.levels`); as published they are summed as they are."""
    mean: Tensor
    std: Tensor

    @property
    def whole_level(self) -> int | None:
        """Number of the level that is also read of a large image made small (`sowa.encoders.whole`), None for none.

        Only where positions add nothing: an export knows those of one grid.
        """
        return None

    def __init__(
        self,
        clip: Any,
        name: str,
        levels: Sequence[int] | None = None,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        super().__init__()
        visual = clip.visual
        if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None or visual.pool_type != "tok":
            raise InputError(f"backbone {name!r} has no plain CLIP vision transformer; choose a ViT-* model")
        self.name = name
        self.visual: Any = visual
        # open_clip keeps the text tower on the model itself (CLIP) or in .text (CustomTextCLIP).
        self.text: Any = getattr(clip, "text", clip)
        if self.text.vocab_size != VOCABULARY:
            raise InputError(f"backbone {name!r} has a tokenizer of its own, allowed are models with CLIP's")
        self.levels = _check_levels(levels, len(visual.transformer.resblocks), name)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels for which the positions were learned."""
        height, width = self.visual.image_size
        return int(height), int(width)

    @property
    def patch_size(self) -> tuple[int, int]:
        """(H, W) of one patch in pixels."""
        height, width = self.visual.patch_size
        return int(height), int(width)

    @property
    def width(self) -> int:
        """D, the width of the vision transformer."""
        return int(self.visual.proj.shape[0])

    @property
    def embed_dim(self) -> int:
        """E, the width of the joint space of images and texts."""
        return int(self.visual.proj.shape[1])

    @property
    def text_width(self) -> int:
        """W, the width of a text token."""
        return int(self.text.token_embedding.weight.shape[1])

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """How many patches (h, w) an image has.

        Args:
            size: Its (H, W) in pixels.

        Raises:
            InputError: it's smaller than one patch.
        """
        rows, columns = (side // patch for side, patch in zip(size, self.patch_size, strict=True))
        if min(rows, columns) < 1:
            raise InputError(
                f"image of {size[0]} x {size[1]} pixels is smaller than one patch "
                f"({self.patch_size[0]} x {self.patch_size[1]}); enlarge it"
            )
        return rows, columns

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode whatever is asked: the backbone is frozen."""
        return super().train(False)

    def forward(self, images: Tensor) -> Levels:
        """Images (B, 3, H, W), normalised by ``mean`` and ``std``, to their levels in one pass."""
        x_BND, tokens, grid = self._read(images, len(self.visual.transformer.resblocks))
        # Only the class token goes through the final LayerNorm, so nothing is normalised in vain.
        image_feature = self.visual.ln_post(x_BND[:, 0]) @ self.visual.proj
        return Levels(image_feature, tokens, tuple(self.project(t) for t in tokens), grid)

    def patches(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        """The patches of ``forward`` and their grid alone, without the blocks behind the last level."""
        _, tokens, grid = self._read(images, self.levels[-1] + 1)
        return tuple(self.project(t) for t in tokens), grid

    def _read(self, images: Tensor, depth: int) -> tuple[Tensor, tuple[Tensor, ...], tuple[int, int]]:
        """What the first ``depth`` blocks make of images, the levels' tokens among them, and the grid."""
        grid = self.grid((images.shape[-2], images.shape[-1]))
        x_BND = self._embed(images, grid)
        tokens = []
        for index, block in enumerate(self.visual.transformer.resblocks[:depth]):
            x_BND = block(x_BND)
            if index in self.levels:
                tokens.append(x_BND[:, 1:])
        return x_BND, tuple(tokens), grid

    def _embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        visual = self.visual
        # What is rounded here reaches every distance, and rounding saves no time
        # (benchmarks/results/options-development.md).
        with torch.autocast(images.device.type, enabled=False):
            patches_BPD = visual.conv1(images).flatten(2).transpose(1, 2)
        cls_B1D = visual.class_embedding.to(patches_BPD.dtype).expand(images.shape[0], 1, -1)
        x_BND = torch.cat([cls_B1D, patches_BPD], dim=1)
        positions = interpolate_positions(visual.positional_embedding, visual.grid_size, grid)
        embedded: Tensor = visual.ln_pre(x_BND + positions.to(x_BND.dtype))
        return embedded

    def early(self, images: Tensor) -> Tensor:
        """Features (B, C, h, w) of the first layers alone, at a small part of the cost of ``forward``.

        Here they are the patch embeddings.

        Args:
            images: (B, 3, H, W) of any size, normalised as for ``forward``.
        """
        features: Tensor = self.visual.conv1(images)
        return features

    def project(self, tokens: Tensor) -> Tensor:
        """Vision tokens (..., D) to the joint space (..., E), without the final LayerNorm."""
        projected: Tensor = tokens @ self.visual.proj
        return projected

    def attention(self, level: int) -> FrozenAttention:
        """The frozen attention weights of the residual block behind ``level`` (0-based position in ``levels``)."""
        attn = self.visual.transformer.resblocks[self.levels[level]].attn
        return FrozenAttention(attn.in_proj_weight, attn.out_proj.weight, attn.out_proj.bias)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids (N, T) of N texts.

        Raises:
            InputError: a text is longer than the text tower's context.
        """
        context = int(self.text.context_length)
        tokenizer = _tokenizer(context)
        for text in texts:
            length = len(tokenizer.encode(text)) + 2
            if length > context:
                raise InputError(f"prompt {text!r} has {length} tokens, allowed are {context}; shorten it")
        tokens: Tensor = tokenizer(list(texts))
        return tokens

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids (N, T) to text embeddings (N, T, W)."""
        embeddings: Tensor = self.text.token_embedding(tokens)
        return embeddings

    def encode_text(self, embeddings: Tensor, end: Tensor) -> Tensor:
        """Text embeddings to text features (N, E).

        Attention is causal, so what follows the last end-of-text token is left out: same result, less work.

        Args:
            embeddings: (N, T, W).
            end: Where the end-of-text token is, (N,).
        """
        length = int(end.max()) + 1
        x_NTW = embeddings[:, :length] + self.text.positional_embedding[:length]
        mask = self.text.attn_mask
        x_NTW = self.text.transformer(x_NTW, attn_mask=None if mask is None else mask[:length, :length])
        x_NW = self.text.ln_final(x_NTW[torch.arange(len(end), device=end.device), end])
        projection = self.text.text_projection
        features: Tensor = projection(x_NW) if isinstance(projection, nn.Linear) else x_NW @ projection
        return features

    def fingerprint(self) -> str:
        """SHA-256 over names, shapes and values of all weights: the identity that saved files are checked against."""
        # Where the text tower is the whole CLIP model, the vision tower is in there once more.
        return fingerprint(
            {key: value for key, value in self.state_dict().items() if not key.startswith("text.visual.")}
        )

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B, H, W, 3) uint8 to what the backbone was trained on, (B, 3, H, W)."""
        pixels = images.permute(0, 3, 1, 2).float() / 255
        pixels = ((pixels - self.mean) / self.std).to(self.visual.proj.dtype)
        return pixels.contiguous(memory_format=torch.channels_last)

    def unnormalise(self, images: Tensor) -> Tensor:
        """Images normalised by ``mean`` and ``std`` back to 0..1."""
        return torch.addcmul(self.mean, images, self.std)


@lru_cache(maxsize=4)
def _tokenizer(context: int) -> Any:
    """CLIP's, for so many tokens. Making one reads its vocabulary, a tenth of a second."""
    return SimpleTokenizer(context_length=context)


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values of weights."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def interpolate_positions(positions: Tensor, trained: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Position embeddings at another grid, by antialiased bicubic interpolation.

    Args:
        positions: (1 + H * W, D), class token first.
        trained: Their grid (H, W).
        grid: The other one, (h, w).

    Returns:
        (1 + h * w, D).
    """
    if tuple(trained) == tuple(grid):
        return positions
    cls_1D, patches_PD = positions[:1], positions[1:]
    patches = patches_PD.reshape(1, *trained, -1).permute(0, 3, 1, 2)
    patches = F.interpolate(patches.float(), size=grid, mode="bicubic", antialias=True)
    return torch.cat([cls_1D, patches.flatten(2)[0].T.to(positions.dtype)])


def _check_levels(levels: Sequence[int] | None, depth: int, name: str) -> tuple[int, ...]:
    if levels is None:
        if depth < 4:
            raise InputError(f"backbone {name!r} has {depth} blocks, four levels need at least 4; name the levels")
        return tuple((quarter + 1) * depth // 4 - 1 for quarter in range(4))
    chosen = tuple(levels)
    if not chosen or sorted(set(chosen)) != list(chosen) or chosen[0] < 0 or chosen[-1] >= depth:
        raise InputError(f"levels are {list(chosen)}, allowed are ascending numbers from 0 to {depth - 1} for {name!r}")
    return chosen
