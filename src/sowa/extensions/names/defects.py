"""Which of named defects an image shows, and where: prompts steer the map (top-down attention).

Where something is wrong is said by the anomaly map, what it is by the namer (`sowa.extensions.names.namer`), from words
alone or with a handful of labelled examples.

Shapes: B images, P patches on a grid (h, w), L levels, E joint width, T names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.arrays import to_numpy
from sowa.core.types import Features, Judgement
from sowa.data.batches import none_readable, read_batches
from sowa.data.sources import image_sources
from sowa.detector.calibrated import CalibratedDetector
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.extensions.names.namer import Namer
from sowa.extensions.names.scores import NameClassifier, example, region
from sowa.extensions.names.weights import load_namer
from sowa.model.words import check_names

SHOWN = 2  # names in a report


@dataclass(frozen=True, eq=False)
class NamedDefect:
    """How far an image's defect, if it has one, is of one name.

    Attributes:
        name: That was asked for.
        probability: Its share among the names, 0..1.
        score: The image's by ``defect_map``, 0 and more.
        defect_map: The anomaly map as far as it's of this name, on the grid of patches, (h, w) float32.
    """

    name: str
    probability: float
    score: float
    defect_map: NDArray[np.float32] = field(repr=False)


class NamedDefects(tuple[NamedDefect, ...]):
    """All names of an image, the likeliest first: a `sowa.detector.extension.Annotation`."""

    __slots__ = ()

    def to_json(self) -> dict[str, float]:
        """Probability by name."""
        return {each.name: round(each.probability, 4) for each in self}

    def summary(self) -> str:
        """The likeliest in words."""
        return ", ".join(f"{each.name} {100 * each.probability:.0f} %" for each in self[:SHOWN])


class DefectNames:
    """A `sowa.detector.extension.Annotator`: says which of some names a defect is likely of, without training.

    Args:
        detector: Which it annotates; what the examples show depends on its memory bank.
        names: In any words.
        examples: Images of some of these defects, as `sowa.Sowa.fit` takes them; they tell more than the words do.
        batch_size: So many of them are encoded at once.

    Attributes:
        skipped_: Names of the examples that couldn't be read, and why.

    Raises:
        InputError: a name is empty or twice, examples are of no name, none of them can be read, or the backbone isn't
            the one that names are told through.
    """

    name: ClassVar[str] = "defects"

    def __init__(
        self,
        detector: CalibratedDetector,
        names: Sequence[str],
        examples: Mapping[str, Any] | None = None,
        batch_size: int = 8,
    ) -> None:
        if detector.image_judge:
            raise InputError(f"defects can't be named where {detector.image_judge.name} judge; fit without them")
        encoder = detector.encoder
        assert isinstance(encoder, TorchEncoder)
        words = check_names(names, "defects")
        shown = {name.strip(): source for name, source in (examples or {}).items()}
        if strange := sorted(shown.keys() - set(words)):
            raise InputError(f"examples are of {strange[0]!r}, which is none of {', '.join(words)}; name it too")
        namer = load_namer(encoder.network.backbone).to(encoder.device)
        self.skipped_: list[tuple[str, str]] = []
        looks = {name: self._look(detector, namer, source, batch_size) for name, source in shown.items()}
        self.classifier = NameClassifier(words, namer, encoder.network.backbone, looks)

    def annotate(self, features: Features, judgement: Judgement) -> list[NamedDefects]:
        """Of a batch that was judged."""
        found = self.classifier(features.patches, judgement.patch_scores, features.grid)
        parts = [to_numpy(part).tolist() for part in (found.probabilities, found.scores)]
        named = []
        for probabilities, scores, maps in zip(*parts, to_numpy(found.maps), strict=True):
            each = [
                NamedDefect(*values) for values in zip(self.classifier.names, probabilities, scores, maps, strict=True)
            ]
            named.append(NamedDefects(sorted(each, key=lambda one: -one.probability)))
        return named

    @torch.inference_mode()
    def _look(self, detector: CalibratedDetector, namer: Namer, source: Any, batch_size: int) -> Tensor:
        """What the defects of some images look like, (E,)."""
        before, wanted, parts = len(self.skipped_), image_sources(source), list[Tensor]()
        for batch in read_batches(wanted, detector.image_size, batch_size, self.skipped_):
            features = detector.encoder.encode(batch.images)
            weights_BP = region(detector.judge(features).patch_scores)
            parts.append(example(namer, features.patches, weights_BP) * len(batch.sources))
        if not parts:
            raise none_readable(len(wanted), self.skipped_[before:], "examples")
        return F.normalize(torch.stack(parts).sum(dim=0), dim=-1)
