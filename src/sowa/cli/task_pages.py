"""What the pages of ``sowa detect test --report`` and ``sowa classify test --report`` show."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray

from sowa.cli.classify_figure import confusion_figure
from sowa.cli.describe import now
from sowa.data import read_image
from sowa.data.class_folders import Labelled
from sowa.report import Table
from sowa.report.task import MOST, Card, TaskPage
from sowa.tasks.classification.classifier import Classified
from sowa.tasks.classification.measures import Measured
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


def classification_page(
    subject: str,
    labelled: Labelled,
    told: Sequence[Classified],
    measured: Measured,
    facts: dict[str, str],
    skipped: Sequence[tuple[str, str]],
) -> TaskPage:
    """Images and what was said of them; the surest errors first, then the least sure."""
    truth = [labelled.names[label] for label in labelled.labels]
    wrong = [one.name != true for one, true in zip(told, truth, strict=True)]
    order = sorted(
        range(len(told)), key=lambda at: (not wrong[at], -told[at].probability if wrong[at] else told[at].probability)
    )
    cards = []
    for at in order[:MOST]:
        one = told[at]
        note = ", ".join(f"{name} {share:.2f}" for name, share in one.top[1:3])
        tag = (
            f"{truth[at]}, called {one.name} {one.probability:.2f}"
            if wrong[at]
            else f"{one.name} {one.probability:.2f}"
        )
        cards.append(Card(one.image_path, read_image(one.image_path), tag, note, wrong[at]))
    counted = [sum(row) for row in measured.confusion]
    rows = [
        [name, count, "–" if measured.recall[name] is None else f"{measured.recall[name]:.3f}"]
        for name, count in zip(labelled.names, counted, strict=True)
    ]
    buffer = BytesIO()
    confusion_figure(measured.confusion, labelled.names).savefig(buffer, format="png", dpi=110)
    return TaskPage(
        title="Classification",
        subject=subject,
        made=now(),
        figures={
            "Images": str(measured.images),
            "Top-1": f"{measured.top1:.3f}",
            "Balanced accuracy": f"{measured.balanced:.3f}",
            "ECE": f"{measured.ece:.3f}",
        },
        facts={"Top-5": f"{measured.top5:.3f}", "ECE without the temperature": f"{measured.ece_before:.3f}"} | facts,
        classes=Table(["class", "images", "recall"], rows),
        legend="The surest errors first, then what is right, the least sure first. Below: what else it may be.",
        cards=cards,
        skipped=skipped,
        png=buffer.getvalue(),
        drawn="Confusion matrix: rows are true classes, columns what was told",
    )
