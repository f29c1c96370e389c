"""A detector that looks at some tiles of large images: fitting, judging, saving, and what it can't do."""

import json
from pathlib import Path

import numpy as np
import pytest

from sowa import Sowa
from sowa.cli.app import run
from sowa.core.calibration import from_references
from sowa.core.config import SaliencyConfig
from sowa.errors import InputError
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.evaluate import evaluate
from sowa.export import export
from sowa.synthetic import generate

SIZE = (128, 192)  # twelve tiles of the tiny backbone


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Five normal images and one with a defect, of the size at which they are seen."""
    good = [generate("wood", size=SIZE, seed=seed).image for seed in range(5)]
    return np.stack([*good, generate("wood", size=SIZE, seed=9, defect_type="hole", severity=1.0).image])


def fitted(backbone: str, images: np.ndarray, glances: int | None, references: int = 4) -> Sowa:
    detector = Sowa.from_pretrained(backbone, image_size=SIZE, tiled=True, glances=glances, precision="fp32")
    return detector.fit(list(images[:references]), augment=())


def test_all_glances_judge_as_full_tiling_does(tiny_backbone: str, images: np.ndarray) -> None:
    every, full = fitted(tiny_backbone, images, 99), fitted(tiny_backbone, images, None)
    every.glancer_.policy.best = lambda view, may_stop=True: int(view.open.argmax())  # one that never stops
    for one, other in zip(every.predict(list(images)), full.predict(list(images)), strict=True):
        assert one.raw_score == pytest.approx(other.raw_score, rel=1e-4)
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-4)
    assert [len(order) for order in every.glancer_.looked_][-1] == len(every.glancer_.known.eyes.tiles) == 12


@pytest.mark.parametrize("references", [1, 4])
def test_so_many_tiles_at_most_are_looked_at_and_the_threshold_is_of_the_same_looking(
    tiny_backbone: str, images: np.ndarray, references: int
) -> None:
    some = fitted(tiny_backbone, images, 3, references)
    found = some.predict(list(images))
    assert all(len(order) <= 3 for order in some.glancer_.looked_)
    assert found[0].anomaly_map.shape == SIZE
    left_out = [some.glancer_.judge(image[None], index).raw_scores.item() for index, image in enumerate(images[:4])]
    if references > 1:
        told = from_references(left_out, left_out, references)
        assert some.calibration_.image.centre == pytest.approx(told.image.centre, abs=1e-5)
    assert some.calibration_.threshold != fitted(tiny_backbone, images, None, references).calibration_.threshold


def test_an_image_is_looked_at_by_itself_and_alike_each_time(tiny_backbone: str, images: np.ndarray) -> None:
    some = fitted(tiny_backbone, images, 3)
    together = [each.raw_score for each in some.predict(list(images))]
    assert [some.predict(image)[0].raw_score for image in images] == pytest.approx(together, rel=1e-5)


def test_it_is_saved_with_all_that_it_knows(tiny_backbone: str, images: np.ndarray, tmp_path: Path) -> None:
    some = fitted(tiny_backbone, images, 3)
    loaded = Sowa.load(some.save(tmp_path / "some.sowa"), precision="fp32")
    assert (loaded.glances, loaded.tiled) == (3, True)
    before, after = some.predict(images[5])[0], loaded.predict(images[5])[0]
    assert (after.raw_score, after.threshold) == (before.raw_score, before.threshold)
    assert loaded.glancer_.looked_ == some.glancer_.looked_
    again = loaded.calibrate(list(images[4:5]))
    assert again.calibration_.threshold != some.calibration_.threshold


def test_what_cannot_be_is_said(tiny_backbone: str, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seen whole"):
        Sowa.from_pretrained(tiny_backbone, glances=3)
    with pytest.raises(InputError, match="glances are 0"):
        Sowa.from_pretrained(tiny_backbone, tiled=True, glances=0)
    with pytest.raises(InputError, match="saliency"):
        Sowa.from_pretrained(tiny_backbone, tiled=True, glances=3, saliency=SaliencyConfig(memory_weight=0.2))
    some = fitted(tiny_backbone, images, 3)
    with pytest.raises(InputError, match="looks at all tiles"):
        evaluate(some, "mvtec", [], EvaluationConfig())
    with pytest.raises(InputError, match="can't name defects"):
        some.name_defects(["hole"])
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
