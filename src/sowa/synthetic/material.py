"""What a surface function is given (`Scene`) and what it returns (`Material`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sowa.synthetic.fields import Field, Mask, Plane, Shape, mix, pixels_per_unit, plane


@dataclass(frozen=True)
class Scene:
    """One image to be made.

    A surface must take the same number of draws from ``style`` whatever ``piece`` says.

    Attributes:
        shape: (H, W) in pixels.
        style: Draws what all pieces of a product line share.
        piece: Draws what differs from piece to piece.
    """

    shape: Shape
    style: Generator
    piece: Generator

    @property
    def unit(self) -> float:
        """Image pixels per reference pixel."""
        return pixels_per_unit(self.shape)

    def plane(self, *, shift: float = 6.0, turn: float = 0.06, angle: float = 0.0) -> Plane:
        """Coordinates of a part that somebody laid down.

        Args:
            shift: Give or take so many pixels,
            turn: and so many radians.
            angle: At which it lies, radians.
        """
        x, y = self.piece.uniform(-shift, shift, 2)
        return plane(self.shape, shift=(x, y), angle=angle + self.piece.uniform(-turn, turn))

    def texture_plane(self, angle: float) -> Plane:
        """Coordinates of an endless texture: another stretch of it every time, at about the same angle."""
        return self.plane(shift=500.0, turn=0.02, angle=angle)


@dataclass(frozen=True)
class Material:
    """A scene before light falls on it; every array is (H, W) unless said otherwise."""

    albedo: Field  # (H, W, 3) linear reflectance 0..1
    height: Field  # towards the camera, reference pixels
    gloss: Field  # strength of the mirror-like reflection, 0..1
    region: Mask  # where a defect may lie
    roughness: float = 0.25  # width of the mirror lobe, in surface slopes
    metal: float = 0.0  # 1: reflections take the surface's colour
    base: Material | None = None  # what shows where a part is missing or broken off
    parts: NDArray[np.int32] | None = None  # number of the removable part at each pixel, 0 none
    casts_shadow: bool = False

    @property
    def shape(self) -> Shape:
        """(H, W)."""
        return self.region.shape[0], self.region.shape[1]

    @property
    def unit(self) -> float:
        """Image pixels per reference pixel."""
        return pixels_per_unit(self.shape)

    def blend(
        self,
        weight: Field,
        *,
        albedo: Field | None = None,
        height: Field | None = None,
        gloss: Field | None = None,
    ) -> Material:
        """Move the given properties towards new values.

        Args:
            weight: (H, W) in 0..1.
            albedo: (H, W, 3), or a colour (3,).
            height: (H, W).
            gloss: (H, W).
        """
        return replace(
            self,
            albedo=self.albedo if albedo is None else mix(self.albedo, albedo, weight),
            height=self.height if height is None else mix(self.height, height, weight),
            gloss=self.gloss if gloss is None else mix(self.gloss, gloss, weight),
        )

    def reveal(self, weight: Field) -> Material:
        """Show the base by `weight`: the material is gone there."""
        base = self.base
        if base is None:
            return self
        return self.blend(weight, albedo=base.albedo, height=base.height, gloss=base.gloss)
