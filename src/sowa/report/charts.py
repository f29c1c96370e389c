"""Plots as small inline SVG. Colours are CSS classes, so that they follow dark mode and print."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup

from sowa.report.summary import Plot

# Lines are drawn in a box of this size in SVG units; what is around them holds numbers and names.
LEFT, TOP, RIGHT, BOTTOM = 44, 20, 12, 42
AXES = {
    "ROC": ("false positive rate", "true positive rate", 1.0),
    "PR": ("recall", "precision", 1.0),
    "PRO": ("false positive rate of pixels", "covered part of a region", 0.3),
}
RATIOS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50)
OCTAVES = 6.0  # furthest from the threshold that the histogram shows; what lies beyond is counted at its edge
BINS = 48
WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.25, 0.5)  # of a bar, in octaves


def curve_plot(plot: Plot, point: tuple[float, float] | None = None) -> Markup:
    """A curve in its axes, as SVG.

    Args:
        plot: The curve.
        point: Where the threshold lies on it, x and y in 0..1; None isn't marked.
    """
    x_name, y_name, x_end = AXES[plot.name]
    width, height = 240, 220

    def place(x: float, y: float) -> str:
        return f"{LEFT + width * x / x_end:.1f} {TOP + height * (1 - y):.1f}"

    parts = []
    for step in range(6):
        share = step / 5
        parts.append(f'<path class="grid" d="M{place(0, share)}H{LEFT + width}"/>')
        parts.append(_text(LEFT - 6, TOP + height * (1 - share) + 4, f"{share:g}", "end"))
    for step in range(4 if x_end < 1 else 6):
        x = x_end * step / (3 if x_end < 1 else 5)
        parts.append(_text(LEFT + width * x / x_end, TOP + height + 16, f"{x:g}", "middle"))
    if plot.name == "ROC":
        parts.append(f'<path class="chance" d="M{place(0, 0)}L{place(1, 1)}"/>')
    line = "L".join(place(x, y) for x, y in zip(plot.curve.x, plot.curve.y, strict=True))
    parts.append(f'<path class="curve" d="M{line}"/>')
    if point and plot.point:
        left, top = place(*point).split()
        parts.append(f'<circle class="point" cx="{left}" cy="{top}" r="4"><title>at the threshold</title></circle>')
    parts.append(_text(LEFT + width / 2, TOP + height + 34, x_name, "middle", "name"))
    parts.append(_upright(TOP + height / 2, y_name))
    return _svg(width, height, f"{plot.name} curve, {plot.area}", parts)


def histogram(normal: Sequence[float], anomalous: Sequence[float], labelled: bool, width: int = 640) -> Markup:
    """Raw scores over the threshold, by the logarithm, as SVG.

    Args:
        normal: Ratios to the threshold of normal images, by what they are, or else by what they're judged.
        anomalous: Of anomalous ones, likewise.
        labelled: Whether anomalous ones are drawn above the line and normal ones below it; else all above it.
        width: In pixels.
    """
    height = 220
    low, high, bar = _range([*normal, *anomalous])
    up, down = _counts(anomalous, low, high, bar), _counts(normal, low, high, bar)
    most_up, most_down = (max(up), max(down)) if labelled else (max(up + down), 0)
    unit = height / max(1, most_up + most_down)
    base = TOP + most_up * unit

    def place(octave: float) -> float:
        return LEFT + width * (octave - low) / (high - low)

    parts = []
    step = _nice(max(most_up, most_down) / 3)
    for count in range(-(most_down // step) * step, most_up + 1, step):
        parts.append(f'<path class="grid" d="M{LEFT} {base - count * unit:.1f}h{width}"/>')
        parts.append(_text(LEFT - 6, base - count * unit + 4, str(abs(count)), "end"))
    for name, counts, sign in (("anomalous", up, 1), ("normal", down, -1 if labelled else 1)):
        for index, count in enumerate(counts):
            if count:
                left, tall = place(low + index * bar), count * unit
                edges = f"{2 ** (low + index * bar):.3g} to {2 ** (low + (index + 1) * bar):.3g} × threshold"
                parts.append(
                    f'<rect class="{name}" x="{left + 0.5:.1f}" y="{base - tall if sign > 0 else base:.1f}" '
                    f'width="{place(low + bar) - LEFT - 1:.1f}" height="{tall:.1f}">'
                    f"<title>{edges}: {count} {name}</title></rect>"
                )
    parts.append(f'<path class="axis" d="M{LEFT} {base:.1f}h{width}"/>')
    parts.append(f'<path class="threshold" d="M{place(0):.1f} 4V{TOP + height}"/>')
    parts.append(_text(place(0) + 5, 13, "threshold", "start", "name"))
    for ratio, kind in _ticks(low, high, width / (high - low)).items():
        parts.append(_text(place(math.log2(ratio)), TOP + height + 16, f"{ratio:g}", "middle", kind))
    parts.append(_text(LEFT + width / 2, TOP + height + 34, "raw score ÷ threshold", "middle", "name"))
    parts.append(_upright(TOP + height / 2, "images"))
    words = f"{len(anomalous)} anomalous and {len(normal)} normal images by raw score over threshold"
    return _svg(width, height, f"Histogram of {words}", parts)


def octaves(ratio: float) -> float:
    """How far a raw score lies from the threshold, in doublings, -OCTAVES to OCTAVES.

    Args:
        ratio: Of the raw score to the threshold, 0 or more.

    Example:
        >>> octaves(2.0), octaves(0.5), octaves(0.0) == -OCTAVES
        (1.0, -1.0, True)
    """
    return min(max(math.log2(ratio), -OCTAVES), OCTAVES) if ratio > 0 else -OCTAVES


def _range(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Ends of the axis and width of a bar in octaves; the threshold (0) is on the axis and between two bars."""
    places = [octaves(ratio) for ratio in ratios] or [0.0]
    low, high = min(*places, -0.2), max(*places, 0.2)
    bar = next((width for width in WIDTHS if (high - low) / width <= BINS), WIDTHS[-1])
    return bar * math.floor(low / bar), bar * (math.floor(high / bar) + 1), bar


