"""How good boxes are: COCO's mean average precision, by size, and the score from which a box should count.

Average precision is torchmetrics' with pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_iou

from sowa.core.progress import Report, silent
from sowa.tasks.detection.decode import Boxes
from sowa.tasks.detection.detector import BoxDetector
from sowa.tasks.detection.examples import Examples
from sowa.tasks.detection.queries import truth

ENOUGH = 0.5  # of the union of a true and a found box that they share, for the found one to count
# Boxes that an image may return, in the mean, to one name of what isn't in it: for a query of one's own.
ALARMS = 0.02


@dataclass(frozen=True)
class Match:
    """What was found in one image, against what is there.

    Attributes:
        scores: (n,) of what was found.
        hits: (n,), whether that is there.
        wanted: How many things there are.
    """

    scores: Tensor
    hits: Tensor
    wanted: int

    def errors(self, threshold: float) -> tuple[int, int]:
        """How many things are missed, and how many boxes are false, from a score on."""
        counts = self.scores >= threshold
        return self.wanted - int((self.hits & counts).sum()), int((~self.hits & counts).sum())


@dataclass(frozen=True)
class BoxMetrics:
    """How good boxes are.

    Attributes:
        values: By name, in 0..1; None where there is nothing to measure.
        per_class: The mAP50 of each class that is there.
        threshold: The score with the largest F1.
        f1: That.
        false_alarms: How many boxes an image has above it that aren't there.
        matches: Of each image.
    """

    values: dict[str, float | None]
    per_class: dict[str, float]
    threshold: float
    f1: float
    false_alarms: float
    matches: tuple[Match, ...]

    def to_dict(self) -> dict[str, float | None]:
        """All numbers that aren't of a class."""
        return {**self.values, "threshold": self.threshold, "F1": self.f1, "false_alarms": self.false_alarms}


def find_all(
    detector: BoxDetector, examples: Examples, names: Sequence[str] | None = None, report: Report = silent
) -> list[Boxes]:
    """What a detector finds in each image, in patches.

    Args:
        detector: That looks.
        examples: The images, encoded.
        names: As the queries of `BoxDetector.predict`.
        report: Told of the progress.
    """
    text, view, found = detector.read(names), examples.views[0], []
    for place in range(len(examples.samples)):
        tokens = [level[place : place + 1] for level in view.tokens]
        reference = None if view.reference is None else [level[place : place + 1] for level in view.reference]
        found += detector.find(tokens, reference, text)
        report("detect", place + 1, len(examples.samples))
    return found


def measure(examples: Examples, found: Sequence[Boxes], names: Sequence[str], phrases: bool = False) -> BoxMetrics:
    """How good the boxes are that were found.

    Args:
        examples: The images.
        found: Of each, in patches.
        names: What was looked for.
        phrases: Whether a box counts for every name that fits it.
    """
    plain = MeanAveragePrecision(backend="pycocotools", class_metrics=True)
    half = MeanAveragePrecision(backend="pycocotools", class_metrics=True, iou_thresholds=[ENOUGH])
    for metric in (plain, half):
        metric.warn_on_many_detections = False  # COCO's hundred are of one class, this counts all
    matches = []
    for place, (sample, boxes) in enumerate(zip(examples.samples, found, strict=True)):
        rows, columns = examples.grid
        per_patch = torch.tensor([sample.size[1] / columns, sample.size[0] / rows] * 2)
        fitting = truth(sample.labels, names, phrases)
        which, labels = fitting.nonzero(as_tuple=True)
        true_boxes = examples.views[0].boxes[place][which] * per_patch
        found_boxes = boxes.xyxy.cpu() * per_patch
        scores, kinds = boxes.scores.cpu(), boxes.labels.cpu()
        for metric in (plain, half):
            metric.update(
                [{"boxes": found_boxes, "scores": scores, "labels": kinds}], [{"boxes": true_boxes, "labels": labels}]
            )
        matches.append(Match(scores, _hits(found_boxes, scores, kinds, true_boxes, labels), len(labels)))
    all_sizes, at_half = plain.compute(), half.compute()
    values = {"mAP50": _number(at_half["map"]), "mAP50-95": _number(all_sizes["map"])}
    for size in ("small", "medium", "large"):
        values[f"mAP50 {size}"] = _number(at_half[f"map_{size}"])
    classes, each = at_half["classes"].reshape(-1).tolist(), at_half["map_per_class"].reshape(-1)
    # COCO writes -1 for a class that isn't in any image.
    per_class = {names[int(kind)]: float(value) for kind, value in zip(classes, each, strict=True) if value >= 0}
    threshold, f1, alarms = _best(matches)
    return BoxMetrics(values, per_class, threshold, f1, alarms, tuple(matches))


def quiet_from(examples: Examples, found: Sequence[Boxes], names: Sequence[str]) -> float:
    """The lowest score from which on names of what isn't there find little.

    That is no more than `ALARMS` boxes an image, in the mean, for a name of what isn't in it; 1 where everything is in
    every image. The score with the largest F1 is too careful for a query: it counts the false boxes of every name that
    training knows, hundreds in one image.

    Args:
        examples: The images.
        found: Of each, for all ``names``, in patches.
        names: What was looked for.
    """
    wrong, asked = [torch.zeros(0)], 0
    for sample, boxes in zip(examples.samples, found, strict=True):
        absent = ~truth(sample.labels, names, phrases=True).bool().any(dim=0)
        wrong.append(boxes.scores.cpu()[absent[boxes.labels.cpu()]])
        asked += int(absent.sum())
    scores, allowed = torch.cat(wrong).sort(descending=True).values, int(ALARMS * asked)
    if not asked:
        return 1.0
    # Just above the first that would be one too many; where there's none every box may count.
    return float(scores[allowed].nextafter(torch.tensor(1.0))) if allowed < len(scores) else 0.0


def _hits(found: Tensor, scores: Tensor, kinds: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Whether each found box is a true one that no likelier box has taken, (n,)."""
    hits = torch.zeros(len(found), dtype=torch.bool)
    free = torch.ones(len(boxes), dtype=torch.bool)
    overlap = box_iou(found, boxes) if len(found) and len(boxes) else torch.zeros(len(found), len(boxes))
    for place in scores.argsort(descending=True).tolist():
        candidates = overlap[place] * (free & (labels == kinds[place]))
        if len(candidates) and candidates.max() >= ENOUGH:
            hits[place] = True
            free[candidates.argmax()] = False
    return hits


def _best(matches: Sequence[Match]) -> tuple[float, float, float]:
    """The score with the largest F1, that F1, and the false alarms of an image from there on."""
    scores, hits = (torch.cat([getattr(match, name) for match in matches]) for name in ("scores", "hits"))
    wanted = sum(match.wanted for match in matches)
    if not len(scores) or not wanted or not hits.any():
        return 1.0, 0.0, 0.0
    order = scores.argsort(descending=True)
    right = hits[order].cumsum(0)
    count = torch.arange(1, len(order) + 1)
    f1 = 2 * right / (count + wanted)
    at = int(f1.argmax())
    # Between the last box that counts and the next one, so that rounding moves neither.
    below = scores[order[at + 1]] if at + 1 < len(order) else scores[order[at]]
    threshold = float((scores[order[at]] + below) / 2)
    return threshold, float(f1[at]), float((count[at] - right[at]) / len(matches))


def _number(value: Tensor) -> float | None:
    """COCO writes -1 where there is nothing to measure."""
    return None if value < 0 else float(value)
