"""Looking at an image tile by tile, in a learned order or in a plain one.

Shapes: T tiles, P patches of the whole image, L levels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sowa.errors import InputError
from sowa.extensions.glances.eyes import Image
from sowa.extensions.glances.known import Known
from sowa.extensions.glances.looking import Looking
from sowa.extensions.glances.policy import GlancePolicy
from sowa.extensions.glances.sight import EARLY, EITHER, PEAK, SALIENCY, Live

Order = Callable[[Looking], int | None]
"""What says which tile is next, None to stop."""


@dataclass(frozen=True)
class Glances:
    """The tiles looked at, in order, and the distances of all patches (L, P) as they were known at the end."""

    order: tuple[int, ...]
    distances: Tensor


@torch.inference_mode()
def look(
    known: Known, image: Image, glances: int, policy: GlancePolicy | Order, leave_out: int | None = None
) -> Glances:
    """Looks at up to ``glances`` tiles of an image (H, W, 3) uint8 of the detector's size.

    Patches in no tile that was looked at have the distance of the overview there, brought to the scale of tiles; with
    all tiles the distances are those of full tiling. A policy may stop earlier, also before the first glance.
    ``leave_out`` names a reference, by its place in the bank, that
    the image isn't compared with. Raises InputError for another size or no glance.
    """
    if glances < 1:
        raise InputError(f"glances are {glances}, allowed are 1 and more; {len(known.eyes.tiles)} are all tiles")
    if image.shape != (*known.eyes.image_size, 3) or image.dtype != np.uint8:
        raise InputError(
            f"image of shape {image.shape} and type {image.dtype}, needed is {(*known.eyes.image_size, 3)} uint8; "
            "resize it first"
        )
    order = learned(policy) if isinstance(policy, GlancePolicy) else policy
    sight = Live(known, image, leave_out)
    return Glances(tuple(play(Looking(sight, glances), order).order), sight.distances)


def play(looking: Looking, order: Order) -> Looking:
    """Looks at tiles until none is left or the order says to stop."""
    while looking.open.any() and (tile := order(looking)) is not None:
        looking.look(tile)
    return looking


def learned(policy: GlancePolicy, may_stop: bool = True) -> Order:
    """What a policy finds best."""
    return lambda looking: policy.best(looking.view(), may_stop)


def at_random(seed: int) -> Order:
    """Tiles as they are drawn. Each image draws anew, so give each its own seed."""
    rng = np.random.default_rng(seed)
    return lambda looking: int(rng.choice(np.flatnonzero(looking.open)))


def raster(looking: Looking) -> int:
    """Row by row."""
    return int(looking.open.argmax())


def by_saliency(looking: Looking) -> int:
    """What stands out most of the image first."""
    return _highest(looking, SALIENCY)


def by_distance(looking: Looking) -> int:
    """What lies farthest from the references in the overview first."""
    return _highest(looking, PEAK)


def by_early(looking: Looking) -> int:
    """What lies farthest from the references to the first layers first."""
    return _highest(looking, EARLY)


def by_either(looking: Looking) -> int:
    """What lies farthest in the overview or to the first layers, whichever is more unusual, first."""
    return _highest(looking, EITHER)


def _highest(looking: Looking, column: int) -> int:
    return int(np.where(looking.open, looking.sight.coarse[:, column], -np.inf).argmax())
