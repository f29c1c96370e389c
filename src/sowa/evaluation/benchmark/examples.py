"""Examples of what each level sees: image, level maps and fused map side by side."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sowa.core.files import write_bytes
from sowa.core.types import ABNORMAL
from sowa.detector.render import HOTTEST
from sowa.evaluation.inspection import Inspected

EXAMPLES = 2
SIDE = 1.9  # of an image, in inches
OUTLINE = "#00E5FF"  # neither parts nor the maps' colours are cyan


class Examples:
    """The first anomalous images that it's shown, of different defect types where there are several."""

    def __init__(self) -> None:
        self._first: dict[str | None, Inspected] = {}
        self._further: list[Inspected] = []

    @property
    def chosen(self) -> list[Inspected]:
        """At most `EXAMPLES`."""
        return [*self._first.values(), *self._further][:EXAMPLES]

    def add(self, inspected: Inspected) -> None:
        """Looks at one judged image."""
        kind = inspected.sample.defect_type
        if inspected.sample.label != ABNORMAL or len(self._first) == EXAMPLES:
            return
        if kind not in self._first:
            self._first[kind] = inspected
        elif len(self._further) < EXAMPLES:
            self._further.append(inspected)

    def save(self, path: Path) -> None:
        """Draws them as PNG, a row each.

        Raises:
            InputError: the file can't be written.
        """
        rows, columns = len(self.chosen), len(self.chosen[0].prediction.level_maps) + 2
        height, width = self.chosen[0].prediction.image.shape[:2]
        size = (SIDE * columns + 0.9, (SIDE * height / width + 0.3) * rows)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for row, inspected in zip(axes, self.chosen, strict=True):
            _draw(list(row), inspected)
        bar = figure.colorbar(axes[0, -1].images[0], ax=axes, fraction=0.03, pad=0.01, ticks=[0, 0.5, 1, 1.5])
        bar.set_label("times the pixel threshold", fontsize=8)
        bar.ax.tick_params(labelsize=8)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        write_bytes(path, buffer.getvalue())


def _draw(row: list[Axes], inspected: Inspected) -> None:
    """The image, each level enlarged as if all saw what it does, and their sum; the true defect outlined in all."""
    prediction, image = inspected.prediction, inspected.prediction.image
    height, width = image.shape[:2]
    levels = prediction.level_maps * len(prediction.level_maps)
    maps = {f"H{number}": level for number, level in enumerate(levels, 1)} | {"fused": prediction.anomaly_map}
    row[0].imshow(image)
    row[0].set_title(shorten(inspected.sample.defect_type or "image", 24, placeholder="…"), fontsize=9)
    for axes, (title, anomaly_map) in zip(row[1:], maps.items(), strict=True):
        relative = anomaly_map / prediction.pixel_threshold
        axes.imshow(relative, cmap="inferno", vmin=0, vmax=HOTTEST, extent=(0, width, height, 0))
        axes.set_title(title, fontsize=9)
    for axes in row:
        axes.set_axis_off()
        if inspected.mask is not None and inspected.mask.any():
            _outline(axes, inspected.mask, height, width)


def _outline(axes: Axes, mask: NDArray[np.bool_], height: int, width: int) -> None:
    """Draws where a mask (H, W) ends, in an image of another size."""
    framed = np.pad(mask, 1)  # so that an outline goes along the image's edge
    y = (np.arange(framed.shape[0]) - 0.5) * height / mask.shape[0]
    x = (np.arange(framed.shape[1]) - 0.5) * width / mask.shape[1]
    axes.contour(x.clip(0, width), y.clip(0, height), framed, levels=[0.5], colors=OUTLINE, linewidths=0.8)
