"""``Sowa``: images in, predictions out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_clip
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

import sowa
from sowa.core.config import ModelConfig, PromptConfig, Settings
from sowa.core.decision import learned_rule
from sowa.core.files import read_metadata
from sowa.core.scoring import few_shot_scores, self_distances
from sowa.data import resize_image
from sowa.data.batches import PREFETCHED
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.extensions.faiss import FaissSearch
from sowa.model.checkpoint import seeded_network
from sowa.synthetic import generate
from sowa.synthetic.generator import defect_types

KEYS = ["image_path", "score", "raw_score", "threshold", "verdict", "is_anomalous", "seconds", "normal_percentile"]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def fitted(tiny_backbone: str, normal: Path) -> sowa.Sowa:
    """A fitted detector that tests only ask."""
    return sowa.Sowa.from_pretrained(tiny_backbone).fit(normal)


@pytest.fixture
def detector(tiny_backbone: str) -> sowa.Sowa:
    """A detector that hasn't been fitted."""
    return sowa.Sowa.from_pretrained(tiny_backbone)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def raw_scores(predictions: list[sowa.Prediction]) -> np.ndarray:
    return np.array([prediction.raw_score for prediction in predictions])


def test_the_public_names_are_there() -> None:
    for name in sowa.__all__:
        assert getattr(sowa, name)
    with pytest.raises(AttributeError, match="nothing"):
        sowa.nothing  # noqa: B018


def test_fit_returns_the_detector_and_records_its_references(detector: sowa.Sowa, normal: Path) -> None:
    assert not detector.is_fitted
    assert detector.fit(normal) is detector
    assert detector.is_fitted
    assert detector.references_ == [str(path) for path in sorted(normal.iterdir())]
    assert detector.seed_ == 0
    assert len(detector.bank_) == 6


def test_fit_replaces_the_old_bank(detector: sowa.Sowa, normal: Path, judged: Path, fitted: sowa.Sowa) -> None:
    detector.fit(noise(40, 40, 3)).fit(normal)
    assert detector.references_ == fitted.references_
    assert detector.calibration_ == fitted.calibration_
    np.testing.assert_array_equal(raw_scores(detector.predict(judged)), raw_scores(fitted.predict(judged)))


def test_a_fit_that_fails_leaves_the_old_bank(detector: sowa.Sowa, normal: Path, judged: Path) -> None:
    before = raw_scores(detector.fit(normal).predict(judged))
    with pytest.raises(InputError):
        detector.fit(normal, k_shot=99)
    with pytest.raises(InputError):
        detector.fit(normal / "nowhere")
    np.testing.assert_array_equal(raw_scores(detector.predict(judged)), before)


def test_fewer_shots_are_the_first_of_more_and_the_seed_is_recorded(detector: sowa.Sowa, normal: Path) -> None:
    draws = [detector.fit(normal, k_shot=k_shot, seed=3).references_ for k_shot in (1, 2, 4, 6)]
    assert detector.seed_ == 3
    assert [len(draw) for draw in draws] == [1, 2, 4, 6]
    assert all(more[: len(fewer)] == fewer for fewer, more in pairwise(draws))


def test_seeds_draw_different_references_and_the_same_seed_the_same(detector: sowa.Sowa, normal: Path) -> None:
    draws = [tuple(detector.fit(normal, k_shot=2, seed=seed).references_) for seed in (0, 1, 2, 3, 0)]
    assert len(set(draws[:4])) > 1
    assert draws[0] == draws[4]


@pytest.mark.parametrize("k_shot", [0, -1, 7])
def test_a_number_of_shots_that_can_t_be_drawn_is_refused(detector: sowa.Sowa, normal: Path, k_shot: int) -> None:
    with pytest.raises(InputError, match=rf"k-shot is {k_shot}, allowed is 1 to 6"):
        detector.fit(normal, k_shot=k_shot)


def test_broken_references_are_skipped_and_replaced(detector: sowa.Sowa, normal: Path, tmp_path: Path) -> None:
    for path in normal.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in ("000.png", "001.png", "002.png"):
        (tmp_path / name).write_bytes(b"broken")
    for seed in range(4):
        detector.fit(tmp_path, k_shot=3, seed=seed)
        assert sorted(Path(name).name for name in detector.references_) == ["003.png", "004.png", "005.png"]
    with pytest.raises(InputError, match="only 3 of 6 images can be read"):
        detector.fit(tmp_path, k_shot=4)
    assert {Path(name).name for name, _ in detector.skipped_} == {"000.png", "001.png", "002.png"}


