"""A network at work: on a device, at a precision, at the size at which it sees images. It knows no references.

Shapes: B images, H x W pixels, S = 2 states, E joint width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.types import Observation
from sowa.encoders.devices import Precision, autocast, choose_device, choose_precision
from sowa.encoders.observer import Observer
from sowa.errors import InputError
from sowa.extensions.names.namer import Expected
from sowa.model.checkpoint import load_namer
from sowa.model.sowa import SowaNetwork
from sowa.model.words import check_names


class Encoder:
    """Images in, patches and prompts' maps out: what references, glances and a detector all begin with.

    ``trained`` says whether the adapters and prompts know of defects; otherwise only patches are read. The other
    arguments are those of ``Sowa.from_pretrained``. Raises InputError for an unknown device, precision or category, and
    for a size that doesn't fit the network.
    """

    def __init__(
        self,
        network: SowaNetwork,
        *,
        trained: bool,
        device: str = "auto",
        precision: Precision = "auto",
        image_size: tuple[int, int] | None = None,
        tiled: bool = False,
        category: str | None = None,
        expected: Sequence[str] = (),
    ) -> None:
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.trained = trained
        self.category = _check_category(category, network)
        self.expected = check_names(expected, "expected defects") if expected else ()
        self.observer = Observer(network.to(self.device), image_size, tiled).eval()
        if self.expected:
            namer = load_namer(network.backbone).to(self.device)
            self.observer.expected = Expected(self.expected, namer, network.backbone).eval()

    @property
    def network(self) -> SowaNetwork:
        """Backbone, adapters and prompts."""
        return self.observer.network

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels at which images are seen."""
        return self.observer.image_size

    @property
    def tiled(self) -> bool:
        """Whether images are seen through overlapping windows."""
        return self.observer.tiled

    def normalise(self, images: NDArray[np.uint8]) -> Tensor:
        """Images (B, H, W, 3) uint8 to what the backbone was trained on, (B, 3, H, W) on the device."""
        return self.observer.normalise(torch.from_numpy(images).to(self.device))

    @torch.inference_mode()
    def observe(
        self, images: NDArray[np.uint8], prompts: bool | None = None, categories: Sequence[str] | None = None
    ) -> Observation:
        """What the network makes of images (B, H, W, 3) uint8 at ``image_size``.

        ``prompts`` says whether adapters and prompts are run; by default where they are trained. ``categories``, one
        per image, are the classes whose prompts are used, by default ``category``.
        """
        class_text = None
        if self.trained if prompts is None else prompts:
            class_text = self.class_text(categories or [self.category or ""] * len(images))
        with autocast(self.device, self.precision):
            observation: Observation = self.observer(torch.from_numpy(images).to(self.device), class_text)
        return observation

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
