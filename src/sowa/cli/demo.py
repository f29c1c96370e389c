"""``sowa demo``: the whole job on images that the package generates itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from sowa.cli.console import Console
from sowa.cli.options import advanced, basic
from sowa.core.files import write_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sowa.detector.detector import Sowa
    from sowa.detector.prediction import Prediction

# One of each kind: metal, cloth, tile, wood, and parts with something to miss.
CATEGORIES = ("brushed_metal", "woven_fabric", "ceramic_tile", "wood", "capsule", "blister_pack", "printed_board")
K_SHOT = 8
GOOD, PER_DEFECT, SEVERITY = 6, 1, 0.8
SHOWN, PANEL = 3, 200  # images of a category in the overview, and their height in pixels
T = TypeVar("T")


def demo(
    out: Annotated[Path, basic("folder for images, detectors and overlays")] = Path("demo"),
    size: Annotated[int, advanced("side of the generated images in pixels")] = 384,
    seed: Annotated[int, advanced("another seed makes other products")] = 0,
) -> None:
    """Generate images of parts, learn the good ones, find the defects, and draw what was found."""
    import numpy as np

    from sowa.detector.detector import Sowa
    from sowa.detector.render import encode
    from sowa.synthetic import write_dataset

    console = Console()
    started = time.perf_counter()
    detector = Sowa.from_pretrained("mini")
    rows, best = [], []
    with console.progress() as report:
        write_dataset(
            out / "images",
            CATEGORIES,
            train=K_SHOT,
            test=(GOOD, PER_DEFECT),
            size=size,
            seed=seed + 1,
            severity=SEVERITY,
            progress=lambda done, total: report("generate images", done, total),
        )
        for index, category in enumerate(CATEGORIES):
            row, shown = _one_category(detector, out, category)
            rows.append(row)
            best.append(shown)
            report("fit and predict", index + 1, len(CATEGORIES))
    write_bytes(out / "overview.jpg", encode(np.concatenate(best), "JPEG"))
    _tell(out, rows, time.perf_counter() - started, console)


def _tell(out: Path, rows: list[list[object]], seconds: float, console: Console) -> None:
    header = ["category", "image AUROC", "pixel AUROC", "defects found", "false alarms"]
    console.table(f"mini, {K_SHOT} reference images each, images never seen before", header, rows)
    console.say(
        f"{out / 'overview.jpg'}: image, heat map, true mask; every image's overlay under {out / 'overlays'} "
        f"({seconds:.0f} s)",
        event="demo",
        overview=str(out / "overview.jpg"),
        overlays=str(out / "overlays"),
        rows=[dict(zip(header, row, strict=True)) for row in rows],
    )


def _one_category(detector: Sowa, out: Path, category: str) -> tuple[list[object], NDArray[np.uint8]]:
    import numpy as np

    from sowa.core.types import ABNORMAL
    from sowa.data import load, read_mask_at, split
    from sowa.metrics import PixelMetrics, image_metrics

    root = out / "images"
    detector.fit(root / category / "train" / "good", k_shot=K_SHOT)
    detector.save(out / "detectors" / f"{category}.sowa")
    samples = {str(sample.image_path): sample for sample in split(load("mvtec", root, category), "test")}
    pixels, scores, labels, found, alarms, shown = PixelMetrics(), [], [], 0, 0, []
    for prediction in detector.predict(list(samples), stream=True):
        sample = samples[prediction.image_path]
        anomalous = sample.label == ABNORMAL
        size = (prediction.anomaly_map.shape[0], prediction.anomaly_map.shape[1])
        mask = read_mask_at(sample.mask_path, size)
        pixels.update(prediction.anomaly_map, mask)
        scores.append(prediction.raw_score)
        labels.append(anomalous)
        found += anomalous and prediction.is_anomalous
        alarms += prediction.is_anomalous and not anomalous
        kind = sample.defect_type or "good"
        prediction.save(out / "overlays" / category, f"{kind}_{sample.image_path.stem}")
        if anomalous:
            shown.append((prediction, mask))
    row = [
        category,
        float(image_metrics(scores, labels).image_AUROC),
        float(pixels.compute().pixel_AUROC),
        f"{found} of {sum(labels)}",
        f"{alarms} of {len(labels) - sum(labels)}",
    ]
    return row, np.concatenate([_panel(*pair) for pair in spread_out(shown, SHOWN)], axis=1)


def _panel(prediction: Prediction, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Image, heat map with the detector's outline, true mask."""
    import numpy as np

    from sowa.detector.render import enlarge_mask, side_by_side

    image = prediction.image
    white = np.repeat(enlarge_mask(mask, (image.shape[0], image.shape[1]))[..., None], 3, axis=2)
    return np.pad(side_by_side([image, prediction.plot(), white], PANEL), ((3, 3), (9, 9), (0, 0)))


def spread_out(items: list[T], count: int) -> list[T]:
    """``count`` of the items, evenly spread."""
    import numpy as np

    return [items[place] for place in np.linspace(0, len(items) - 1, count).round().astype(int)]