def test_one_image_is_enough(detector: sowa.Sowa, normal: Path) -> None:
    detector.fit(normal / "000.png")
    (prediction,) = detector.predict(normal / "000.png")
    assert prediction.raw_score == pytest.approx(0, abs=1e-5)
    assert not prediction.is_anomalous
    assert 0 < detector.calibration_.threshold < 2


def test_identical_references_work(detector: sowa.Sowa, normal: Path) -> None:
    detector.fit([normal / "000.png"] * 4)
    assert np.isfinite(detector.calibration_.threshold)
    assert detector.calibration_.threshold > 0
    prediction = detector.predict(noise(50, 50, 3))[0]
    assert prediction.is_anomalous
    assert np.isfinite(prediction.score)


def test_plain_black_references_work(detector: sowa.Sowa) -> None:
    detector.fit([np.zeros((30, 30, 3), np.uint8)] * 2)
    assert np.isfinite(detector.predict(np.zeros((30, 30, 3), np.uint8))[0].score)


def test_more_references_than_calibration_looks_at_work(detector: sowa.Sowa) -> None:
    detector.fit([noise(20, 20, 3, seed=index) for index in range(40)])
    assert len(detector.references_) == len(detector.bank_) == 40


def test_the_bank_grows_no_further_with_many_references(
    detector: sowa.Sowa, judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = [noise(64, 64, 3, seed=index) for index in range(8)]
    patches = detector.fit(references).bank_.features.shape[2]
    monkeypatch.setattr("sowa.detector.references.MOST_PATCHES", 4 * patches)
    assert detector.fit(references).bank_.features.shape[1:3] == (8, patches // 2)
    assert detector.fit(references, patch_fraction=1.0).bank_.features.shape[2] == patches
    assert detector.fit(references, patch_fraction=1e-9).bank_.features.shape[2] == 1
    detector.fit(references, patch_fraction=0.25)
    again = sowa.Sowa.load(detector.save(tmp_path / "few.sowa"))
    assert again.bank_.features.shape[1:3] == (8, patches // 4)
    np.testing.assert_array_equal(raw_scores(again.predict(judged)), raw_scores(detector.predict(judged)))


def test_a_bank_may_be_searched_by_faiss(tiny_backbone: str, fitted: sowa.Sowa, normal: Path, judged: Path) -> None:
    indexed = sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(search="faiss")).fit(normal)
    assert indexed.calibration_ == fitted.calibration_  # leaving out is exact
    exact = raw_scores(fitted.predict(judged))
    found = raw_scores(indexed.predict(judged))
    assert (found > exact - 1e-3).all()
    np.testing.assert_allclose(found, exact, rtol=0.2)


def test_faiss_is_missed_before_anything_is_encoded(tiny_backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match="pip install faiss-cpu"):
        sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(search="faiss"))


def test_without_faiss_nothing_is_lost(
    tiny_backbone: str, normal: Path, judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal)
    before = raw_scores(detector.predict(judged))
    detector._search = FaissSearch()
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match="pip install faiss-cpu"):
        detector.fit(judged)
    np.testing.assert_array_equal(raw_scores(detector.predict(judged)), before)


def sources(path: Path) -> dict[str, Any]:
    array = read(path)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    return {
        "text": str(path),
        "path": path,
        "pattern": str(path.with_name("00[0].png")),
        "list": [path],
        "pillow": Image.fromarray(array),
        "array": array,
        "tensor uint8": tensor,
        "tensor float": tensor.float() / 255,
        "batch of tensors": (tensor.float() / 255)[None],
        "batch of arrays": array[None],
    }


def test_every_kind_of_source_gives_the_same_verdict(fitted: sowa.Sowa, judged: Path) -> None:
    found = {kind: fitted.predict(source) for kind, source in sources(judged / "good" / "000.png").items()}
    assert {kind: len(predictions) for kind, predictions in found.items()} == dict.fromkeys(found, 1)
    scores = np.array([predictions[0].raw_score for predictions in found.values()])
    np.testing.assert_allclose(scores, scores[0], atol=1e-5)


