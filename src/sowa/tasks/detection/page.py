"""What the page of ``sowa detect test --report`` shows."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sowa.data import read_image
from sowa.report import Table
from sowa.report.summary import now
from sowa.report.task import MOST, Card, TaskPage
from sowa.tasks.detection.decode import Boxes
from sowa.tasks.detection.detector import BoxDetector
from sowa.tasks.detection.evaluate import BoxMetrics
from sowa.tasks.detection.examples import Examples
from sowa.tasks.detection.queries import truth

TRUE = (255, 255, 255)  # colour of true boxes, which lie under those that were found
TRUE_LINE = 0.008  # width of theirs, in parts of the image's mean side


def detection_page(
    detector: BoxDetector,
    subject: str,
    examples: Examples,
    found: Sequence[Boxes],
    names: Sequence[str],
    metrics: BoxMetrics,
) -> TaskPage:
    """Images with what is there and what was found; those with the most errors first."""
    errors = [match.errors(metrics.threshold) for match in metrics.matches]
    order = sorted(range(len(errors)), key=lambda place: (-sum(errors[place]), place))[:MOST]
    cards = []
    for place in order:
        missed, false = errors[place]
        note = f"{metrics.matches[place].wanted} there"
        tag = f"{missed} missed, {false} false" if missed or false else "all found"
        drawn = _boxes_drawn(detector, examples, found[place], place, names, metrics.threshold)
        path = str(examples.samples[place].image_path)
        cards.append(Card(path, drawn, tag, note, bool(missed or false)))
    rows = [[name, f"{value:.3f}"] for name, value in sorted(metrics.per_class.items(), key=lambda item: item[1])]
    figures = {
        name: "–" if metrics.values[name] is None else f"{metrics.values[name]:.3f}" for name in ("mAP50", "mAP50-95")
    }
    facts = {
        "Backbone": detector.encoder.backbone.name,
        "Image size": "{} x {}".format(*detector.encoder.image_size),
        "False boxes of an image": f"{metrics.false_alarms:.3f}",
        **{name: "–" if value is None else f"{value:.3f}" for name, value in metrics.values.items() if " " in name},
    }
    return TaskPage(
        title="Detection",
        subject=subject,
        made=now(),
        figures={"Images": str(len(examples.samples)), **figures, "F1": f"{metrics.f1:.3f}"},
        facts=facts,
        classes=Table(["class", "mAP50"], rows),
        legend=f"White: what is there. Coloured: what was found, from a score of {metrics.threshold:.2f} on, where F1 "
        "is largest here. Images with the most errors first.",
        cards=cards,
        skipped=examples.skipped,
    )


def _boxes_drawn(
    detector: BoxDetector, examples: Examples, boxes: Boxes, place: int, names: Sequence[str], least: float
) -> NDArray[np.uint8]:
    sample = examples.samples[place]
    image = read_image(sample.image_path).copy()
    width = max(2, round(TRUE_LINE * sum(image.shape[:2]) / 2))
    asked = truth(sample.labels, names, phrases=tuple(names) != detector.names).any(dim=1)
    for box in (box for box, wanted in zip(sample.boxes, asked, strict=True) if wanted):
        x1, y1, x2, y2 = (round(value) for value in box)
        cv2.rectangle(image, (x1, y1), (x2, y2), TRUE, width)
    return detector.placed(str(sample.image_path), image, boxes, tuple(names), least).plot()
