"""How far defects are of given names: patches compared with words, and with examples where some were shown.

Shapes: B images, P patches on a grid (h, w), L levels, E joint width, T names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.core.scoring import TOP_FRACTION, top_mean
from sowa.extensions.names.namer import FLAWLESS, Namer
from sowa.model.types import TextTower
from sowa.model.words import check_names


@dataclass(frozen=True)
class NameScores:
    """Of a batch and T names.

    Attributes:
        probabilities: That a defect, if there is one, is of each name, (B, T), summing to 1.
        maps: The anomaly map as far as it is of each name, (B, T, h, w).
        scores: Of images by these maps, (B, T).
    """

    probabilities: Tensor
    maps: Tensor
    scores: Tensor


class NameClassifier:
    """Names that are read once and compared with any patches.

    Args:
        names: Of defects.
        namer: Compares patches with names.
        tower: Reads the names.
        examples: Unit vectors (E,) of what some of the defects look like.

    Raises:
        InputError: there is no name, an empty one, or one twice.
    """

    def __init__(
        self, names: Sequence[str], namer: Namer, tower: TextTower, examples: Mapping[str, Tensor] | None = None
    ) -> None:
        self.names, self.namer = check_names(names, "defects"), namer
        with torch.inference_mode():
            self.text = namer.encode_names([FLAWLESS, *self.names], tower)
        shown = examples or {}  # zeros where nobody showed a defect
        self.examples = torch.stack([shown.get(name, torch.zeros_like(self.text[0])) for name in self.names])

    @torch.inference_mode()
    def __call__(self, patches: Sequence[Tensor], anomaly_BP: Tensor, grid: tuple[int, int]) -> NameScores:
        """Of a batch.

        Args:
            patches: Raw patches, L times (B, P, E).
            anomaly_BP: Their distances or probabilities, 0 and more.
            grid: (h, w) with h * w = P.
        """
        logits_BPT = self._logits(self.namer.encode_patches(patches))
        shares_BPT = logits_BPT.softmax(dim=-1)[..., 1:]
        maps_TBhw = (anomaly_BP[..., None] * shares_BPT).permute(2, 0, 1).unflatten(2, grid)
        evidence_BT = (region(anomaly_BP)[..., None] * logits_BPT[..., 1:]).sum(dim=1)
        return NameScores(
            probabilities=evidence_BT.softmax(dim=-1),
            maps=maps_TBhw.transpose(0, 1),
            scores=torch.stack([top_mean(map_Bhw) for map_Bhw in maps_TBhw], dim=1),
        )

    def _logits(self, patches_BPE: Tensor) -> Tensor:
        """Of flawless and each name, (B, P, 1 + T); a name that was shown is told by its examples too."""
        logits_BPT = patches_BPE @ self.text.T
        similar_BPT = patches_BPE @ self.examples.T
        return self.namer.sharpness * torch.cat([logits_BPT[..., :1], logits_BPT[..., 1:] + similar_BPT], dim=-1)


def region(anomaly_BP: Tensor) -> Tensor:
    """Where an image's defect lies, if it has one: its highest hundredth of patches.

    Args:
        anomaly_BP: Distances or probabilities of patches, (B, P), 0 and more.

    Returns:
        Weights (B, P) that sum to 1.

    Example:
        >>> region(torch.tensor([[0.1, 0.7, 0.2]])).tolist()
        [[0.0, 1.0, 0.0]]
    """
    count = max(1, round(TOP_FRACTION * anomaly_BP.shape[1]))
    highest = anomaly_BP.topk(count, dim=1)
    weights_BP = torch.zeros_like(anomaly_BP).scatter(1, highest.indices, highest.values.clamp(min=1e-6))
    return weights_BP / weights_BP.sum(dim=1, keepdim=True)


def example(namer: Namer, patches: Sequence[Tensor], weights_BP: Tensor) -> Tensor:
    """What the images' defects look like on the whole, a unit vector (E,).

    Args:
        namer: That looks at patches.
        patches: Raw patches, L times (B, P, E).
        weights_BP: (B, P) as of `region`.
    """
    return F.normalize((weights_BP[..., None] * namer.encode_patches(patches)).sum(dim=(0, 1)), dim=-1)
