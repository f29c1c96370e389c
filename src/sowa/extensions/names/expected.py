"""Defects that are expected: what looks like none of them counts less (top-down attention).

It helps where images differ beside the part, as on cluttered backgrounds.

Shapes: B images, P patches, L levels, E joint width, T names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sowa.core.memory import MemoryBank
from sowa.core.types import Features
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.extensions.names.namer import FLAWLESS, Namer
from sowa.extensions.names.weights import load_namer
from sowa.model.backbone import fingerprint
from sowa.model.types import TextTower
from sowa.model.words import check_names


class ExpectedDefects:
    """A `sowa.detector.extension.DistanceWeight`: distances are weighed by how likely a patch shows one of the names.

    Args:
        names: Of defects, in any words.

    Raises:
        InputError: there is no name, an empty one, or one twice.
    """

    name: ClassVar[str] = "expected_defects"
    replaces_prompts = True

    def __init__(self, names: Sequence[str]) -> None:
        self.names = check_names(names, "expected defects")
        self._weights_sha256 = ""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Of what `settings` gave."""
        return cls(settings.get("names", ()))

    def attach(self, encoder: TorchEncoder) -> None:
        """Has the encoder read every patch.

        Raises:
            InputError: names aren't told through its backbone.
        """
        namer = load_namer(encoder.network.backbone).to(encoder.device)
        self._weights_sha256 = fingerprint(namer.state_dict())
        encoder.read_patches(self.name, DefectProbability(self.names, namer, encoder.network.backbone))

    def settings(self) -> dict[str, Any]:
        """The names, and which weights tell them."""
        return {"names": list(self.names), "weights_sha256": self._weights_sha256}

    def tensors(self) -> dict[str, Tensor]:
        """None: the weights are the package's."""
        return {}

    def restore(self, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], bank: MemoryBank) -> None:
        """Takes nothing over; names are told by the weights that the package ships.

        Raises:
            InputError: names were told by other weights than this version's.
        """
        if settings.get("weights_sha256") != self._weights_sha256:
            raise InputError("expected defects were told by other weights than this version's; fit the detector anew")

    def factors(self, values_BP: Tensor) -> Tensor:
        """The probabilities themselves, (B, P)."""
        return values_BP


class DefectProbability(nn.Module):
    """How likely each patch shows one of the named defects, whichever.

    Args:
        names: Of defects, one or more.
        namer: Compares patches with names.
        tower: Reads the names; it is no part of this.
    """

    text: Tensor

    def __init__(self, names: Sequence[str], namer: Namer, tower: TextTower) -> None:
        super().__init__()
        self.namer = namer
        with torch.no_grad():
            self.register_buffer("text", namer.encode_names([FLAWLESS, *names], tower), persistent=False)

    def forward(self, pixels: Tensor, features: Features) -> Tensor:
        """Probabilities (B, P) by the raw patches."""
        with torch.autocast(pixels.device.type, enabled=False):
            logits_BPT = self.namer.sharpness * self.namer.encode_patches(features.patches) @ self.text.T
            return logits_BPT.softmax(dim=-1)[..., 1:].sum(dim=-1)
