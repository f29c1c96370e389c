"""How names look to the text tower: which are alike, and which words are closest to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sowa.core.config import WordsConfig
from sowa.model.pretrained import build_backbone
from sowa.model.words import Words

CLOSEST = 5


@dataclass(frozen=True)
class Alike:
    """How alike names are: cosines.

    Attributes:
        names: C of them.
        words: W of them.
        among: Of names with each other, (C, C).
        with_words: Of names with words, (C, W).
    """

    names: tuple[str, ...]
    words: tuple[str, ...]
    among: NDArray[np.float32]
    with_words: NDArray[np.float32]

    def nearest_name(self, name: str) -> str:
        """The other name that is most alike, with its cosine; none where there is no other."""
        row = self.among[self.names.index(name)].copy()
        row[self.names.index(name)] = -np.inf
        best = int(row.argmax())
        return "" if len(self.names) < 2 else f"{self.names[best]} ({row[best]:.2f})"

    def closest(self, name: str) -> list[str]:
        """The words closest to a name, the closest first."""
        row = self.with_words[self.names.index(name)]
        return [self.words[place] for place in (-row).argsort(kind="stable") if self.words[place] != name][:CLOSEST]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "names": self.names,
            "words": self.words,
            "among": np.round(self.among, 4).tolist(),
            "with_words": np.round(self.with_words, 4).tolist(),
            "nearest": {name: self.nearest_name(name) for name in self.names},
        }


@torch.inference_mode()
def compare(names: Sequence[str], words: Sequence[str], templates: Sequence[str], backbone: str) -> Alike:
    """Reads names and words with a backbone's text tower.

    Args:
        names: Of the classes.
        words: To compare them with.
        templates: Sentences for names; ``{}`` in one is the name.
        backbone: As in `sowa.model.pretrained.build_backbone`.

    Raises:
        InputError: a template or backbone that isn't.
    """
    tower = build_backbone(backbone)
    reader = Words(names, WordsConfig(tuple(templates), length=0), tower)
    name_CE, word_WE = reader.read(names, tower), reader.read(words, tower)
    return Alike(tuple(names), tuple(words), (name_CE @ name_CE.T).numpy(), (name_CE @ word_WE.T).numpy())


def draw_heat_map(found: Alike) -> bytes:
    """The cosines of names with each other, and with the words that are closest to any of them, as a PNG."""
    from matplotlib.figure import Figure  # takes a second

    closest = {word for name in found.names for word in found.closest(name)}
    near = [word for word in found.words if word in closest and word not in found.names]
    columns = [found.words.index(word) for word in near]
    parts = [(list(found.names), found.among), (near, found.with_words[:, columns])]
    sides = [len(labels) for labels, _ in parts]
    count = len(found.names)
    figure = Figure(figsize=(2.6 + 0.36 * sum(sides), 1.8 + 0.36 * count), layout="constrained", dpi=130)
    axes = figure.subplots(1, 2, width_ratios=sides, sharey=True)
    for axis, (labels, values), title in zip(axes, parts, ("with each other", "with other words"), strict=True):
        image = axis.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
        axis.set_yticks(range(count), found.names)
        axis.set_title(title)
    figure.colorbar(image, ax=axes, label="cosine")
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
