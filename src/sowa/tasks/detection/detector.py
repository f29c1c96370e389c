"""The public class of detection: images in, boxes with names out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.config import Settings, from_dict, to_dict
from sowa.core.files import read_safetensors, write_safetensors
from sowa.core.headers import DETECT_FORMAT, TaskHeader, read_header
from sowa.data.batches import Batch, read_batches
from sowa.data.images import read_image
from sowa.data.sources import ImageSource, image_sources
from sowa.detector.render import with_boxes
from sowa.errors import InputError
from sowa.model.checkpoint import identity
from sowa.model.words import check_names
from sowa.tasks.detection.config import DetectConfig
from sowa.tasks.detection.decode import Boxes, decode
from sowa.tasks.detection.network import BoxNetwork
from sowa.tasks.encoding import LevelEncoder

LEAST = 0.01  # scores below it are never kept


@dataclass(frozen=True, eq=False)
class Detections:
    """What is in one image, the likeliest first. The arrays are what ``supervision.Detections`` takes.

    Attributes:
        image_path: Its name.
        xyxy: (n, 4) float32: x1, y1, x2, y2 in pixels of the image as it is on disk.
        confidence: (n,) float32 in 0..1.
        class_id: (n,) places in ``names``.
        names: Of the classes.
        size: The image's (H, W) in pixels.
        source: Where its pixels are: a path, or pixels (H, W, 3) uint8.
    """

    image_path: str
    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    names: tuple[str, ...]
    size: tuple[int, int]  # (H', W') of the image
    # Where the image can be had again: thousands of results don't hold thousands of images in memory.
    source: Path | NDArray[np.uint8] = field(repr=False)

    def __len__(self) -> int:
        return len(self.xyxy)

    @property
    def labels(self) -> list[str]:
        """The name of each box."""
        return [self.names[index] for index in self.class_id]

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image (H', W', 3) uint8, read again from disk where it came from there."""
        return read_image(self.source) if isinstance(self.source, Path) else self.source

    def plot(self) -> NDArray[np.uint8]:
        """The image (H', W', 3) uint8 RGB with what was found on it: a colour for each name."""
        return with_boxes(self.image, self, self.labels, self.class_id.tolist())

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        rows = zip(self.labels, self.confidence.tolist(), self.xyxy.tolist(), strict=True)
        return {
            "image_path": self.image_path,
            "boxes": [
                {"label": label, "score": round(score, 4), "xyxy": [round(value, 1) for value in box]}
                for label, score, box in rows
            ],
        }


