"""The samples of one product, for the commands that know no other."""

from __future__ import annotations

from pathlib import Path

from sowa.core.types import Sample
from sowa.data import load
from sowa.errors import InputError


def load_product(dataset: str, root: Path, category: str | None) -> list[Sample]:
    """As ``sowa.data.load``.

    Raises InputError also where there are several categories: a detector knows one product.
    """
    samples = load(dataset, root, category)
    categories = sorted({sample.category for sample in samples})
    if len(categories) > 1:
        raise InputError(f"{root} holds {len(categories)} categories; choose --category {' or '.join(categories)}")
    return samples
