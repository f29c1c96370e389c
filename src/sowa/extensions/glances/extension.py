"""What plugs into a detector: of large images an overview and a few tiles are encoded instead of all tiles.

Shapes: B images, H x W pixels, L levels, P patches of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.memory import MemoryBank
from sowa.core.progress import Report, silent
from sowa.core.scoring import judge_few_shot
from sowa.core.types import Features, Judgement
from sowa.data.images import resize_image
from sowa.data.sources import ImageSource
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.extensions.glances.game import LiveState, check_glances, play
from sowa.extensions.glances.policy import load_policy
from sowa.extensions.glances.references import FittedReferences
from sowa.extensions.glances.tiles import TileEncoder
from sowa.model.backbone import fingerprint


class Glances:
    """Judges images by an overview and the tiles that a policy chooses; the prompts have no say.

    The policy isn't let stop before all glances are used: scores of images of which more and fewer tiles are encoded
    don't compare well (``benchmarks/results/glances.md``, "learned, may stop").

    Attributes:
        name: the extension's key in a detector's file.
        glances: how many tiles of each image are encoded at most.
        policy: chooses them.
        references_: what images are compared with; None before ``fit`` or ``restore``.
        orders_: the tiles of each image of the last call, in the order of choosing.

    Args:
        glances: 1 and more; with as many as there are tiles, distances are those of full tiling.

    Raises:
        InputError: ``glances`` are below 1.
    """

    name: ClassVar[str] = "glances"

    def __init__(self, glances: int) -> None:
        self.glances = check_glances(glances)
        self.policy = load_policy()
        self.references_: FittedReferences | None = None
        self.orders_: list[tuple[int, ...]] = []
        self._encoder: TileEncoder | None = None

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Of what `settings` gave. Raises InputError where they aren't understood."""
        glances = settings.get("glances")
        if not isinstance(glances, int):
            raise InputError(f"settings of glances are {dict(settings)}, which this version doesn't know; fit it anew")
        return cls(glances)

    @property
    def is_fitted(self) -> bool:
        """Whether it has references."""
        return self.references_ is not None

    def attach(self, encoder: TorchEncoder) -> None:
        """Takes the encoder of the detector that it's used with, and forgets the references of another one.

        Raises:
            InputError: the detector isn't tiled.
        """
        self._encoder, self.references_ = TileEncoder(encoder), None

    def fit(
        self, references: Sequence[ImageSource], bank: MemoryBank, augment: Sequence[str], report: Report = silent
    ) -> None:
        """Encodes the references and measures what is usual among them.

        Args:
            references: those of the detector, in the order of its bank.
            bank: of all of their tiles.
            augment: kinds of their views in the bank.
            report: is told the progress.

        Raises:
            InputError: a reference can't be read, or there aren't as many as in the bank.
        """
        encoder = self._attached()
        images = [resize_image(image.read(), encoder.image_size) for image in references]
        self.references_ = FittedReferences.fit(encoder, images, bank, augment, report=report)

    @torch.inference_mode()
    def judge(self, images: NDArray[np.uint8], leave_out: int | None = None) -> Judgement:
        """Raw scores and maps of images.

        Args:
            images: (B, H, W, 3) uint8 of the detector's size.
            leave_out: number of a reference that they aren't compared with.

        Raises:
            InputError: the images are of another size.
            ValueError: it isn't fitted.
        """
        if self.references_ is None:
            raise ValueError("glances know no references yet; fit or restore them first")
        encoder, order = self.references_.encoder, self.policy.order(may_stop=False)
        states = [play(LiveState(self.references_, image, self.glances, leave_out), order) for image in images]
        self.orders_ = [tuple(state.order) for state in states]
        features = Features((), encoder.layout.grid, encoder.image_size)
        return judge_few_shot(features, torch.stack([state.distances for state in states], dim=1), encoder.config)

    def settings(self) -> dict[str, Any]:
        """Number of glances and SHA-256 of the policy's weights, for JSON."""
        return {"glances": self.glances, "weights_sha256": fingerprint(self.policy.state_dict())}

    def tensors(self) -> dict[str, Tensor]:
        """What was fitted, but the detector's bank, for a file; empty before ``fit``."""
        return self.references_.tensors() if self.references_ else {}

    def restore(self, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], bank: MemoryBank) -> None:
        """Takes what ``settings`` and ``tensors`` gave, beside the detector's bank; call ``attach`` first.

        Raises:
            InputError: they don't fit, or the policy had other weights.
        """
        glances = settings.get("glances")
        if not isinstance(glances, int) or settings.keys() != self.settings().keys():
            raise InputError(f"settings of glances are {dict(settings)}, which this version doesn't know; fit it anew")
        if settings["weights_sha256"] != self.settings()["weights_sha256"]:
            raise InputError("glances were fitted with other weights of their policy than this version's; fit it anew")
        check_glances(glances)
        self.references_ = FittedReferences.from_tensors(self._attached(), bank, tensors)
        self.glances = glances

    def _attached(self) -> TileEncoder:
        if self._encoder is None:
            raise ValueError("glances have no encoder; attach them to a detector first")
        return self._encoder
