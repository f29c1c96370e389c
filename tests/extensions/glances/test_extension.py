"""Glances alone and in a detector: fitting, judging, saving, and what they can't do."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sowa import Sowa
from sowa.cli.app import run
from sowa.core.config import Settings
from sowa.core.normal_range import range_of_references
from sowa.data.sources import ImageSource
from sowa.errors import InputError
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.evaluate import evaluate
from sowa.export import export
from sowa.extensions.glances.extension import Glances
from sowa.extensions.names.defects import DefectNames
from sowa.extensions.saliency import SaliencyWeight
from sowa.synthetic import generate

SIZE = (128, 192)  # twelve tiles of the tiny backbone


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Five normal images and one with a defect, of the detector's size."""
    good = [generate("wood", size=SIZE, seed=seed).image for seed in range(5)]
    return np.stack([*good, generate("wood", size=SIZE, seed=9, defect_type="hole", severity=1.0).image])


def fitted(backbone: str, images: np.ndarray, glances: int | None, references: int = 4) -> Sowa:
    settings = Settings(precision="fp32", image_size=SIZE, tiled=True)
    extensions = [] if glances is None else [Glances(glances)]
    detector = Sowa.from_pretrained(backbone, settings=settings, extensions=extensions)
    return detector.fit(list(images[:references]), augment=())


def test_all_glances_judge_as_full_tiling_does(tiny_backbone: str, images: np.ndarray) -> None:
    every, full = fitted(tiny_backbone, images, 99), fitted(tiny_backbone, images, None)
    every.image_judge.policy.best = lambda features, may_stop=True: int(features.available.argmax())  # row by row
    for one, other in zip(every.predict(list(images)), full.predict(list(images)), strict=True):
        assert one.raw_score == pytest.approx(other.raw_score, rel=1e-4)
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-4)
    assert (
        [len(order) for order in every.image_judge.orders_][-1]
        == len(every.image_judge.references_.encoder.layout)
        == 12
    )


@pytest.mark.parametrize("references", [1, 4])
def test_so_many_tiles_at_most_are_encoded_and_the_threshold_is_made_in_the_same_way(
    tiny_backbone: str, images: np.ndarray, references: int
) -> None:
    some = fitted(tiny_backbone, images, 3, references)
    found = some.predict(list(images))
    assert all(len(order) <= 3 for order in some.image_judge.orders_)
    assert found[0].anomaly_map.shape == SIZE
    left_out = [some.image_judge.judge(image[None], index).raw_scores.item() for index, image in enumerate(images[:4])]
    if references > 1:
        told = range_of_references(left_out, references)
        assert some.calibration_.image.centre == pytest.approx(told.centre, abs=1e-5)
    assert some.calibration_.threshold != fitted(tiny_backbone, images, None, references).calibration_.threshold


def test_an_image_is_judged_by_itself_and_alike_each_time(tiny_backbone: str, images: np.ndarray) -> None:
    some = fitted(tiny_backbone, images, 3)
    together = [each.raw_score for each in some.predict(list(images))]
    assert [some.predict(image)[0].raw_score for image in images] == pytest.approx(together, rel=1e-5)


def test_a_detector_is_saved_with_all_that_was_fitted(tiny_backbone: str, images: np.ndarray, tmp_path: Path) -> None:
    some = fitted(tiny_backbone, images, 3)
    loaded = Sowa.load(some.save(tmp_path / "some.sowa"), settings=Settings(precision="fp32"))
    assert (loaded.image_judge.glances, loaded.encoder.tiled) == (3, True)
    before, after = some.predict(images[5])[0], loaded.predict(images[5])[0]
    assert (after.raw_score, after.threshold) == (before.raw_score, before.threshold)
    assert loaded.image_judge.orders_ == some.image_judge.orders_
    again = loaded.calibrate(list(images[4:5]))
    assert again.calibration_.threshold != some.calibration_.threshold


def test_what_cannot_be_is_said(tiny_backbone: str, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seen whole"):
        Sowa.from_pretrained(tiny_backbone, extensions=[Glances(3)])
    with pytest.raises(InputError, match="glances are 0"):
        Glances(0)
    tiled = Settings(tiled=True)
    with pytest.raises(InputError, match="leave saliency_weight out, or glances"):
        Sowa.from_pretrained(tiny_backbone, settings=tiled, extensions=[Glances(3), SaliencyWeight(0.2)])
    some = fitted(tiny_backbone, images, 3)
    with pytest.raises(InputError, match="judges all of an image"):
        evaluate(some, "mvtec", [], EvaluationConfig())
    with pytest.raises(InputError, match="can't be named"):
        DefectNames(some, ["hole"])
    with pytest.raises(InputError, match="which a graph can't do"):
        export(some, tmp_path / "made")


def test_the_command_fits_and_judges(
    tiny_backbone: str, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "some.sowa"
    how = ["--backbone", tiny_backbone, "--image-size", "128x192", "--glances", "2"]
    assert run(["fit", "--normal", str(normal), "--k-shot", "2", "--out", str(out), *how]) == 2
    assert "seen whole" in capsys.readouterr().err
    assert run(["fit", "--normal", str(normal), "--k-shot", "2", "--out", str(out), *how, "--tiled"]) == 0
    capsys.readouterr()
    assert run(["predict", str(normal), "--model", str(out)]) == 0
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 6


# Without a detector of its own


@pytest.fixture(scope="module")
def alone(tiled: Sowa, wood: list[np.ndarray]) -> Glances:
    glances = Glances(2)
    glances.attach(tiled.encoder)
    assert glances.tensors() == {}
    glances.fit([ImageSource(str(index), image) for index, image in enumerate(wood[:3])], tiled.bank_, tiled.augment_)
    return glances


def test_what_was_fitted_is_restored(alone: Glances, tiled: Sowa, wood: list[np.ndarray]) -> None:
    again = Glances(5)
    again.attach(tiled.encoder)
    again.restore(json.loads(json.dumps(alone.settings())), alone.tensors(), tiled.bank_)
    assert again.settings() == alone.settings()
    for leave_out in (None, 1):
        before, after = (each.judge(np.stack(wood[1:4]), leave_out) for each in (alone, again))
        assert torch.equal(before.raw_scores, after.raw_scores)
        assert torch.equal(before.maps, after.maps)
        assert again.orders_ == alone.orders_
        assert [len(order) for order in again.orders_] == [2, 2, 2]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"weights_sha256": "0"}, "other weights"),
        ({"glances": 0}, "glances are 0"),
        ({"glances": "2"}, "doesn't know"),
        ({"more": 1}, "doesn't know"),
    ],
)
def test_other_settings_are_not_restored(alone: Glances, tiled: Sowa, changed: dict[str, object], match: str) -> None:
    again = Glances(5)
    again.attach(tiled.encoder)
    with pytest.raises(InputError, match=match):
        again.restore(alone.settings() | changed, alone.tensors(), tiled.bank_)
    with pytest.raises(InputError, match="overviews are of shape"):
        again.restore(alone.settings(), {}, tiled.bank_)
    assert (again.glances, again.references_) == (5, None)


def test_what_is_not_there_yet_is_not_used(tiled: Sowa, wood: list[np.ndarray]) -> None:
    glances = Glances(2)
    with pytest.raises(ValueError, match="attach them"):
        glances.fit([ImageSource("0", wood[0])], tiled.bank_, ())
    glances.attach(tiled.encoder)
    with pytest.raises(ValueError, match="fit or restore"):
        glances.judge(wood[0][None])
