"""What the page of ``sowa classify test --report`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from sowa.data import read_image
from sowa.data.class_folders import Labelled
from sowa.report import Table
from sowa.report.summary import now
from sowa.report.task import MOST, Card, TaskPage
from sowa.tasks.classification.classified import Classified
from sowa.tasks.classification.figure import confusion_figure
from sowa.tasks.classification.measures import Measured


def classification_page(
    subject: str,
    labelled: Labelled,
    predicted: Sequence[Classified],
    measured: Measured,
    facts: dict[str, str],
    skipped: Sequence[tuple[str, str]],
) -> TaskPage:
    """Images and what was said of them; the surest errors first, then the least sure."""
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
        cards=_cards(labelled, predicted),
        skipped=skipped,
        png=buffer.getvalue(),
        drawn="Confusion matrix: rows are true classes, columns predicted ones",
    )


def _cards(labelled: Labelled, predicted: Sequence[Classified]) -> list[Card]:
    """The surest errors first, then the least sure."""
    truth = [labelled.names[label] for label in labelled.labels]
    wrong = [one.name != true for one, true in zip(predicted, truth, strict=True)]
    sureness = [-one.probability if bad else one.probability for one, bad in zip(predicted, wrong, strict=True)]
    cards = []
    for at in sorted(range(len(predicted)), key=lambda at: (not wrong[at], sureness[at]))[:MOST]:
        one = predicted[at]
        note = ", ".join(f"{name} {share:.2f}" for name, share in one.top[1:3])
        called = f"{truth[at]}, called {one.name}" if wrong[at] else one.name
        cards.append(
            Card(one.image_path, read_image(one.image_path), f"{called} {one.probability:.2f}", note, wrong[at])
        )
    return cards
