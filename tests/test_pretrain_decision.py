"""The scripts that teach where the boundary lies: what they measure of a product, and what they learn from many."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sowa.core.calibration import Damaged, from_references
from sowa.core.config import from_dict
from sowa.core.decision import DecisionRule, learned_rule
from sowa.data.sources import ImageSource
from sowa.detector.detector import Sowa
from sowa.synthetic import generate

SCRIPTS = Path(__file__).parents[1] / "pretrain"
SHARE = 0.6  # of the damage, in which the made-up products' boundary lies


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("decision", "decision_products", "decision_report"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def measured(product: int, random: np.random.Generator) -> dict[str, object]:
    """A product whose good and bad images part at `SHARE` of what damage does to its references."""
    scale, damage = float(np.exp(random.normal())), float(random.uniform(0.3, 0.8))

    def drawn(middle: float, count: int) -> list[float]:
        return (scale * np.exp(random.normal(middle, 0.15, count))).tolist()

    def run(shots: int) -> dict[str, object]:
        good, bad = drawn(0.0, 30), drawn(2 * SHARE * damage, 30)
        return {
            "shots": shots,
            "seed": 0,
            "left_out": drawn(0.0, max(shots, 3)),
            "left_out_maxima": drawn(0.0, max(shots, 3)),
            "damaged": np.log(drawn(damage, 8)).tolist(),
            "damaged_maps": np.log(drawn(damage, 8)).tolist(),
            "good": good,
            "bad": bad,
            "pixels": {
                "thresholds": (scale * np.exp([0.0, damage / 2, damage])).tolist(),
                "found": [90, 80, 10],
                "false": [900, 10, 0],
                "missed": [10, 20, 90],
            },
        }

    runs = [run(shots) for shots in (4, 8)]
    return {
        "name": f"made-up-{product}",
        "zero_shot": {
            "good": drawn(0.0, 20),
            "bad": drawn(1.0, 20),
            "pixels": {
                "thresholds": [0.25, 0.5, 1.0, 2.0, 4.0],
                "found": [100, 80, 40, 0, 0],
                "false": [900, 10, 0, 0, 0],
                "missed": [0, 20, 60, 100, 100],
            },
        },
        "runs": runs,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for product in range(8):
        (tmp_path / f"{product}.json").write_text(json.dumps(measured(product, random)))
    return tmp_path


def test_the_boundary_is_learned_from_products_and_written_as_it_is_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import decision

    decision.main(folder, folder / "out" / "decision.json")
    rule = from_dict(DecisionRule, json.loads((folder / "out" / "decision.json").read_text()))
    assert rule.position[0] == pytest.approx(SHARE, abs=0.1)
    assert rule.pixel_position[0] == pytest.approx(0.5, abs=0.15)
    assert rule.self_pixel_boundary == pytest.approx(0.125)
    assert rule.products == 8
    lows, highs = ([row[side] for row in rule.unsure] for side in (1, 2))
    assert lows == sorted(lows)
    assert highs == sorted(highs, reverse=True)
    told = capsys.readouterr().out
    (accuracy,) = [float(line.split("|")[4]) for line in told.splitlines() if line.startswith("| mean | 4 |")]
    assert accuracy > 0.85
    assert "Expected calibration error" in told


def test_a_product_is_measured_as_a_detector_would_judge_it(
    tiny_backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import decision_products as products

    monkeypatch.setattr(products, "SHOTS", (1, 2))
    monkeypatch.setattr(products, "DRAWS", 1)

    def shown(piece: int, defect: str | None = None) -> products.Shown:
        made = generate("wood", size=64, seed=piece, defect_type=defect)
        return products.Shown(ImageSource(str(piece), made.image), made.mask)

    detector = Sowa.from_pretrained(tiny_backbone)
    images = [shown(n) for n in range(3)], [shown(n) for n in (3, 4)], [shown(n, "hole") for n in (5, 6)]
    one, two = products.runs(detector, images)
    assert (one.shots, two.shots) == (1, 2)
    assert (len(two.left_out), len(two.good), len(two.bad)) == (2, 2, 2)
    assert one.pixels is not None
    assert len({found + missed for found, missed in zip(one.pixels.found, one.pixels.missed, strict=True)}) == 1
    fitted = Sowa.from_pretrained(tiny_backbone).fit([image.source.read() for image in images[0]], k_shot=2, seed=0)
    expected = from_references(
        two.left_out, two.left_out_maxima, 2, Damaged(tuple(two.damaged), tuple(two.damaged_maps))
    )
    assert fitted.calibration_.threshold == pytest.approx(expected.threshold, rel=1e-4)


def test_the_shipped_rule_is_one_and_its_bands_lie_around_a_half() -> None:
    rule = learned_rule()
    assert 0 < rule.position[0] < 1
    for row in (*rule.unsure, *rule.self_unsure):
        assert 0 <= row[1] <= 0.5 <= row[2] <= 1
