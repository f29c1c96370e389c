"""What the stages of the network hand to each other.

Shapes: B images, H x W pixels, P = h * w patches, D vision width, E joint width, S = 2 states (0 normal, 1 abnormal),
L levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class FrozenAttention:
    """The weights of one residual block's own attention that a window adapter reads and never changes.

    The bias of the input projection isn't used (paper section 3.2, METHOD.md section 2).

    Attributes:
        in_proj_weight: (3D, D) for queries, keys and values in this order.
        out_proj_weight: (D, D).
        out_proj_bias: (D,).
    """

    in_proj_weight: Tensor
    out_proj_weight: Tensor
    out_proj_bias: Tensor


class TextTower(Protocol):
    """The frozen text side of a backbone, as the prompts need it. N prompts, T tokens, W text width, E joint width."""

    @property
    def text_width(self) -> int:
        """W."""
        ...

    @property
    def embed_dim(self) -> int:
        """E."""
        ...

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids (N, T)."""
        ...

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids (N, T) to embeddings (N, T, W)."""
        ...

    def encode_text(self, embeddings: Tensor, end: Tensor) -> Tensor:
        """Embeddings to features (N, E).

        Args:
            embeddings: (N, T, W).
            end: Where the end-of-text token is, (N,).
        """
        ...


@dataclass(frozen=True)
class Levels:
    """What the frozen backbone sees in a batch of images.

    Attributes:
        image_feature: (B, E).
        tokens: L times (B, P, D), class token dropped.
        patches: L times (B, P, E), the tokens projected without the final LayerNorm.
        grid: (h, w) with h * w = P.
    """

    image_feature: Tensor
    tokens: tuple[Tensor, ...]
    patches: tuple[Tensor, ...]
    grid: tuple[int, int]


@dataclass(frozen=True)
class NetworkOutput:
    """Everything that one forward pass of the network computes.

    Attributes:
        image_feature: (B, E).
        class_text: (B, S, E).
        text_probs: (B, S).
        patches: L times (B, P, E).
        adapted: L times (B, P, E).
        similarities: L times (B, P, S).
        level_maps: L times (B, H, W), the probability of the abnormal state; the other state's is its complement.
        grid: (h, w) with h * w = P.
        saliency: (B, P), None where the network has none.
    """

    image_feature: Tensor
    class_text: Tensor
    text_probs: Tensor
    patches: tuple[Tensor, ...]
    adapted: tuple[Tensor, ...]
    similarities: tuple[Tensor, ...]
    level_maps: tuple[Tensor, ...]
    grid: tuple[int, int]
    saliency: Tensor | None = None
