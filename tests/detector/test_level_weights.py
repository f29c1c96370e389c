"""References weigh the levels of a backbone whose levels differ; a file keeps the weights, and refuses others."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import sowa
from sowa.core.arrays import to_numpy
from sowa.core.config import Settings
from sowa.errors import InputError
from sowa.synthetic import generate

SMALL = Settings(image_size=(96, 96))


def fitted(name: str, count: int = 3) -> sowa.Sowa:
    images = [generate("leather", size=96, seed=seed).image for seed in range(count)]
    return sowa.Sowa.from_pretrained(name, settings=SMALL).fit(images, augment=())


def weights(detector: sowa.Sowa) -> tuple[float, ...] | None:
    assert detector.bank_ is not None
    return None if detector.bank_.weights is None else tuple(detector.bank_.weights)


def test_clip_s_levels_are_summed_as_published(tiny_backbone: str) -> None:
    assert weights(fitted(tiny_backbone)) is None


@pytest.mark.parametrize("count", [1, 3])
def test_mini_s_levels_are_weighed_the_same_each_time(count: int) -> None:
    found = weights(fitted("mini:random", count))
    assert found is not None
    assert len(found) == 4
    assert min(found) > 0
    assert weights(fitted("mini:random", count)) == found


def test_weights_reach_scores_and_maps() -> None:
    detector, image = fitted("mini:random"), generate("leather", size=96, seed=9).image
    assert detector.bank_ is not None
    weighed = detector.predict(image)[0]
    own, detector.bank_.weights = detector.bank_.weights, None
    plain = detector.predict(image)[0]
    expected = plain.level_maps * np.array(own, np.float32)[:, None, None]
    np.testing.assert_allclose(weighed.level_maps, expected, rtol=1e-4, atol=1e-6)
    assert weighed.raw_score != plain.raw_score


def test_a_file_keeps_the_weights_and_refuses_what_are_none(tmp_path: Path) -> None:
    detector = fitted("mini:random")
    path = detector.save(tmp_path / "part.sowa")
    assert weights(sowa.Sowa.load(path)) == weights(detector)
    with safe_open(path, "numpy") as file:
        metadata = dict(file.metadata())
    for wrong in ([1.0], [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, -2.0]):
        told = json.loads(metadata["sowa"]) | {"weights": wrong}
        broken = tmp_path / "broken.sowa"
        save_file(load_file(path), broken, metadata | {"sowa": json.dumps(told)})
        with pytest.raises(InputError, match="weighs levels by"):
            sowa.Sowa.load(broken)


def test_the_zero_shot_score_counts_where_references_vouch_for_it(tmp_path: Path) -> None:
    detector = fitted("mini")
    assert detector.bank_ is not None
    assert detector.bank_.zero_shot_weight > 0  # generated leather, whose damage `mini`'s prompts were trained on
    path = detector.save(tmp_path / "part.sowa")
    loaded, image = sowa.Sowa.load(path), generate("leather", size=96, seed=9).image
    assert loaded.predict(image)[0].raw_score == pytest.approx(detector.predict(image)[0].raw_score, abs=1e-6)
    with safe_open(path, "numpy") as file:
        metadata = dict(file.metadata())
    for wrong in ({"zero_shot_weight": -1.0}, {"trained": False}):
        told = json.loads(metadata["sowa"]) | wrong
        broken = tmp_path / "broken.sowa"
        save_file(load_file(path), broken, metadata | {"sowa": json.dumps(told)})
        with pytest.raises(InputError, match="zero-shot weight"):
            sowa.Sowa.load(broken)


def test_without_trained_prompts_or_with_a_single_reference_it_doesn_t_count() -> None:
    for detector in (fitted("mini:random"), fitted("mini", 1)):
        assert detector.bank_ is not None
        assert detector.bank_.zero_shot_weight == 0


def test_the_bank_itself_isn_t_weighed() -> None:
    bank = fitted("mini:random").bank_
    assert bank is not None
    np.testing.assert_allclose(np.linalg.norm(to_numpy(bank.features), axis=-1), 1, atol=1e-5)
