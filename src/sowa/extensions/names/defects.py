"""Which of named defects an image shows, and where: prompts steer the map (top-down attention).

Where something is wrong is said by the anomaly map, what it is by the namer (`sowa.extensions.names.namer`), from words
alone or with a handful of labelled examples.

Shapes: B images, P patches on a grid (h, w), L levels, E joint width, T names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.core.scoring import TOP_FRACTION, top_mean
from sowa.core.types import JudgedNames, TextTower
from sowa.extensions.names.namer import FLAWLESS, Namer
from sowa.model.words import check_names


@dataclass(frozen=True)
class Named:
    """Of a batch: ``probabilities`` (B, T) that a defect, if there is one, is of each name, summing to 1; ``maps``
    (T, B, h, w), the anomaly map as far as it is of each of the ``names`` (T); ``scores`` (B, T) of images by these
    maps."""

    probabilities: Tensor
    maps: Tensor
    scores: Tensor
    names: tuple[str, ...]

    def numpy(self) -> JudgedNames:
        """What a prediction takes of it, on the CPU."""
        parts = self.probabilities, self.scores, self.maps.transpose(0, 1)
        return JudgedNames(self.names, *(part.float().cpu().numpy() for part in parts))


class Defects:
    """Names of defects, read once. ``examples`` (T, E) are unit vectors of what some of them look like, zeros where
    nobody showed one.

    Raises InputError where there is no name, or one twice.
    """

    def __init__(
        self, names: Sequence[str], namer: Namer, tower: TextTower, examples: Mapping[str, Tensor] | None = None
    ) -> None:
        words = check_names(names, "defects")
        self.names, self.namer = words, namer
        with torch.inference_mode():
            self.text = namer.read([FLAWLESS, *words], tower)
        shown = examples or {}
        self.examples = torch.stack([shown.get(name, torch.zeros_like(self.text[0])) for name in words])

    @torch.inference_mode()
    def __call__(self, patches: Sequence[Tensor], anomaly_BP: Tensor, grid: tuple[int, int]) -> Named:
        """Raw ``patches`` L times (B, P, E) with the distances or probabilities ``anomaly_BP``, 0 and more."""
        seen_BPE = self.namer.see(patches)
        logits_BPT = self._logits(seen_BPE)
        shares_BPT = logits_BPT.softmax(dim=-1)[..., 1:]
        maps_TBhw = (anomaly_BP[..., None] * shares_BPT).permute(2, 0, 1).unflatten(2, grid)
        weights_BP = region(anomaly_BP)
        evidence_BT = (weights_BP[..., None] * logits_BPT[..., 1:]).sum(dim=1)
        return Named(
            probabilities=evidence_BT.softmax(dim=-1),
            maps=maps_TBhw,
            scores=torch.stack([top_mean(map_Bhw) for map_Bhw in maps_TBhw], dim=1),
            names=self.names,
        )

    def _logits(self, seen_BPE: Tensor) -> Tensor:
        """Of flawless and each name, (B, P, 1 + T); a name that was shown is told by its examples too."""
        logits_BPT = seen_BPE @ self.text.T
        similar_BPT = seen_BPE @ self.examples.T
        return self.namer.sharpness * torch.cat([logits_BPT[..., :1], logits_BPT[..., 1:] + similar_BPT], dim=-1)


def region(anomaly_BP: Tensor) -> Tensor:
    """Where an image's defect lies, if it has one: its highest hundredth of patches, weights (B, P) that sum to 1."""
    count = max(1, round(TOP_FRACTION * anomaly_BP.shape[1]))
    highest = anomaly_BP.topk(count, dim=1)
    weights_BP = torch.zeros_like(anomaly_BP).scatter(1, highest.indices, highest.values.clamp(min=1e-6))
    return weights_BP / weights_BP.sum(dim=1, keepdim=True)


def example(namer: Namer, patches: Sequence[Tensor], weights_BP: Tensor) -> Tensor:
    """What the images' defects look like on the whole, a unit vector (E,); weights (B, P) as of `region`."""
    return F.normalize((weights_BP[..., None] * namer.see(patches)).sum(dim=(0, 1)), dim=-1)
