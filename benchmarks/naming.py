"""What zero-shot naming is worth: pictures of categories that no training saw, and defect types named in the prompt.

    python benchmarks/naming.py --corpus DIR --hold-out FILE --tiles DIR

DIR of the corpus holds ``objects/<category>``; FILE names the categories held out of training, one per line; tiles are
the magnetic tiles in MVTec AD layout.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from few_shot import RESULTS, stamp
from torch.nn import functional as F

from sowa import Sowa
from sowa.data import list_images, load, read_image, read_mask_at, resize_image
from sowa.model.checkpoint import load_weights, trained_tensors
from sowa.model.sowa import SowaNetwork
from sowa.types import ABNORMAL

TYPES = {
    "blowhole": "{} with a blowhole",
    "break": "broken {}",
    "crack": "cracked {}",
    "fray": "frayed {}",
    "uneven": "uneven {}",
}


def named(detector: Sowa, corpus: Path, names: list[str]) -> tuple[float, int]:
    """Share of pictures whose own name is the nearest of ``names``, and how many pictures there are."""
    backbone = detector.network.backbone
    tokens = backbone.tokenize([f"a photo of a {name}" for name in names])
    with torch.inference_mode():
        texts = F.normalize(backbone.encode_text(backbone.embed_tokens(tokens), tokens.argmax(-1)), dim=-1)
    hits = []
    for index, name in enumerate(names):
        images = [
            resize_image(read_image(path), detector.image_size) for path in list_images(corpus / "objects" / name)
        ]
        with torch.inference_mode():
            pixels = detector.normalise(np.stack(images))
            features = F.normalize(backbone(pixels).image_feature, dim=-1)
        hits += (features @ texts.T).argmax(-1).eq(index).tolist()
    return float(np.mean(hits)), len(hits)


def retold(detector: Sowa, template: str) -> Sowa:
    """The same weights with another word for what is wrong."""
    network = detector.network
    prompt = dataclasses.replace(network.config.prompt, abnormal_templates=(template,))
    other = SowaNetwork(network.backbone, dataclasses.replace(network.config, prompt=prompt))
    load_weights(other, trained_tensors(network), "the shipped weights")
    return Sowa(other, trained=True, device=detector.device.type, precision="fp32")


def raised(detector: Sowa, root: Path) -> np.ndarray:
    """Rows: type of the defect; columns: type named. How far the map stands out on the defect, in its deviations."""
    samples = [sample for sample in load("mvtec", root, "tile") if sample.label == ABNORMAL]
    table = np.zeros((len(TYPES), len(TYPES)))
    for column, template in enumerate(TYPES.values()):
        told = retold(detector, template)
        for row, kind in enumerate(TYPES):
            of_kind = [s for s in samples if s.image_path.parent.name.removeprefix("MT_").lower() == kind][:30]
            values = []
            for sample in of_kind:
                image = read_image(sample.image_path)
                mask = read_mask_at(sample.mask_path, told.image_size, image.shape[:2])
                found = told.judge(told.observe(resize_image(image, told.image_size)[None])).maps[0].cpu().numpy()
                values.append((found[mask].mean() - found[~mask].mean()) / found.std())
            table[row, column] = np.mean(values)
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--corpus", "--hold-out", "--tiles"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    names = arguments.hold_out.read_text().splitlines()
    detector = Sowa.from_pretrained("mini", precision="fp32")
    share, count = named(detector, arguments.corpus, names)
    table = raised(detector, arguments.tiles)
    rows = [" | ".join(f"{value:.2f}" for value in row) for row in table]
    lines = [
        "# Zero-shot naming",
        "",
        stamp(),
        "",
        "    python benchmarks/naming.py --corpus CORPUS --hold-out pretrain/hold_out.txt --tiles DATA/magnetic_tile",
        "",
        f"Top-1 over the {len(names)} names held out of training: **{share:.3f}** of {count} pictures "
        f"({share * len(names):.1f} x chance). Names: {', '.join(names)}.",
        "",
        "Defect types named in the prompt: how far the zero-shot map stands out on the defect (mean inside less mean",
        "outside, in standard deviations of the map). Rows: the defect; columns: the word in the prompt.",
        "",
        "| | " + " | ".join(TYPES) + " |",
        "|---|" + "---|" * len(TYPES),
        *(f"| {kind} | {row} |" for kind, row in zip(TYPES, rows, strict=True)),
        "",
    ]
    (RESULTS / "naming.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
