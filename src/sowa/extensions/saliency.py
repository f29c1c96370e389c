"""Distances weighed by bottom-up saliency: what stands out of its image counts more, or less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sowa.core.config import SaliencyConfig
from sowa.core.memory import MemoryBank
from sowa.core.types import Features
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.model.backbone import Backbone
from sowa.model.saliency import Saliency


class SaliencyWeight:
    """A `sowa.detector.extension.DistanceWeight`: a distance counts exp(weight * saliency) times.

    The network's own saliency is taken where it has one, otherwise that which nobody has trained.

    Args:
        weight: -1..1.

    Raises:
        InputError: the weight is outside of that.
    """

    name: ClassVar[str] = "saliency_weight"
    replaces_prompts = False

    def __init__(self, weight: float) -> None:
        if not -1 <= weight <= 1:
            raise InputError(f"saliency weight is {weight}, allowed is -1 to 1")
        self.weight = weight

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Of what `settings` gave."""
        return cls(settings.get("weight", 0.0))

    def attach(self, encoder: TorchEncoder) -> None:
        """Has the encoder tell saliency."""
        network = encoder.network
        own = network.saliency or Saliency(SaliencyConfig(), network.backbone.embed_dim)
        encoder.read_patches(self.name, PatchSaliency(own, network.backbone))

    def settings(self) -> dict[str, Any]:
        """The weight."""
        return {"weight": self.weight}

    def tensors(self) -> dict[str, Tensor]:
        """None: the network's tensors tell."""
        return {}

    def restore(self, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], bank: MemoryBank) -> None:
        """Nothing is left to take over."""

    def factors(self, values_BP: Tensor) -> Tensor:
        """exp(weight * saliency), (B, P)."""
        return torch.exp(self.weight * values_BP)


class PatchSaliency(nn.Module):
    """The saliency of every patch, computed once where the network has told it already.

    Args:
        saliency: What tells it.
        backbone: Whose pixels are normalised; it is no part of this.
    """

    def __init__(self, saliency: Saliency, backbone: Backbone) -> None:
        super().__init__()
        self.saliency = saliency
        self.register_buffer("mean", backbone.mean, persistent=False)
        self.register_buffer("std", backbone.std, persistent=False)

    mean: Tensor
    std: Tensor

    def forward(self, pixels: Tensor, features: Features) -> Tensor:
        """Saliency (B, P) of normalised pixels (B, 3, H, W)."""
        if features.saliency is not None:
            told: Tensor = features.saliency
            return told
        images = torch.addcmul(self.mean, pixels.float(), self.std)
        values: Tensor = self.saliency(images, features.patches[0], features.grid)
        return values
