"""A network at work in torch: on a device, at a precision, at the size at which it sees images. It knows no references.

Shapes: B images, H x W pixels, S = 2 states, E joint width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sowa.core.config import ModelConfig, SaliencyConfig, Settings
from sowa.core.headers import Identity
from sowa.core.types import Features
from sowa.encoders.devices import Computed, autocast, choose_device, choose_precision, synchronise
from sowa.encoders.windows import WindowedNetwork
from sowa.errors import InputError
from sowa.model.checkpoint import identity, load_weights, pretrained_network, rebuild, trained_tensors
from sowa.model.sowa import SowaNetwork

SALIENCY = "saliency."  # the names of its tensors begin so


class TorchEncoder:
    """Images in, patches and prompts' maps out: an `sowa.encoders.base.Encoder`.

    Args:
        network: Backbone, adapters and prompts.
        trained: Whether the adapters and prompts know of defects; otherwise only patches are read.
        settings: Device, precision, image size, tiling and category.

    Raises:
        InputError: an unknown device, precision or category, or a size that doesn't fit the network.
    """

    def __init__(self, network: SowaNetwork, *, trained: bool, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.device = choose_device(self.settings.device)
        self.precision = choose_precision(self.settings.precision, self.device)
        self.trained = trained
        self.category = _check_category(self.settings.category, network)
        windows = WindowedNetwork(network.to(self.device), self.settings.image_size, self.settings.tiled)
        self.windows: WindowedNetwork = windows.to(self.device).eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str = "mini",
        *,
        weights: str | Path | None = None,
        config: ModelConfig | None = None,
        saliency: SaliencyConfig | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """The encoder that a name stands for.

        Args:
            name: A backbone (see `sowa.model.pretrained.build_backbone`), or the path of weights that ``sowa train``
                wrote, which name their backbone.
            weights: A checkpoint of the authors for the backbone ``name``.
            config: The network's, where it isn't the published one and no file tells it.
            saliency: Adds bottom-up attention to the network, which training can use.
            settings: As of the class.

        Raises:
            InputError: whatever doesn't exist or doesn't fit.
        """
        network, trained = pretrained_network(name, weights, config, saliency)
        return cls(network, trained=trained, settings=settings)

    @classmethod
    def restore(
        cls,
        config: ModelConfig,
        saved: Identity,
        tensors: Mapping[str, Tensor],
        *,
        trained: bool,
        settings: Settings,
        source: Path,
        backbone: str | None = None,
    ) -> Self:
        """The encoder of a file that holds what `tensors` gave.

        Args:
            config: The network's.
            saved: Identity of its backbone.
            tensors: What `tensors` gave.
            trained: Whether these are the adapters and prompts too.
            settings: As of the class.
            source: The file, for messages.
            backbone: Names the backbone otherwise, where its file has moved.

        Raises:
            InputError: the backbone has other weights or levels here, or tensors don't fit.
        """
        network = rebuild(config, saved, source, backbone)
        if trained or network.saliency:
            own = {} if trained else trained_tensors(network)
            load_weights(network, {**own, **tensors}, str(source))
        return cls(network, trained=trained, settings=settings)

    @property
    def network(self) -> SowaNetwork:
        """Backbone, adapters and prompts."""
        return self.windows.network

    @property
    def config(self) -> ModelConfig:
        """The network's."""
        return self.network.config

    @property
    def name(self) -> str:
        """The backbone's."""
        return self.network.backbone.name

    @property
    def levels(self) -> int:
        """How many levels are read, L; of the whole of a large image one more."""
        return self.prompt_levels + (self.windows.whole is not None)

    @property
    def prompt_levels(self) -> int:
        """How many of them, the first ones, the prompts are asked of."""
        return len(self.network.backbone.levels)

    @property
    def width(self) -> int:
        """Of a patch in the joint space, E."""
        return self.network.backbone.embed_dim

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels at which images are seen."""
        return self.windows.image_size

    @property
    def tiled(self) -> bool:
        """Whether images are seen through overlapping windows."""
        return self.windows.tiled

    @property
    def any_size(self) -> bool:
        """Whether images are seen as well at one size as at another, and nobody has said at which."""
        return self.network.backbone.any_size and self.settings.image_size is None and not self.tiled

    @property
    def balanced(self) -> bool:
        """Whether references tell what each level's distances count; otherwise they are summed as they are."""
        return self.network.backbone.balanced

    @property
    def patch_size(self) -> tuple[int, int]:
        """(h, w) of a patch in pixels."""
        return self.network.backbone.patch_size

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) patches of an image."""
        return self.network.backbone.grid(self.image_size)

    @property
    def identity(self) -> Identity:
        """Of the backbone; hashes all its weights."""
        return identity(self.network.backbone)

    def tensors(self) -> dict[str, Tensor]:
        """What a file must hold to `restore` it: what is trained, or what tells saliency alone."""
        tensors = trained_tensors(self.network)
        return {name: tensor for name, tensor in tensors.items() if self.trained or name.startswith(SALIENCY)}

    def at_precision(self, precision: Computed) -> Self:
        """The same encoder, sharing its weights, at another precision."""
        other = copy(self)
        other.precision = precision
        return other

    def at_size(self, image_size: tuple[int, int]) -> Self:
        """The same encoder, sharing its weights, for images of another size (H, W).

        Raises:
            InputError: patches of the network don't fit into it.
        """
        other = copy(self)
        other.windows = WindowedNetwork(self.network, image_size, self.tiled).to(self.device).eval()
        other.windows.patch_readers = self.windows.patch_readers
        return other

    def place(self, array: Tensor) -> Tensor:
        """A tensor on this encoder's device."""
        return array.to(self.device)

    def read_patches(self, name: str, reader: nn.Module) -> None:
        """Has `encode` also tell what a module makes of every patch, see `WindowedNetwork.patch_readers`."""
        self.windows.patch_readers[name] = reader.to(self.device).eval()

    def normalise(self, images: NDArray[np.uint8]) -> Tensor:
        """Images (B, H, W, 3) uint8 to what the backbone was trained on, (B, 3, H, W) on the device."""
        return self.windows.normalise(torch.from_numpy(images).to(self.device))

    @torch.inference_mode()
    def encode(
        self, images: NDArray[np.uint8], prompts: bool | None = None, categories: Sequence[str] | None = None
    ) -> Features:
        """What the network makes of a batch.

        Args:
            images: (B, H, W, 3) uint8 RGB at ``image_size``.
            prompts: Whether adapters and prompts are run; by default where they are trained.
            categories: The class of each image, whose prompts are used; by default that of the settings.
        """
        class_text = None
        if self.trained if prompts is None else prompts:
            class_text = self.class_text(categories or [self.category or ""] * len(images))
        with autocast(self.device, self.precision):
            features: Features = self.windows(torch.from_numpy(images).to(self.device), class_text)
        return features

    def synchronise(self) -> None:
        """Waits until the device has done what it was told, so that a clock read afterwards is true."""
        synchronise(self.device)

    def class_text(self, categories: Sequence[str]) -> Tensor:
        """Text features (B, S, E) of the prompts of each category, encoded once for all images."""
        index = self.network.class_index(categories).to(self.device)
        text_BSE: Tensor = self.network.prompts(self.network.backbone)[index]
        return text_BSE


def _check_category(category: str | None, network: SowaNetwork) -> str | None:
    known = network.config.prompt.class_names
    if category is not None and category not in known:
        raise InputError(f"category {category!r} is unknown to the prompts, allowed are {', '.join(known)}")
    return category
