"""The early layers of any of timm's CNNs, frozen, as features to tell by what stands out."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sowa.errors import InputError
from sowa.model.mini import fold_norms

STAGE = 1  # of timm's stages from 0: at a quarter of the image's sides in most CNNs
RANDOM = ":random"
TRIED = (96, 128)  # pixels, a size that no network was made for


class EarlyLayers(nn.Module):
    """Images (B, 3, H, W) in 0..1 to the features (B, C, h, w) of an early stage of a CNN.

    The weights are seeded random ones until ``download`` was called or a file of weights was read, which holds them.

    Args:
        name: Of timm's; may end with ":random".

    Raises:
        InputError: a CNN that timm doesn't have or that needs statistics beside its weights.
    """

    layers: Any
    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.layers = _build(name, pretrained=False)
        config: dict[str, Any] = resolve_model_data_config(self.layers)  # type: ignore[no-untyped-call]
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, 3, 1, 1), persistent=False)

    @property
    def channels(self) -> int:
        """C."""
        return int(self.layers.feature_info.channels()[-1])

    def download(self) -> None:
        """Takes timm's pretrained weights, unless the name says random.

        Raises:
            InputError: they can't be had.
        """
        if not self.name.endswith(RANDOM):
            self.layers.load_state_dict(_build(self.name, pretrained=True).state_dict())

    def train(self, mode: bool = True) -> EarlyLayers:
        """Stays in evaluation mode whatever is asked: the layers are frozen."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """As the class says."""
        features: Tensor = self.layers((images - self.mean) / self.std)[-1]
        return features


def _build(name: str, pretrained: bool) -> nn.Module:
    plain = name.removesuffix(RANDOM)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers: nn.Module = timm.create_model(
                plain, pretrained=pretrained, features_only=True, out_indices=(STAGE,)
            )
    except Exception as error:  # timm lets whatever its hub client raises through
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"CNN {plain!r} of timm can't be had ({told[0]}); name another, such as resnet18, or {plain}{RANDOM}"
        ) from error
    fold_norms(layers)
    if any(isinstance(module, _BatchNorm) for module in layers.modules()):
        raise InputError(f"CNN {plain!r} keeps statistics that can't be folded into its weights; name another")
    layers.requires_grad_(False).eval()
    try:
        with torch.no_grad():
            layers(torch.zeros(1, 3, *TRIED))
    except Exception as error:  # whatever a network of one size makes of another
        raise InputError(f"{plain!r} of timm takes images of one size only; name a CNN, such as resnet18") from error
    return layers
