"""What the default threshold does on pictures never seen: false alarms among normal ones, anomalous ones found.

    python benchmarks/threshold.py --data DIR

DIR as in few_shot.py. Detectors are fitted with 1, 4 and 16 references, from which alone their threshold comes; one
pass over the test pictures serves them all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from few_shot import DATASETS, RESULTS, stamp

from sowa import Sowa
from sowa.data import choose_references, load, split
from sowa.data.stream import Picture, read_batches
from sowa.types import ABNORMAL, NORMAL, Sample

SHOTS, SEEDS = (1, 4, 16), (0, 1, 2)


def rates(samples: list[Sample], detectors: dict[tuple[int, int], Sowa]) -> dict[tuple[int, int], tuple[float, float]]:
    """For each detector, the share of normal and of anomalous test pictures that it calls anomalous."""
    test = {str(sample.image_path): sample.label for sample in split(samples, "test")}
    called: dict[tuple[int, int], dict[int, list[bool]]] = {key: {NORMAL: [], ABNORMAL: []} for key in detectors}
    network = next(iter(detectors.values()))
    wanted = [Picture(name, Path(name)) for name in test]
    for batch in read_batches(wanted, network.image_size, 8, lambda picture, why: print(picture.name, why)):
        observation = network.observe(batch.images)
        for key, detector in detectors.items():
            scores = detector.judge(observation).raw_scores.tolist()
            for picture, score in zip(batch.pictures, scores, strict=True):
                called[key][test[picture.name] or NORMAL].append(score > detector.calibration_.threshold)
    return {key: (float(np.mean(one[NORMAL])), float(np.mean(one[ABNORMAL]))) for key, one in called.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    data = parser.parse_args().data
    lines = [
        "# The default threshold",
        "",
        stamp(),
        "Backbone mini, threshold from the references alone for a target of 1 % false alarms; seeds 0, 1, 2.",
        "",
        "    python benchmarks/threshold.py --data DATA",
        "",
        "| category | shots | false alarms, each seed | anomalous found, each seed |",
        "|---|---|---|---|",
    ]
    for dataset, folder, category in DATASETS:
        samples = load(dataset, f"{data}/{folder}", category)
        detectors = {}
        for key in ((k_shot, seed) for k_shot in SHOTS for seed in SEEDS):
            references = choose_references(samples, *key)
            detectors[key] = Sowa.from_pretrained("mini").fit([sample.image_path for sample in references])
        found = rates(samples, detectors)
        for k_shot in SHOTS:
            alarms, hits = zip(*(found[k_shot, seed] for seed in SEEDS), strict=True)
            cells = [", ".join(f"{100 * value:.1f} %" for value in values) for values in (alarms, hits)]
            lines.append(f"| {category} | {k_shot} | {cells[0]} | {cells[1]} |")
            print(lines[-1], flush=True)
    (RESULTS / "threshold.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