def test_every_kind_of_source_can_be_fitted(detector: sowa.Sowa, judged: Path) -> None:
    path = judged / "good" / "000.png"
    thresholds = [detector.fit(source).calibration_.threshold for source in sources(path).values()]
    np.testing.assert_allclose(thresholds, thresholds[0], rtol=1e-4)


def test_grey_arrays_and_mixed_lists_are_judged_in_order(fitted: sowa.Sowa, judged: Path) -> None:
    grey, folder = noise(30, 20), judged / "good"
    predictions = fitted.predict([grey, folder, torch.rand(2, 3, 30, 20), Image.fromarray(grey)])
    names = [f"{folder}/{index:03d}.png" for index in range(3)]
    assert [p.image_path for p in predictions] == ["array-0000", *names, "array-0004", "array-0005", "array-0006"]
    assert predictions[0].raw_score == pytest.approx(predictions[-1].raw_score, abs=1e-5)


def test_a_folder_is_judged_in_the_order_of_its_names(fitted: sowa.Sowa, judged: Path) -> None:
    names = [prediction.image_path for prediction in fitted.predict(judged)]
    assert names == sorted(names)
    assert len(names) == 10


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_score_depends_neither_on_companions_nor_on_the_batch_size(
    fitted: sowa.Sowa, judged: Path, batch_size: int
) -> None:
    together = fitted.predict(judged, batch_size=batch_size)
    alone = [fitted.predict(prediction.image_path)[0] for prediction in together]
    np.testing.assert_allclose(raw_scores(together), raw_scores(alone), atol=1e-5)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-5)
        assert one.score == pytest.approx(other.score, abs=1e-4)


def test_the_batch_size_of_fit_changes_nothing(detector: sowa.Sowa, normal: Path, fitted: sowa.Sowa) -> None:
    detector.fit(normal, batch_size=1)
    torch.testing.assert_close(detector.bank_.features, fitted.bank_.features, atol=1e-5, rtol=0)
    assert detector.calibration_.threshold == pytest.approx(fitted.calibration_.threshold, abs=1e-5)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_refused(
    detector: sowa.Sowa, fitted: sowa.Sowa, normal: Path, batch_size: int
) -> None:
    with pytest.raises(InputError, match="batch size"):
        detector.fit(normal, batch_size=batch_size)
    with pytest.raises(InputError, match="batch size"):
        list(fitted.predict(normal, batch_size=batch_size))


