"""Images on which an export is fitted to int8 and compared with the original."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sowa.core.progress import Report, silent
from sowa.data.images import resize_image
from sowa.data.sources import ImageSource, image_sources
from sowa.data.views import variants
from sowa.detector.detector import Sowa
from sowa.errors import InputError
from sowa.synthetic.damage import DAMAGE_TYPES, damage
from sowa.synthetic.generator import SMALLEST_SIZE

AT_MOST = 12  # images that are read; of each come several views


def examples(detector: Sowa, source: Any = None, report: Report = silent) -> NDArray[np.uint8]:
    """Views (N, H, W, 3) uint8 at the detector's size: each image nearer, brighter, darker, and with a defect.

    Not as it is: patches of a reference are in the memory bank themselves, so they say nothing of other images.

    Args:
        detector: That is exported.
        source: As in ``Sowa.fit``; by default the references.
        report: Told of the progress.

    Raises:
        InputError: an image can't be read.
    """
    found = image_sources(source) if source is not None else _references(detector)
    chosen = found[:: -(-len(found) // AT_MOST)]
    shown: list[NDArray[np.uint8]] = []
    for index, original in enumerate(chosen):
        image = resize_image(original.read(), detector.image_size)
        views = variants(image)
        shown += list(views)
        if min(detector.image_size) >= SMALLEST_SIZE:
            shown.append(damage(views[0], DAMAGE_TYPES[index % len(DAMAGE_TYPES)], seed=index, severity=0.7).image)
        report("read images", index + 1, len(chosen))
    return np.stack(shown)


def _references(detector: Sowa) -> list[ImageSource]:
    try:
        return image_sources(detector.references_)
    except InputError as error:
        raise InputError(f"references can't be read again ({error}); give --images, some of the same kind") from None
