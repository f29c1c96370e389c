"""Detection: which cell finds which box, what boxes are worth, and that a tiny network learns and is resumed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sowa.core.config import AdapterConfig, Settings
from sowa.data.boxes import BoxSample, load_boxes
from sowa.errors import InputError, TrainingError
from sowa.synthetic.scenes import Inventory, compose, write_scenes
from sowa.tasks.detection.config import DetectConfig, DetectTrainConfig
from sowa.tasks.detection.decode import Boxes, decode
from sowa.tasks.detection.detector import BoxDetector
from sowa.tasks.detection.evaluate import ALARMS, measure, quiet_from
from sowa.tasks.detection.examples import VIEWS, EncodedView, Examples, check_views, encode_examples
from sowa.tasks.detection.losses import assign, box_losses
from sowa.tasks.detection.network import BoxNetwork, scales
from sowa.tasks.detection.queries import all_parts, asked, fits, parts, truth
from sowa.tasks.detection.train import hold_out, pace, train
from sowa.tasks.encoding import LevelEncoder

CONFIG = DetectConfig(adapter=AdapterConfig(window_size=4, heads=4, dropout=0.0), width=16)


@pytest.fixture(scope="module")
def encoder(tiny_backbone):
    return LevelEncoder(tiny_backbone, settings=Settings(precision="fp32"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    return write_scenes(root, Inventory({}), {"train": 6, "val": 3, "test": 3}, size=64, unseen=[("red", "star")])


@pytest.fixture(scope="module")
def boxes(scenes):
    return load_boxes("coco", scenes)


def detector_of(encoder, boxes, **changes):
    names = tuple(sorted({label for sample in boxes.of("train") for label in sample.labels}))
    return BoxDetector(names, DetectConfig(**{**vars(CONFIG), **changes}), encoder)


def cells_of(encoder, size=(64, 64)):
    network = BoxNetwork(["a"], CONFIG, encoder.backbone)
    tokens, _ = encoder(np.zeros((1, *size, 3), np.uint8))
    with torch.no_grad():
        return network(tokens, encoder.backbone.grid(size), encoder.backbone).cells


def test_cells_get_coarser_and_cover_the_image(encoder):
    assert scales(4) == (-1, 0, 1, 2)
    assert scales(1) == (-1,)
    cells = cells_of(encoder, (64, 96))
    assert [int((cells.level == level).sum()) for level in range(4)] == [8 * 12, 4 * 6, 2 * 3, 1 * 2]
    first = cells.centres[cells.level == 0]
    assert first.amin(dim=0).tolist() == [0.25, 0.25]
    assert first.amax(dim=0).tolist() == [5.75, 3.75]


corner = st.floats(0, 3.5)


@given(st.lists(st.tuples(corner, corner, st.floats(0.1, 4), st.floats(0.1, 4)), min_size=1, max_size=4))
def test_no_cell_has_two_boxes_and_a_lone_box_has_a_cell(encoder, drawn):
    cells = cells_of(encoder)
    wanted = torch.tensor([[x, y, min(x + w, 4.0), min(y + h, 4.0)] for x, y, w, h in drawn])
    chosen = assign(cells, wanted)
    assert chosen.shape == (len(cells.centres),)
    assert chosen.max() < len(wanted)
    for place in range(len(wanted)):
        alone = assign(cells, wanted[place : place + 1])
        assert (alone == 0).any()


def test_small_things_are_found_early_and_large_ones_late(encoder):
    cells = cells_of(encoder, (256, 256))
    small, large = torch.tensor([[2.0, 2.0, 3.0, 3.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    assert set(cells.level[assign(cells, small) == 0].tolist()) == {0}
    assert set(cells.level[assign(cells, large) == 0].tolist()) == {2}


def test_losses_of_an_image_without_boxes_teach_only_that_nothing_is_there(encoder):
    network = BoxNetwork(["a", "b"], CONFIG, encoder.backbone)
    tokens, _ = encoder(np.zeros((1, 64, 64, 3), np.uint8))
    found = network(tokens, (4, 4), encoder.backbone)
    logits = network.classify(found.embedding, network.read(encoder.backbone))
    objectness, box, kind = box_losses(found, logits, [torch.zeros(0, 4)], [torch.zeros(0, 2)])
    assert objectness > 0
    assert box == kind == 0


def test_of_overlapping_boxes_of_a_class_the_likeliest_stays():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0.1, 0, 2, 2], [0, 0, 2, 2], [3, 3, 9, 5]])
    objectness, logits = torch.full((4,), 5.0), torch.full((4, 2), -9.0)
    logits[0, 0], logits[1, 0], logits[2, 1], logits[3, 0] = 1, 3, 2, 0
    found = decode(boxes, objectness, logits, (4.0, 4.0), least=0.3)
    assert found.labels.tolist() == [0, 1, 0]
    assert torch.allclose(found.xyxy, torch.tensor([[0.1, 0, 2, 2], [0, 0, 2, 2], [3, 3, 4, 4]]))
    assert found.scores.diff().max() < 0
    assert not len(decode(boxes, objectness - 99, logits, (4.0, 4.0), least=0.3).scores)


@pytest.mark.parametrize("name", VIEWS)
def test_boxes_move_with_their_image(name):
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[0, 1:3, 2:7] = 255
    for view in VIEWS[name]:
        rows, columns = np.nonzero(view.images(image)[0, ..., 0])
        seen = [columns.min() / 8, rows.min() / 8, (columns.max() + 1) / 8, (rows.max() + 1) / 8]
        assert view.boxes(torch.tensor([[2 / 8, 1 / 8, 7 / 8, 3 / 8]]))[0].tolist() == pytest.approx(seen)


def test_views_are_checked():
    assert len(check_views(["hflip", "rotate90"], (64, 64))) == 4
    with pytest.raises(InputError, match="augment is 'tilt'"):
        check_views(["tilt"], (64, 64))
    with pytest.raises(InputError, match="squares"):
        check_views(["rotate90"], (64, 96))


def test_a_query_fits_what_has_all_of_its_words():
    assert parts("big red star") == ("big", "red", "star", "big red", "big star", "red star", "big red star")
    assert all(fits(part, "big red star") for part in parts("big red star"))
    assert not fits("red ring", "big red star")
    labels = ["big red star", "small blue ring"]
    assert truth(labels, ["red star", "ring", "blue star"], phrases=True).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert truth(labels, ["ring", "small blue ring"], phrases=False).tolist() == [[0, 0], [0, 1]]


def test_a_batch_is_asked_for_what_it_has_and_for_other_things():
    known = all_parts(f"{size} {colour} star" for size in ("big", "small") for colour in ("red", "blue", "green"))
    names = asked([["big red star"], []], known, np.random.default_rng(1))
    assert set(parts("big red star")) <= set(names) == set(known)
    assert names == asked([["big red star"], []], known, np.random.default_rng(1))


def examples_of(*placed: list[tuple[str, list[float]]]) -> Examples:
    """Images of 4 x 4 patches of 16 pixels with these boxes, in patches."""
    samples = tuple(BoxSample(None, (64, 64), (), tuple(label for label, _ in boxes)) for boxes in placed)
    corners = tuple(torch.tensor([box for _, box in boxes]).reshape(-1, 4) for boxes in placed)
    return Examples(samples, (EncodedView((), None, corners),), (4, 4), ())


def test_boxes_that_are_right_are_worth_one_and_others_count_as_false_alarms():
    examples = examples_of([("star", [0.0, 0, 1, 1]), ("ring", [2.0, 2, 4, 4])], [])
    right = Boxes(torch.tensor([[0.0, 0, 1, 1], [2, 2, 4, 4]]), torch.tensor([0.9, 0.8]), torch.tensor([0, 1]))
    nothing = Boxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    alarm = Boxes(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.85]), torch.tensor([0]))
    perfect = measure(examples, [right, nothing], ["star", "ring"])
    assert perfect.values["mAP50"] == perfect.values["mAP50-95"] == pytest.approx(1)
    assert perfect.values["mAP50 small"] == pytest.approx(1)
    assert perfect.values["mAP50 large"] is None
    assert perfect.per_class == {"star": pytest.approx(1), "ring": pytest.approx(1)}
    assert perfect.f1 == 1
    assert perfect.false_alarms == 0
    disturbed = measure(examples, [right, alarm], ["star", "ring"])
    assert disturbed.f1 == pytest.approx(0.8)
    assert disturbed.false_alarms == 0.5
    assert measure(examples, [nothing, nothing], ["star", "ring"]).values["mAP50"] == 0


@given(st.lists(st.floats(0.0625, 0.9375, width=32), max_size=80), st.integers(1, 60))
def test_a_query_for_what_is_not_there_is_answered_as_rarely_as_is_said(scores, count):
    # Of two names the first is in every image, the second in none.
    examples = examples_of(*[[("star", [0.0, 0, 1, 1])]] * count)
    nothing = Boxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    wrong = Boxes(torch.zeros(len(scores), 4), torch.tensor(scores), torch.ones(len(scores), dtype=torch.long))
    right = Boxes(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.02]), torch.tensor([0]))
    found = [wrong, *[right] * (count - 1)]
    threshold = quiet_from(examples, found, ["star", "ring"])
    counted = sum(score >= threshold for score in scores)
    assert counted <= ALARMS * count
    lower = max((score for score in scores if score < threshold), default=None)
    assert lower is None or sum(score >= lower for score in scores) > ALARMS * count
    assert quiet_from(examples, [nothing] * count, ["star"]) == 1


def test_boxes_must_overlap_by_half_and_count_once():
    examples = examples_of([("star", [0.0, 0, 2, 2])])
    twice = Boxes(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.9]]), torch.tensor([0.9, 0.8]), torch.tensor([0, 0]))
    assert measure(examples, [twice], ["star"]).f1 == 1
    aside = Boxes(torch.tensor([[1.0, 1, 3, 3]]), torch.tensor([0.9]), torch.tensor([0]))
    assert measure(examples, [aside], ["star"]).f1 == 0


def test_training_learns_and_a_killed_run_ends_as_one_that_was_not(encoder, boxes, tmp_path):
    config = DetectTrainConfig(epochs=4, batch_size=3, augment=("hflip",), checkpoint_every=1, learning_rate=1e-3)
    whole = detector_of(encoder, boxes)
    result = train(whole, boxes, config, tmp_path / "whole.safetensors")
    assert result.losses[-1] < result.losses[0]
    assert set(result.metrics.values) >= {"mAP50", "mAP50-95", "mAP50 small"}

    killed = detector_of(encoder, boxes)

    def kill(label, done, total):
        if label.startswith("train") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(killed, boxes, config, tmp_path / "killed.safetensors", kill)
    again = detector_of(encoder, boxes)
    train(again, boxes, config, tmp_path / "killed.safetensors")
    for name, value in whole.tensors().items():
        assert torch.equal(value, again.tensors()[name]), name
    assert not list(tmp_path.glob("*.checkpoint"))


def test_a_saved_detector_finds_the_same(encoder, boxes, scenes, tiny_backbone, tmp_path):
    detector = detector_of(encoder, boxes)
    detector.threshold_, detector.query_threshold_ = 0.05, 0.02
    loaded = BoxDetector.load(detector.save(tmp_path / "boxes.safetensors"), settings=Settings(precision="fp32"))
    assert (loaded.threshold_, loaded.query_threshold_) == (0.05, 0.02)
    queries = ["red star", "ring"]
    one, two = (list(each.predict(scenes / "test", queries, least=0.01)) for each in (detector, loaded))
    assert len(one) == 3
    for a, b in zip(one, two, strict=True):
        assert a.to_dict() == b.to_dict()
        assert set(a.labels) <= set(queries)
        assert (a.xyxy >= 0).all()
        assert (a.xyxy <= 64).all()


def test_boxes_are_in_pixels_of_the_image_itself(encoder, boxes):
    detector = detector_of(encoder, boxes)
    original = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    wide = np.repeat(original, 3, axis=1)
    (small,), (large,) = (list(detector.predict(image, least=0.001)) for image in (original, wide))
    assert small.size == (64, 64)
    assert large.size == (64, 192)
    assert large.xyxy[:, 2].max() > 64


def test_supervision_takes_boxes_as_they_are(encoder, boxes, scenes):
    supervision = pytest.importorskip("supervision")
    found = next(iter(detector_of(encoder, boxes).predict(scenes / "test", least=0.001)))
    taken = supervision.Detections(found.xyxy, confidence=found.confidence, class_id=found.class_id)
    assert len(taken) == len(found) > 0


def test_references_are_asked_for_where_the_detector_has_them_and_nowhere_else(encoder, boxes, scenes):
    image = np.zeros((64, 64, 3), np.uint8)
    plain, beside = detector_of(encoder, boxes), detector_of(encoder, boxes, reference=True)
    assert len(list(beside.predict([image, image], reference=image, least=0.001))) == 2
    with pytest.raises(InputError, match="give --reference"):
        list(beside.predict(image))
    with pytest.raises(InputError, match="2 references for 1"):
        list(beside.predict(image, reference=[image, image]))
    with pytest.raises(InputError, match="leave --reference out"):
        list(plain.predict(image, reference=image))
    with pytest.raises(InputError, match="has no reference"):
        encode_examples(encoder, boxes.of("train"), reference=True)


@pytest.mark.parametrize("queries", [[], [""], ["star", "star"], ["star", " star "]])
def test_queries_are_checked(encoder, boxes, queries):
    with pytest.raises(InputError, match="queries are"):
        list(detector_of(encoder, boxes).predict(np.zeros((64, 64, 3), np.uint8), queries))


def test_nothing_to_validate_on_or_to_learn_is_said(boxes):
    training, held_out = hold_out(boxes, 0.5, 0)
    assert [sample.split for sample in training + held_out] == ["train"] * 6 + ["validation"] * 3
    with pytest.raises(InputError, match="0 images to train on"):
        hold_out(type(boxes)(boxes.names, tuple(boxes.of("test"))), 0.5, 0)


def test_a_loss_that_is_no_number_stops_training(encoder, boxes, tmp_path):
    detector = detector_of(encoder, boxes)
    detector.network.linear.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        train(detector, boxes, DetectTrainConfig(epochs=1), tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_the_learning_rate_rises_then_falls():
    rates = [pace(step, 100) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == 1


def test_unseen_pairs_are_never_in_training_scenes():
    unseen = [("red", "star"), ("blue", "ring")]
    for seed in range(6):
        plain, test = (compose(Inventory({}), seed, 64, unseen, only) for only in (False, True))
        pairs = [[tuple(label.split()[1:]) for label in scene.labels] for scene in (plain, test)]
        assert not set(pairs[0]) & set(unseen)
        assert set(pairs[1]) & set(unseen)
        for x1, y1, x2, y2 in plain.boxes:
            assert 0 <= x1 < x2 <= 64
            assert 0 <= y1 < y2 <= 64
    with pytest.raises(InputError, match="leave some on each side"):
        compose(Inventory({}), 0, 64, only_unseen=True)
