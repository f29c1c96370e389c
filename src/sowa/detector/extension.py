"""Where extensions plug into a detector, and how a detector's file finds them again.

An extension is found by its name among the installed entry points of the group `GROUP`, so the detector imports none,
and other packages may bring their own. What one can do is said by the protocols that it fulfils:

- `DistanceWeight`: reads every patch while images are encoded, and says what distances are multiplied by;
- `ImageJudge`: judges images itself, in place of encoding them and asking the memory bank;
- `BankSearch`: finds the nearest normal patch in place of the exact search (``Settings.search``);
- `Annotator`: says more of images that were judged.

Shapes: B images, P patches of an image, L levels, E joint width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sowa.core.arrays import Array
from sowa.core.memory import MemoryBank
from sowa.core.progress import Report
from sowa.core.search import Index
from sowa.core.types import Features, Judgement
from sowa.data.sources import ImageSource
from sowa.errors import InputError

GROUP = "sowa.extensions"


@runtime_checkable
class Extension(Protocol):
    """What is given to a detector and stored in its file: settings that JSON can hold, and tensors by name."""

    name: ClassVar[str]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The extension that `settings` describes. Raises InputError where they aren't understood."""
        ...

    def attach(self, encoder: Any) -> None:
        """Prepares for the encoder that it is used with, once. Raises InputError where it can't be used with that."""
        ...

    def settings(self) -> dict[str, Any]:
        """What a file says of it."""
        ...

    def tensors(self) -> dict[str, Array]:
        """What a file holds of it; empty where the settings say everything."""
        ...

    def restore(self, settings: Mapping[str, Any], tensors: Mapping[str, Array], bank: MemoryBank) -> None:
        """Takes over what a file holds, once attached. Raises InputError where it doesn't fit."""
        ...


@runtime_checkable
class DistanceWeight(Extension, Protocol):
    """Reads each patch of what is encoded (`Features.patch_values` by its name), and weighs its distance.

    Attributes:
        replaces_prompts: Whether the prompts' map would contradict it, so that it is left out.
    """

    replaces_prompts: bool

    def factors(self, values_BP: Array) -> Array:
        """What distances are multiplied by, (B, P) from what was read of each patch, (B, P)."""
        ...


@runtime_checkable
class ImageJudge(Extension, Protocol):
    """Judges images itself, whichever part of them it looks at."""

    @property
    def is_fitted(self) -> bool:
        """Whether it has learned from references; the detector encodes and searches until then."""
        ...

    def fit(self, references: Sequence[ImageSource], bank: MemoryBank, augment: Sequence[str], report: Report) -> None:
        """Learns from the references of a bank, in its order; ``augment`` names the kinds of their views in it."""
        ...

    def judge(self, images: NDArray[np.uint8], leave_out: int | None = None) -> Judgement:
        """The raw verdict on images (B, H, W, 3) uint8; ``leave_out`` numbers a reference that doesn't count."""
        ...


@runtime_checkable
class BankSearch(Protocol):
    """Finds the nearest normal patch by an index of its own. It isn't stored: an index is made again from the bank."""

    def index(self, features_LKPE: Array) -> Index:
        """Of a memory bank's unit vectors."""
        ...


class Annotation(Protocol):
    """What an annotator says of one image."""

    def to_json(self) -> Any:
        """Ready for JSON."""
        ...

    def summary(self) -> str:
        """A few words for a report."""
        ...


class Annotator(Protocol):
    """Says more of images that were judged. Neither stored nor kept when the detector is fitted anew."""

    name: ClassVar[str]

    def annotate(self, features: Features, judgement: Judgement) -> Sequence[Annotation]:
        """One for each image of a batch."""
        ...


def find(name: str) -> Any:
    """The installed extension of that name, a class.

    Raises:
        InputError: there is none.
    """
    installed = entry_points(group=GROUP)
    if name not in installed.names:
        raise InputError(
            f"extension {name!r} isn't installed, there is: {', '.join(sorted(installed.names))}; install the package "
            "that brings it"
        )
    return installed[name].load()


def find_search(name: str) -> BankSearch | None:
    """What searches memory banks by that name, None for the exact search.

    Raises:
        InputError: there is none, or a package that it needs is missing.
    """
    if name == "exact":
        return None
    kind = find(name)
    if not issubclass(kind, BankSearch):
        raise InputError(f"search is {name!r}, which searches no memory bank; allowed are exact and faiss")
    search: BankSearch = kind()
    return search


def check_together(extensions: Sequence[Extension]) -> None:
    """Raises InputError for extensions of which one leaves another without effect, or two of one name."""
    names = [extension.name for extension in extensions]
    if len(set(names)) < len(names):
        raise InputError(f"extensions are {', '.join(names)}; each may be given once")
    judges = [extension.name for extension in extensions if isinstance(extension, ImageJudge)]
    if judges and len(extensions) > 1:
        others = [name for name in names if name != judges[0]]
        raise InputError(f"{judges[0]} judge images by themselves, so leave {' and '.join(others)} out, or {judges[0]}")
