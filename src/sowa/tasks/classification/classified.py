"""What a classifier says of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from sowa.tasks.classification.open_set import NONE

TOP = 5


@dataclass(frozen=True)
class Classified:
    """What one image shows.

    Attributes:
        image_path: Its name.
        name: Of the class, or `NONE`.
        probability: Of the likeliest class, 0..1.
        top: The five likeliest with theirs.
    """

    image_path: str
    name: str
    probability: float
    top: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, path: str, logits_C: Tensor, names: Sequence[str], known: bool = True) -> Self:
        """The likeliest classes of an image.

        Args:
            path: The image's name.
            logits_C: Of each class, (C,).
            names: Of the C classes.
            known: Whether it is of any of them; else it is `NONE`.

        Example:
            >>> import torch
            >>> Classified.of("part.png", torch.tensor([0.0, 2.0]), ("good", "dent")).name
            'dent'
        """
        best = logits_C.softmax(dim=0).topk(min(TOP, len(names)))
        top = tuple((names[int(place)], float(value)) for value, place in zip(*best, strict=True))
        return cls(path, top[0][0] if known else NONE, top[0][1], top)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "image_path": self.image_path,
            "class": self.name,
            "probability": round(self.probability, 6),
            "top": [{"class": name, "probability": round(value, 6)} for name, value in self.top],
        }