class BoxDetector:
    """Finds things by name on a frozen backbone.

    Args:
        names: The classes that it's going to be trained on.
        config: Of the network.
        encoder: That reads images.
        seed: What is going to be trained starts from it.

    Attributes:
        threshold_: The score from which a box of these classes counts, chosen on held-out images in training.
        query_threshold_: The same for queries.
        skipped_: What the last call couldn't read, and why.
    """

    def __init__(self, names: Sequence[str], config: DetectConfig, encoder: LevelEncoder, seed: int = 0) -> None:
        self.names, self.encoder = tuple(names), encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = BoxNetwork(names, config, encoder.backbone).to(encoder.device).eval()
        self.threshold_ = self.query_threshold_ = 0.3
        self.train_: dict[str, Any] = {}
        self.metrics_: dict[str, float | None] = {}
        self.skipped_: list[tuple[str, str]] = []

    @torch.inference_mode()
    def find(
        self,
        tokens: Sequence[Tensor],
        reference: Sequence[Tensor] | None,
        text_CE: Tensor,
        least: float = LEAST,
    ) -> list[Boxes]:
        """The boxes of encoded images, in patches.

        Args:
            tokens: L times (B, P, D).
            reference: Those of the references, likewise.
            text_CE: What to look for, unit vectors (C, E).
            least: Boxes below this score are left out, 0..1.
        """
        device, grid = self.encoder.device, self.encoder.grid
        levels = [level.float().to(device) for level in tokens]
        beside = None if reference is None else [level.float().to(device) for level in reference]
        found = self.network(levels, grid, self.encoder.backbone, beside)
        logits = self.network.classify(found.embedding, text_CE)
        extent = (float(grid[1]), float(grid[0]))
        return [
            decode(found.boxes[place], found.objectness[place], logits[place], extent, least)
            for place in range(len(logits))
        ]

    @torch.inference_mode()
    def read(self, queries: Sequence[str] | None = None) -> Tensor:
        """Unit vectors (C, E) of the detector's own classes, or of ``queries``."""
        return self.network.read(self.encoder.backbone, queries)

    def predict(
        self,
        source: Any,
        queries: Sequence[str] | None = None,
        reference: Any = None,
        least: float | None = None,
        batch_size: int = 8,
    ) -> Iterator[Detections]:
        """The boxes of every image of a source, one image at a time. Broken images are skipped.

        Args:
            source: As in ``Sowa.predict``.
            queries: What to look for, in any words; by default the detector's own classes.
            reference: An image of the part without anything to find, or one for each image, where the detector was
                trained with them.
            least: The score from which a box counts; by default the detector's own threshold for its classes or for
                queries.
            batch_size: So many images are encoded at once.

        Raises:
            InputError: a query is empty or there twice, or references are missing or not wanted.
        """
        names = self.names if queries is None else check_names(queries, "queries")
        wanted = image_sources(source)
        references = self._references(reference, len(wanted))
        if least is None:
            least = self.threshold_ if queries is None else self.query_threshold_
        text, self.skipped_ = self.read(names if queries is not None else None), []
        alike = self._encode(references) if len(references) == 1 else None  # encoded once for all images
        places = {id(image): place for place, image in enumerate(wanted)}
        for batch in read_batches(wanted, self.encoder.image_size, batch_size, self.skipped_):
            beside = alike
            if len(references) > 1:
                beside = self._encode([references[places[id(image)]] for image in batch.sources])
            tokens, _ = self.encoder(batch.images)
            yield from self._placed(batch, self.find(tokens, beside, text, least), names)

    def _placed(self, batch: Batch, found: Sequence[Boxes], names: tuple[str, ...]) -> Iterator[Detections]:
        for image, size, boxes in zip(batch.sources, batch.sizes, found, strict=True):
            yield self._in_pixels(image.name, size, boxes, names, image.origin)

    def placed(
        self, path: str, image: NDArray[np.uint8], boxes: Boxes, names: tuple[str, ...], least: float
    ) -> Detections:
        """What was found in an image, as `predict` gives it.

        Args:
            path: Its name.
            image: (H', W', 3) uint8.
            boxes: In patches.
            names: Of the classes.
            least: The score from which a box counts.
        """
        chosen = boxes.scores >= least
        kept = Boxes(boxes.xyxy[chosen], boxes.scores[chosen], boxes.labels[chosen])
        return self._in_pixels(path, (image.shape[0], image.shape[1]), kept, names, image)

    def _in_pixels(
        self, path: str, size: tuple[int, int], boxes: Boxes, names: tuple[str, ...], origin: Path | NDArray[np.uint8]
    ) -> Detections:
        rows, columns = self.encoder.grid
        per_patch = torch.tensor([size[1] / columns, size[0] / rows] * 2, device=boxes.xyxy.device)
        return Detections(
            path,
            (boxes.xyxy * per_patch).cpu().numpy().astype(np.float32),
            boxes.scores.cpu().numpy().astype(np.float32),
            boxes.labels.cpu().numpy(),
            names,
            size,
            origin,
        )

    def _encode(self, chosen: Sequence[ImageSource]) -> tuple[Tensor, ...]:
        skipped: list[tuple[str, str]] = []
        batches = list(read_batches(chosen, self.encoder.image_size, len(chosen), skipped))
        if skipped:
            raise InputError(f"reference {skipped[0][0]} can't be used: {skipped[0][1]}")
        return self.encoder(batches[0].images)[0]

    def _references(self, reference: Any, count: int) -> list[ImageSource]:
        wants = self.network.config.reference
        if wants != (reference is not None):
            raise InputError(
                "the detector compares images with references; give --reference, one image or one for each"
                if wants
                else "the detector was trained without references; leave --reference out, or train with it"
            )
        found = image_sources(reference) if wants else []
        if wants and len(found) not in (1, count):
            raise InputError(f"{len(found)} references for {count} images; give one for all, or one for each")
        return found

    def save(self, path: str | Path) -> Path:
        """Writes what was trained.

        Raises:
            InputError: the file can't be written.
        """
        header = TaskHeader(
            identity(self.encoder.backbone),
            self.encoder.image_size,
            self.names,
            to_dict(self.network.config),
            {**self.train_, "threshold": self.threshold_, "query_threshold": self.query_threshold_},
            self.metrics_,
        )
        write_safetensors(Path(path), self.tensors(), DETECT_FORMAT, to_dict(header))
        return Path(path)

    def tensors(self) -> dict[str, Tensor]:
        """What is trained, by name, on the CPU."""
        return {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}

    @classmethod
    def load(cls, path: str | Path, *, backbone: str | None = None, settings: Settings | None = None) -> Self:
        """A detector that `save` wrote.

        Args:
            path: The file.
            backbone: Stands in for the one that the file names.
            settings: Device and precision.

        Raises:
            InputError: a file that is broken or not of this kind, or the backbone has other weights here.
        """
        tensors, metadata = read_safetensors(Path(path), DETECT_FORMAT)
        header = read_header(TaskHeader, metadata, Path(path))
        encoder = LevelEncoder.restore(header, Path(path), backbone, settings)
        detector = cls(header.names, from_dict(DetectConfig, header.config), encoder)
        detector.fill(tensors, str(path))
        detector.threshold_ = float(header.train.get("threshold", detector.threshold_))
        detector.query_threshold_ = float(header.train.get("query_threshold", detector.threshold_))
        detector.train_, detector.metrics_ = header.train, header.metrics
        return detector

    def fill(self, tensors: dict[str, Tensor], origin: str) -> None:
        """Takes trained values over.

        Args:
            tensors: By name.
            origin: What messages call where they are from.

        Raises:
            InputError: they are of another network.
        """
        own = self.network.state_dict()
        if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
            raise InputError(f"{origin} holds other weights than its settings say; make it anew")
        self.network.load_state_dict(tensors)