def test_a_stream_reads_and_computes_only_as_it_is_asked(
    fitted: sowa.Sowa, judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = [], []
    original = sowa.data.sources.read_image
    monkeypatch.setattr("sowa.data.sources.read_image", lambda path: read.append(path) or original(path))
    encode = fitted.encoder.encode
    monkeypatch.setattr(fitted.encoder, "encode", lambda images: seen.append(len(images)) or encode(images))
    stream = fitted.predict([judged / "good" / "000.png"] * 60, stream=True, batch_size=2)
    assert isinstance(stream, Iterator)
    assert not read
    next(stream)
    assert seen == [2]
    assert len(read) <= 2 + PREFETCHED
    next(stream)
    assert seen == [2]
    next(stream)
    assert seen == [2, 2]
    assert len(read) <= 4 + PREFETCHED
    stream.close()


def test_a_stream_gives_what_a_list_gives(fitted: sowa.Sowa, judged: Path) -> None:
    streamed = list(fitted.predict(judged, stream=True, batch_size=4))
    np.testing.assert_allclose(raw_scores(streamed), raw_scores(fitted.predict(judged)), atol=1e-5)


def test_a_wrong_source_is_refused_at_once_even_as_a_stream(fitted: sowa.Sowa, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        fitted.predict(tmp_path / "nowhere", stream=True)


def test_broken_images_are_skipped_with_a_reason(fitted: sowa.Sowa, judged: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    good = judged / "good" / "000.png"
    assert [p.image_path for p in fitted.predict([tmp_path, good])] == [str(good)]
    assert [name for name, _ in fitted.skipped_] == [str(tmp_path / "a.png")]
    with pytest.raises(InputError, match=r"none of 1 images can be read.*a\.png"):
        fitted.predict(tmp_path)
    fitted.predict(good)
    assert fitted.skipped_ == []


def test_a_detector_that_knows_nothing_refuses_to_judge(detector: sowa.Sowa) -> None:
    with pytest.raises(InputError, match="fit the detector"):
        detector.predict(noise(30, 30, 3))
    with pytest.raises(InputError, match="fit the detector"):
        detector.predict(noise(30, 30, 3), stream=True)


def check_verdicts(detector: sowa.Sowa, predictions: list[sowa.Prediction]) -> None:
    """0.5 is the boundary of the score, the threshold that of the raw score and the pixel threshold of the map."""
    for prediction in predictions:
        assert prediction.threshold == detector.calibration_.threshold
        assert prediction.is_anomalous == (prediction.raw_score > prediction.threshold)
        assert prediction.is_anomalous == (prediction.score > 0.5)
        assert 0 <= prediction.score <= 1
        np.testing.assert_array_equal(prediction.mask, prediction.anomaly_map > prediction.pixel_threshold)


def test_scores_masks_and_verdicts_agree(fitted: sowa.Sowa, judged: Path) -> None:
    predictions = fitted.predict([judged, noise(40, 40, 3)])
    check_verdicts(fitted, predictions)
    assert {prediction.is_anomalous for prediction in predictions} == {True, False}
    order = np.argsort(raw_scores(predictions))
    assert np.all(np.diff([predictions[index].score for index in order]) >= 0)


def test_a_detector_with_prompts_and_no_bank_judges_zero_shot(detector: sowa.Sowa, judged: Path) -> None:
    detector.encoder.trained = True
    predictions = detector.predict(judged)
    check_verdicts(detector, predictions)
    assert predictions[0].level_maps.shape == (4, 4, 4)


def test_a_detector_with_prompts_and_bank_agrees_with_itself(detector: sowa.Sowa, normal: Path, judged: Path) -> None:
    detector.encoder.trained = True
    detector.fit(normal)
    check_verdicts(detector, detector.predict(judged))


def test_maps_have_the_shapes_that_are_promised(fitted: sowa.Sowa) -> None:
    prediction = fitted.predict(noise(30, 50, 3))[0]
    assert prediction.anomaly_map.shape == prediction.mask.shape == (64, 64)
    assert prediction.anomaly_map.dtype == np.float32
    assert prediction.mask.dtype == bool
    assert prediction.level_maps.shape == (4, 4, 4)
    assert prediction.level_maps.dtype == np.float32
    assert (prediction.anomaly_map >= 0).all()


def test_another_image_size_need_not_be_square(tiny_backbone: str, normal: Path, judged: Path) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(image_size=(96, 32))).fit(normal)
    prediction = detector.predict(judged / "good")[0]
    assert prediction.anomaly_map.shape == prediction.mask.shape == (96, 32)
    assert prediction.level_maps.shape == (4, 6, 2)


def test_image_sizes_give_different_scores(tiny_backbone: str, fitted: sowa.Sowa, normal: Path, judged: Path) -> None:
    larger = sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(image_size=(128, 128))).fit(normal)
    assert not np.allclose(raw_scores(larger.predict(judged)), raw_scores(fitted.predict(judged)), atol=1e-3)


@pytest.mark.parametrize("image_size", [(0, 0), (-16, 64), (10, 10), (64, 65)])
def test_an_image_size_that_isn_t_a_multiple_of_the_patch_is_refused(
    tiny_backbone: str, image_size: tuple[int, int]
) -> None:
    with pytest.raises(InputError, match="multiples of the patch"):
        sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(image_size=image_size))


def test_half_precision_runs_on_the_cpu_and_stays_close(tiny_backbone: str, normal: Path, judged: Path) -> None:
    half, full = (
        # So few views that all of their patches are held: of more the farthest are, which a digit may turn.
        sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(precision=precision)).fit(normal, augment=("hflip",))
        for precision in ("bf16", "fp32")
    )
    predictions = half.predict(judged)
    assert predictions[0].anomaly_map.dtype == np.float32
    np.testing.assert_allclose(raw_scores(predictions), raw_scores(full.predict(judged)), rtol=0.05)


