"""What a detector asks of an encoder, whoever computes it: torch, or a graph in an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sowa.core.arrays import Array
from sowa.core.config import ModelConfig, Settings
from sowa.core.headers import Identity
from sowa.core.types import Features


class Encoder(Protocol):
    """Images in, patches and prompts' maps out. It knows no references."""

    @property
    def settings(self) -> Settings:
        """As they were given."""
        ...

    @property
    def precision(self) -> str:
        """ "fp32" or "bf16", as it was chosen."""
        ...

    @property
    def trained(self) -> bool:
        """Whether adapters and prompts know of defects; otherwise only patches are worth reading."""
        ...

    @property
    def config(self) -> ModelConfig:
        """The network's."""
        ...

    @property
    def identity(self) -> Identity:
        """Of the backbone."""
        ...

    @property
    def name(self) -> str:
        """The backbone's."""
        ...

    @property
    def levels(self) -> int:
        """How many levels are read, L."""
        ...

    @property
    def prompt_levels(self) -> int:
        """How many of them, the first ones, the prompts are asked of."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels at which images are seen."""
        ...

    @property
    def any_size(self) -> bool:
        """Whether images are seen as well at one size as at another, and nobody has said at which."""
        ...

    @property
    def balanced(self) -> bool:
        """Whether references tell what each level's distances count; otherwise they are summed as they are."""
        ...

    @property
    def patch_size(self) -> tuple[int, int]:
        """(h, w) of a patch in pixels."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) patches of an image."""
        ...

    @property
    def width(self) -> int:
        """Of a patch in the joint space, E."""
        ...

    def encode(
        self, images: NDArray[np.uint8], prompts: bool | None = None, categories: Sequence[str] | None = None
    ) -> Features:
        """What the network makes of a batch.

        Args:
            images: (B, H, W, 3) uint8 RGB at ``image_size``.
            prompts: Whether adapters and prompts are run; by default where they are trained.
            categories: The class of each image, whose prompts are used; by default that of the settings.
        """
        ...

    def at_precision(self, precision: Literal["fp32", "bf16"]) -> Self:
        """The same encoder, sharing its weights, at another precision."""
        ...

    def at_size(self, image_size: tuple[int, int]) -> Self:
        """The same encoder, sharing its weights, for images of another size (H, W).

        Raises:
            InputError: patches of the network don't fit into it.
        """
        ...

    def place(self, array: Array) -> Array:
        """An array where this encoder's own are: on its device, of its kind."""
        ...

    def synchronise(self) -> None:
        """Waits until the device has done what it was told, so that a clock read afterwards is true."""
        ...

    def tensors(self) -> dict[str, Array]:
        """What a detector's file must hold of the network beside the frozen backbone, by name."""
        ...
