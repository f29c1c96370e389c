"""The figure of docs/ATTENTION.md: each kind of attention on photographs of scikit-image (CC0, public domain).

python benchmarks/attention_figure.py docs/attention.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from skimage import data

from sowa import Sowa
from sowa.core.config import SaliencyConfig, Settings
from sowa.core.files import write_bytes
from sowa.core.maps import upsample
from sowa.data import resize_image
from sowa.detector.render import encode
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.extensions.gaze.density import Screen
from sowa.extensions.gaze.fixations import Gaze
from sowa.extensions.gaze.learning import Watched, learn, watch
from sowa.extensions.gaze.observers import simulate
from sowa.extensions.glances.extension import Glances
from sowa.extensions.names.defects import DefectNames
from sowa.synthetic import DAMAGE_TYPES, damage

SIDE, NAMES, OBSERVERS = 384, ("crack", "stain", "scratch"), 6
LARGE, GLANCES, CRACKED = 1152, 4, (600, 500)  # side, number, and where the crack lies
Image = NDArray[np.uint8]


def photograph(name: str) -> Image:
    image = np.asarray(getattr(data, name)())
    image = image if image.ndim == 3 else image[..., None].repeat(3, axis=2)
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return resize_image(np.ascontiguousarray(image[top : top + side, left : left + side]), (SIDE, SIDE))


@torch.inference_mode()
def saliency(detector: Sowa, image: Image) -> NDArray[np.float32]:
    """(H, W) in 0..1."""
    pixels = detector.encoder.normalise(image[None])
    patches, grid = detector.encoder.network.backbone.patches(pixels)
    found = detector.encoder.network.stands_out(pixels, patches[0], grid)
    assert found is not None
    values = upsample(found, grid, (SIDE, SIDE))[0].clamp(min=0)
    return (values / values.max()).numpy()


def show(axes: Axes, image: Image, values: NDArray[np.float32] | None, title: str) -> None:
    axes.imshow(image)
    if values is not None:
        axes.imshow(values, cmap="inferno", alpha=0.65, vmin=0, vmax=max(float(values.max()), 1e-6))
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def bottom_up(row: list[Axes], detector: Sowa) -> None:
    for place, name in enumerate(("coffee", "coins")):
        image = photograph(name)
        show(row[2 * place], image, None, "what is there" if place else "Bottom-up: what is there")
        show(row[2 * place + 1], image, saliency(detector, image), "what stands out")


def top_down(row: list[Axes]) -> None:
    wall = photograph("brick")
    detector = Sowa.from_pretrained("mini").fit([wall, wall[:, ::-1].copy(), wall[::-1].copy()], augment=())
    bad = damage(damage(wall, "crack", seed=5, severity=0.8).image, "stain", seed=11, severity=0.6).image
    detector.annotators = [DefectNames(detector, NAMES)]
    named = {each.name: each for each in detector.predict(bad)[0].annotations["defects"]}
    show(row[0], bad, None, "Top-down: a wall with defects")
    highest = max(float(each.defect_map.max()) for each in named.values())
    for axes, name in zip(row[1:], NAMES, strict=True):
        grown = upsample(torch.from_numpy(named[name].defect_map.copy()).flatten()[None], (24, 24), (SIDE, SIDE))[
            0
        ].numpy()
        grown[0, 0] = highest  # one scale for all names
        show(axes, bad, grown, f"“{name}”, {named[name].probability:.0%}")


def gaze(row: list[Axes], detector: Sowa) -> None:
    stones = photograph("gravel")
    made = damage(stones, "stain", seed=3, severity=0.8)
    viewings = simulate("stones", made.mask > 0, OBSERVERS, seed=1)
    show(row[0], made.image, None, "Gaze: a stain on stones")
    show(row[1], made.image, None, f"fixations of {OBSERVERS} simulated observers")
    for viewing in viewings:
        row[1].plot(
            [f.x for f in viewing.fixations], [f.y for f in viewing.fixations], "o-", markersize=3, linewidth=0.8
        )
    show(row[2], made.image, saliency(detector, made.image), "what stands out")
    learn(detector.encoder, simulated(detector))
    show(row[3], made.image, attention(detector, made.image), "where it would look, learned")


def simulated(detector: Sowa) -> list[Watched]:
    """Other photographs with defects, and where simulated observers look for them."""
    with TemporaryDirectory() as folder:
        viewings, files = [], dict[str, Path]()
        for number in range(24):
            kind = DAMAGE_TYPES[number % len(DAMAGE_TYPES)]
            made = damage(photograph(("brick", "grass", "coins")[number % 3]), kind, seed=100 + number, severity=0.8)
            files[str(number)] = Path(folder) / f"{number}.png"
            write_bytes(files[str(number)], encode(made.image, "PNG"))
            viewings += simulate(str(number), made.mask > 0, OBSERVERS, seed=1)
        return watch(detector.encoder, Gaze(tuple(viewings)), files, Screen().pixels_per_degree).watched


def attention(detector: Sowa, image: Image) -> NDArray[np.float32]:
    """Softmax of saliency, (H, W)."""
    pixels = detector.encoder.normalise(image[None])
    with torch.inference_mode():
        patches, grid = detector.encoder.network.backbone.patches(pixels)
        found = detector.encoder.network.stands_out(pixels, patches[0], grid)
        assert found is not None
        return upsample(found.softmax(dim=1), grid, (SIDE, SIDE))[0].numpy()


def glances(row: list[Axes]) -> None:
    """A large image with a small crack, looked at through a few windows."""
    wall = resize_image(photograph("brick"), (LARGE, LARGE))
    good = [wall, wall[:, ::-1].copy(), wall[::-1].copy(), wall[::-1, ::-1].copy()]
    bad = wall.copy()
    top, left = CRACKED
    part = np.s_[top : top + SIDE, left : left + SIDE]
    bad[part] = damage(wall[part], "crack", seed=5, severity=0.4).image
    some = Sowa.from_pretrained(
        "mini", settings=Settings(image_size=(LARGE, LARGE), tiled=True), extensions=[Glances(GLANCES)]
    ).fit(good, augment=())
    found = some.predict(bad)[0]
    assert isinstance(some.image_judge, Glances)
    references, (order,) = some.image_judge.references_, some.image_judge.orders_
    assert references is not None
    layout = references.encoder.layout
    coarse = references.banks.overview_distances(references.encoder.overview(bad)).sum(dim=0)[None]
    show(row[0], bad, None, "Glances: a large wall")
    show(row[1], bad, upsample(coarse, layout.grid, (LARGE, LARGE))[0].numpy(), "what the overview tells")
    show(row[2], bad, None, f"{GLANCES} of {len(layout)} windows, in this order")
    for number, tile in enumerate(order, start=1):
        down, right = (16 * corner for corner in layout.corners[tile])
        row[2].add_patch(Rectangle((right, down), SIDE, SIDE, fill=False, color="gold", linewidth=1.5))
        row[2].text(right + SIDE / 2, down + SIDE / 2, str(number), color="gold", ha="center", va="center")
    show(row[3], bad, found.anomaly_map, "the map in the end")


def main(out: Path) -> None:
    detector = Sowa(TorchEncoder.from_pretrained("mini", saliency=SaliencyConfig()))
    figure = Figure(figsize=(8, 8.5), layout="constrained")
    rows = figure.subplots(4, 4)
    bottom_up(list(rows[0]), detector)
    top_down(list(rows[1]))
    gaze(list(rows[2]), detector)
    glances(list(rows[3]))
    figure.savefig(out, dpi=110, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