@pytest.mark.parametrize("options", [{"device": "abacus"}, {"precision": "int3"}, {"device": "mps:x"}, {"search": "x"}])
def test_an_unknown_device_precision_or_search_is_refused(tiny_backbone: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(**options))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 400, 3), (3, 2, 3)])
def test_images_smaller_than_a_patch_are_judged_and_drawn(
    fitted: sowa.Sowa, tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    (prediction,) = fitted.predict(noise(*shape))
    prediction.save(tmp_path)
    assert prediction.plot().shape == shape
    assert read(tmp_path / "array-0000_mask.png").shape == shape[:2]


def test_the_dictionary_has_exactly_the_documented_keys_and_is_json(fitted: sowa.Sowa, judged: Path) -> None:
    (prediction,) = fitted.predict(judged / "good" / "000.png")
    found = prediction.to_dict()
    assert list(found) == KEYS
    assert json.loads(json.dumps(found)) == found
    assert [type(value) for value in found.values()] == [str, float, float, float, str, bool, float, float]
    assert found["seconds"] >= 0
    assert found["raw_score"] == pytest.approx(prediction.raw_score, abs=1e-6)


@pytest.mark.parametrize("size", [(37, 120), (900, 1300)])
def test_saved_files_have_the_image_s_own_size_and_differ_from_it(
    fitted: sowa.Sowa, tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "part.png"
    Image.fromarray(resize_image(noise(9, 9, 3), size)).save(path)
    (prediction,) = fitted.predict(path)
    assert prediction.mask.any()
    drawn = prediction.save(tmp_path / "results" / "deeper")
    assert drawn == tmp_path / "results" / "deeper" / "part_overlay.jpg"
    assert sorted(file.name for file in drawn.parent.iterdir()) == ["part_mask.png", "part_overlay.jpg"]
    mask = read(drawn.with_name("part_mask.png"))
    assert mask.shape == size
    assert set(np.unique(mask)) <= {0, 255}
    overlay = read(drawn).astype(int)
    assert overlay.shape == (*size, 3)
    assert np.abs(overlay - prediction.image).mean() > 5
    np.testing.assert_array_equal(prediction.plot().shape, overlay.shape)


def test_a_prediction_saves_under_a_given_name_and_twice_without_harm(fitted: sowa.Sowa, tmp_path: Path) -> None:
    (prediction,) = fitted.predict(noise(20, 20, 3))
    first = prediction.save(tmp_path, "name").read_bytes()
    assert prediction.save(tmp_path, "name").read_bytes() == first
    assert sorted(file.name for file in tmp_path.iterdir()) == ["name_mask.png", "name_overlay.jpg"]


def test_a_prediction_holds_no_image_that_lies_on_disk(fitted: sowa.Sowa, judged: Path) -> None:
    (prediction,) = fitted.predict(judged / "good" / "000.png")
    assert prediction.source == judged / "good" / "000.png"
    assert prediction.image.shape == (96, 96, 3)


@pytest.mark.parametrize("trained", [False, True])
def test_saving_and_loading_changes_no_verdict(
    detector: sowa.Sowa, normal: Path, judged: Path, tmp_path: Path, trained: bool
) -> None:
    detector.encoder.trained = trained
    detector.fit(normal, k_shot=3, seed=5)
    loaded = sowa.Sowa.load(detector.save(tmp_path / "deep" / "part.sowa"))
    assert (loaded.references_, loaded.seed_) == (detector.references_, 5)
    assert (loaded.calibration_, loaded.encoder.trained) == (detector.calibration_, trained)
    for one, other in zip(loaded.predict(judged), detector.predict(judged), strict=True):
        assert one.raw_score == pytest.approx(other.raw_score, abs=1e-6)
        assert one.is_anomalous == other.is_anomalous
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-6)


def test_a_loaded_detector_can_be_saved_again_and_keeps_size_and_category(
    tiny_backbone: str, normal: Path, tmp_path: Path
) -> None:
    made = sowa.Sowa.from_pretrained(tiny_backbone, settings=Settings(image_size=(32, 96), category="object")).fit(
        normal
    )
    first = made.save(tmp_path / "a.sowa")
    loaded = sowa.Sowa.load(first)
    assert (loaded.image_size, loaded.encoder.category) == ((32, 96), "object")
    again = loaded.save(tmp_path / "b.sowa")
    assert read_metadata(again) == read_metadata(first)
    assert load_file(again).keys() == load_file(first).keys()


def test_a_loaded_detector_can_be_fitted_anew(fitted: sowa.Sowa, normal: Path, tmp_path: Path) -> None:
    loaded = sowa.Sowa.load(fitted.save(tmp_path / "part.sowa")).fit(normal, k_shot=2)
    assert len(loaded.bank_) == 2


def test_saving_what_isn_t_fitted_is_refused_and_writes_nothing(detector: sowa.Sowa, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fit"):
        detector.save(tmp_path / "part.sowa")
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_whose_weights_have_changed_is_refused(tiny_backbone: str, normal: Path, tmp_path: Path) -> None:
    backbone, file = tmp_path / "backbone.safetensors", tmp_path / "part.sowa"
    backbone.write_bytes(Path(tiny_backbone).read_bytes())
    sowa.Sowa.from_pretrained(str(backbone)).fit(normal).save(file)
    sowa.Sowa.load(file)
    save_file({name: value.contiguous() for name, value in tiny_clip(seed=1).state_dict().items()}, backbone)
    with pytest.raises(InputError, match="other weights"):
        sowa.Sowa.load(file)
    backbone.unlink()
    with pytest.raises(InputError, match=r"backbone\.safetensors"):
        sowa.Sowa.load(file)


def test_without_references_an_image_s_own_patches_move_score_and_boundary(tiny_backbone: str) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    judged = {}
    for weight in (0.0, 2.0):
        config = ModelConfig(prompt=PromptConfig(self_weight=weight))
        detector = sowa.Sowa(
            TorchEncoder(seeded_network(tiny_backbone, config), trained=True, settings=Settings(precision="fp32"))
        )
        judged[weight] = detector.predict(list(images))
    published, weighed = ([(each.raw_score, each.threshold) for each in judged[weight]] for weight in (0.0, 2.0))
    assert all(0 < score < 1 and threshold == 0.5 for score, threshold in published)
    own = few_shot_scores(self_distances(detector.encoder.encode(images).patches)).tolist()
    expected = [
        (score + 2 * more, 0.5 + 2 * 4 * learned_rule().self_boundary)
        for (score, _), more in zip(published, own, strict=True)
    ]
    np.testing.assert_allclose(weighed, expected, atol=1e-4)


@pytest.fixture(scope="module")
def metal() -> sowa.Sowa:
    """The default backbone, fitted on four images of metal."""
    return sowa.Sowa.from_pretrained("mini").fit([generate("brushed_metal", seed=seed).image for seed in range(4)])


@pytest.mark.slow
def test_the_embedded_backbone_tells_damaged_metal_from_good(metal: sowa.Sowa, tmp_path: Path) -> None:
    """The whole way with the default backbone: four references, images of 384 pixels, files on disk."""
    good = [generate("brushed_metal", seed=seed) for seed in range(10, 13)]
    kinds = defect_types("brushed_metal")[:5]
    bad = [generate("brushed_metal", defect_type=kind, seed=100, severity=0.9) for kind in kinds]
    predictions = metal.predict([piece.image for piece in good + bad])
    labels = [0] * len(good) + [1] * len(bad)
    assert roc_auc_score(labels, raw_scores(predictions)) == 1.0
    alarms = [prediction.is_anomalous for prediction in predictions]
    assert alarms[1:] == [bool(label) for label in labels[1:]]  # of the first, the test below
    for piece, prediction in zip(bad, predictions[len(good) :], strict=True):
        down, right = np.unravel_index(prediction.anomaly_map.argmax(), prediction.anomaly_map.shape)
        patch = 16  # the hot spot lies at most a patch away from the defect
        around = (slice(max(0, down - patch), down + patch + 1), slice(max(0, right - patch), right + patch + 1))
        assert piece.mask[around].any(), piece.defect_type
    drawn = predictions[-1].save(tmp_path)
    assert read(drawn).shape == (384, 384, 3)
    assert read(tmp_path / "array-0007_mask.png").max() == 255
    loaded = sowa.Sowa.load(metal.save(tmp_path / "metal.sowa"))
    assert loaded.predict(bad[0].image)[0].raw_score == pytest.approx(predictions[len(good)].raw_score, abs=1e-5)


def test_good_metal_with_a_bright_streak_is_good(metal: sowa.Sowa) -> None:
    assert not metal.predict(generate("brushed_metal", seed=10).image)[0].is_anomalous