def _counts(ratios: Iterable[float], low: float, high: float, bar: float) -> list[int]:
    """Images in each bar. A score at the threshold is normal, so it belongs to the bar below."""
    places = np.array([octaves(ratio) for ratio in ratios])
    bars = round((high - low) / bar)
    index = np.clip(np.ceil(np.round((places - low) / bar, 9)).astype(int) - 1, 0, bars - 1)
    return [int(count) for count in np.bincount(index, minlength=bars)]


def _ticks(low: float, high: float, octave: float) -> dict[float, str]:
    """Ratios to write at the axis, 1 first, as far apart as numbers need; ``octave`` in SVG units.

    "minor" are those for which there's no room where the drawing is shown small.
    """
    chosen: dict[float, str] = {}
    ratios = [ratio for ratio in sorted(RATIOS, key=lambda ratio: ratio != 1) if low <= math.log2(ratio) <= high]
    for room, kind in ((64, "major"), (34, "minor")):
        for ratio in ratios:
            if all(abs(math.log2(ratio / other)) * octave >= room for other in chosen):
                chosen[ratio] = kind
    return chosen


def _nice(step: float) -> int:
    """The next of 1, 2, 5, 10, 20, ... from ``step`` on."""
    power = 10 ** max(0, math.floor(math.log10(max(step, 1))))
    return next(int(power * factor) for factor in (1, 2, 5, 10) if power * factor >= step)


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _upright(y: float, words: str) -> str:
    return (
        f'<text class="name upright" transform="translate(12 {y:.1f}) rotate(-90)" text-anchor="middle">{words}</text>'
    )


def _svg(width: int, height: int, label: str, parts: list[str]) -> Markup:
    """The drawing; ``label`` is what a reader who doesn't see it is told."""
    box = f"0 0 {LEFT + width + RIGHT} {TOP + height + BOTTOM}"
    opening = Markup('<svg class="plot" viewBox="{}" role="img" aria-label="{}">').format(box, label)
    return opening + Markup("".join(parts)) + Markup("</svg>")  # parts are numbers and words of this file
