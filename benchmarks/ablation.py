"""What each part of the method adds: memory alone, adapters and prompts, random adapters, single levels.

    python benchmarks/ablation.py --data DIR [--k-shot 1,2,4,8,16]

DIR as for ``few_shot.py``; of more than 500 test images every fourth is judged. One row per variant and number of
shots, mean over three seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator

from few_shot import DATASETS, RESULTS, stamp, thinned
from torch import Tensor

from sowa import Sowa
from sowa.data import load
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.evaluate import evaluate
from sowa.model.checkpoint import load_weights, pretrained_network, seeded_network, trained_tensors
from sowa.model.sowa import SowaNetwork

SHOWN = ("image_AUROC", "pixel_AUROC", "pixel_AUPRO")


def variants() -> Iterator[tuple[str, Sowa, bool]]:
    """Name, detector, and whether zero shots say anything."""
    network, _ = pretrained_network("mini")
    weights = trained_tensors(network)
    prompt = dataclasses.replace(network.config.prompt, self_weight=0.0)  # what that adds is in zero_shot.py
    network.config = dataclasses.replace(network.config, prompt=prompt)
    yield "whole method", Sowa(TorchEncoder(network, trained=True)), True
    yield "memory bank alone", Sowa(TorchEncoder(network, trained=False)), False
    random = seeded_network("mini", network.config)
    prompts = {name: value for name, value in weights.items() if name.startswith("prompts.")}
    load_weights(random, trained_tensors(random) | prompts, "trained prompts")
    yield "random adapters, trained prompts", Sowa(TorchEncoder(random, trained=True)), True
    for place, level in enumerate(network.backbone.levels):
        config = dataclasses.replace(network.config, levels=(level,))
        single = SowaNetwork(seeded_network("mini", config).backbone, config)
        load_weights(single, prompts | _of_level(weights, place), "one level")
        yield f"level {place + 1} alone", Sowa(TorchEncoder(single, trained=True)), True


def _of_level(weights: dict[str, Tensor], place: int) -> dict[str, Tensor]:
    prefix = f"adapters.{place}."
    return {
        "adapters.0." + name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--k-shot", default="1,2,4,8,16")
    arguments = parser.parse_args()
    shots = tuple(int(k) for k in arguments.k_shot.split(","))
    lines = []
    for name, detector, zero in variants():
        config = EvaluationConfig(k_shots=(0, *shots) if zero else shots)
        for dataset, folder, category in DATASETS:
            samples = thinned(load(dataset, f"{arguments.data}/{folder}", category))
            found = evaluate(detector, dataset, samples, config)
            for row in found.mean():
                cells = " | ".join(f"{row['metrics'][metric]['mean']:.3f}" for metric in SHOWN)
                lines.append(f"| {category} | {name} | {row['k_shot']} | {cells} |")
                print(lines[-1], flush=True)
    text = [
        "# What each part adds",
        "",
        f"{stamp()} Mean of seeds 0, 1, 2; inductive scoring; of tile every fourth test image.",
        "",
        f"    python benchmarks/ablation.py --data DATA --k-shot {arguments.k_shot}",
        "",
        "| category | variant | shots | " + " | ".join(SHOWN) + " |",
        "|---|---|---|" + "---|" * len(SHOWN),
        *sorted(lines, key=lambda line: line.split("|")[1]),
        "",
    ]
    (RESULTS / "ablation.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
