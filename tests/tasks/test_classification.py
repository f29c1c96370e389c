"""Classification: folders in, classes out; what is learned, weighed, saved and told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from sowa.cli.app import run
from sowa.core.config import Settings
from sowa.core.files import read_safetensors, write_safetensors
from sowa.core.headers import CLASSIFY_FORMAT
from sowa.data.class_folders import Labelled, read_folders, read_test
from sowa.errors import InputError
from sowa.tasks.classification.classifier import Classifier
from sowa.tasks.classification.comparing import OURS, LabelledFeatures, compare
from sowa.tasks.classification.config import ClassifyConfig
from sowa.tasks.classification.evidence import Gaussians, class_means, weigh_names
from sowa.tasks.classification.learning import TRAINED_FROM, cosines, learn, new_head, train
from sowa.tasks.classification.measures import calibration_error, measure
from sowa.tasks.classification.network import Pooling, middle
from sowa.tasks.classification.open_set import NONE, named, nearness, others_than, text_centres, threshold_of
from sowa.tasks.classification.pooled_features import PooledFeatures, coarsen, encode_pooled
from sowa.tasks.classification.rivals import RIVALS, linear_probe, nearest_mean
from sowa.tasks.classification.weighing import fold_of, weigh
from sowa.tasks.encoding import LevelEncoder

QUICK = ClassifyConfig(steps=4)
COLOURS = {"red_dot": (200, 40, 40), "green dot": (40, 180, 40), "blue dot": (40, 40, 210)}


def image(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """A dot somewhere near the middle of grey noise."""
    random = np.random.default_rng(seed)
    pixels = random.integers(90, 160, (64, 64, 3), dtype=np.uint8)
    top, left = random.integers(8, 24, 2)
    pixels[top : top + 32, left : left + 32] = np.clip(np.array(colour) + random.integers(-30, 30, 3), 0, 255)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of each of three classes."""
    folder = tmp_path_factory.mktemp("classes")
    for label, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir()
        for number in range(8):
            image(colour, 100 * label + number).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def classifier(tiny_backbone: str, root: Path) -> Classifier:
    """Fitted on three quarters of them."""
    return Classifier.from_pretrained(tiny_backbone, settings=Settings(precision="fp32")).fit(root, config=QUICK)


@pytest.fixture(scope="module")
def seen(classifier: Classifier, root: Path) -> LabelledFeatures:
    """All of them, looked at."""
    folders = read_folders(root)
    return LabelledFeatures.of(classifier.encoder, folders.train)


def test_folders_are_classes_and_a_quarter_is_held_out(root):
    folders = read_folders(root, seed=3)
    assert folders.train.names == ("blue dot", "green dot", "red dot")  # underscores are spaces
    assert [len(folders.test.of_class(label)) for label in range(3)] == [2, 2, 2]
    both = {p.name for p in folders.train.images} | {p.name for p in folders.test.images}
    assert len(both) == 24
    assert read_folders(root, seed=3) == folders
    assert read_folders(root, seed=4).test != folders.test


@pytest.mark.parametrize("test", ["test", "val", "Validation"])
def test_folders_that_are_apart_stay_apart(root, tmp_path, test):
    for part, names in (("train", COLOURS), (test, list(COLOURS)[:2])):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            image((1, 2, 3), 0).save(tmp_path / part / name / "a.png")
    folders = read_folders(tmp_path)
    assert len(folders.train.images) == 3
    assert sorted(folders.test.labels) == [1, 2]  # green and red of blue, green, red
    assert read_test(tmp_path, folders.train.names).labels == folders.test.labels


def test_more_shots_extend_fewer(root):
    train = read_folders(root).train
    few, many = train.shots(2, seed=1), train.shots(4, seed=1)
    assert set(few) < set(many)
    assert [train.labels[place] for place in few] == [0, 0, 1, 1, 2, 2]
    assert train.shots(2, seed=2) != few


def test_a_file_says_what_folders_mean(root, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("red_dot = a ripe cherry\n\n")
    assert read_folders(root, words).train.names == ("blue dot", "green dot", "a ripe cherry")


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        image((9, 9, 9), 1).save(folder / name / "1.png")
        image((9, 9, 9), 2).save(folder / name / "2.png")


@pytest.mark.parametrize(
    ("names", "spoil", "said"),
    [
        (("a",), lambda root: None, "needed are 2 or more"),
        (("a", "b"), lambda root: (root / "c").mkdir(), "holds no image"),
        (("a b", "a_b"), lambda root: None, "stands for more than one class"),
        (("a", "b"), lambda root: (root / "a" / "1.png").unlink(), "has 1 image(s), needed are 2"),
        (("train/a", "train/b", "test/c"), lambda root: None, "unknown class 'c'"),
        (("test/a", "test/b"), lambda root: None, "has test but no train"),
        (
            ("a", "b"),
            lambda root: [path.write_bytes(b"no") for path in (root / "a").iterdir()],
            "class 'a' can be read",
        ),
        (
            ("a", "b"),
            lambda root: [path.rename(path.with_suffix(".xyz")) for path in (root / "a").iterdir()],
            "no image",
        ),
    ],
)
def test_folders_that_make_no_sense_are_refused_in_one_line(tmp_path, capsys, tiny_backbone, names, spoil, said):
    write(tmp_path, *names)
    spoil(tmp_path)
    out = tmp_path.parent / f"{tmp_path.name}.safetensors"
    flags = ["--root", str(tmp_path), "--out", str(out), "--backbone", tiny_backbone]
    assert run(["classify", "train", *flags]) == 2
    error = capsys.readouterr().err.splitlines()
    assert said in error[-1]
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--names", "a,a"], "'a' stands for more than one class"),
        (["--names", "a,,b"], "none without a name"),
        (["--names", "a"], "needed are 2"),
        ([], "either --model FILE"),
        (["--names", "a,b", "--model", "c.safetensors"], "either --model FILE"),
        (["--model", "c.safetensors"], "is no file"),
        (["--names", "a,b", "--templates", "nowhere.txt"], "is no readable text file"),
    ],
)
def test_names_that_make_no_sense_are_refused_in_one_line(root, capsys, tiny_backbone, flags, said):
    backbone = [] if "--model" in flags else ["--backbone", tiny_backbone]
    assert run(["classify", "predict", str(root), *flags, *backbone]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_it_tells_images_it_never_saw(classifier, tmp_path):
    assert classifier.metrics_.top1 >= 5 / 6
    for name, colour in COLOURS.items():
        found = classifier.predict(image(colour, 999))[0]
        assert found.name == name.replace("_", " ")
        assert sum(value for _, value in found.top) == pytest.approx(1, abs=1e-5)
        assert found.top[0] == (found.name, found.probability)


def test_one_image_does_not_depend_on_the_others(classifier, root):
    alone = classifier.predict(root / "red_dot" / "0.png")[0]
    among = classifier.predict([root / "blue dot", root / "red_dot" / "0.png"])[-1]
    assert alone.probability == pytest.approx(among.probability, abs=1e-4)


def test_saved_and_loaded_it_says_the_same(classifier, tiny_backbone, root, tmp_path):
    path = classifier.save(tmp_path / "dots.safetensors")
    again = Classifier.load(path, settings=Settings(precision="fp32"))
    assert [p.to_dict() for p in again.predict(root)] == [p.to_dict() for p in classifier.predict(root)]
    tensors, metadata = read_safetensors(path, CLASSIFY_FORMAT)
    assert {name.split(".")[0] for name in tensors} <= {"weights", "bias", "centres", "text_centres", "head"}
    assert metadata["metrics"]["top1"] == classifier.metrics_.top1


def test_what_was_learned_from_is_not_tested_on(classifier, root, tmp_path):
    labelled = read_test(root, classifier.names)
    again = Classifier.load(classifier.save(tmp_path / "dots.safetensors"))
    left = again.unlearned(labelled)
    assert {p.name for p in left.images} == {p.name for p in read_folders(root).test.images}
    with pytest.raises(InputError, match="all 18 images were learned from"):
        again.unlearned(read_folders(root).train)


def test_a_trained_head_is_saved_too(classifier, seen, root, tmp_path):
    other = Classifier(classifier.encoder).fit_features(seen, config=QUICK)
    train(other.learned_.head, seen.pooled, seen.labels, other.encoder.backbone, QUICK)
    weights = replace(other.learned_.weights, text=20.0)
    other.learned_ = replace(other.learned_, trained=True, weights=weights)
    again = Classifier.load(other.save(tmp_path / "trained.safetensors"), settings=Settings(precision="fp32"))
    assert torch.allclose(again.logits(seen.pooled), other.logits(seen.pooled), atol=1e-4)


def test_a_file_that_was_spoilt_is_refused(classifier, tmp_path):
    path = classifier.save(tmp_path / "dots.safetensors")
    tensors, metadata = read_safetensors(path, CLASSIFY_FORMAT)
    for change, said in (
        ({"bias": torch.full((3,), float("nan"))}, "bias"),
        ({"weights": torch.zeros(2, 2)}, "weights"),
    ):
        write_safetensors(path, {**tensors, **change}, CLASSIFY_FORMAT, metadata)
        with pytest.raises(InputError, match=said):
            Classifier.load(path)
    write_safetensors(path, tensors, CLASSIFY_FORMAT, metadata | {"config": {"classify": {"steps": 1}}})
    with pytest.raises(InputError, match="another version"):
        Classifier.load(path)


def test_an_untrained_head_is_the_backbones_zero_shot_classifier(classifier, seen):
    backbone = classifier.encoder.backbone
    head = new_head(["red dot", "cat"], 3, backbone, ClassifyConfig())
    told = Classifier.from_names(
        ["red dot", "cat"], backbone, templates=["a photo of a {}"], settings=Settings(precision="fp32")
    )
    ours = cosines(head, seen.pooled, backbone)
    assert torch.allclose(ours * 40, told.logits(seen.pooled), atol=1e-3)


def test_training_reaches_every_part(tiny_backbone, root):
    # Four windows, so that attention goes over them too.
    encoder = LevelEncoder(tiny_backbone, Settings(precision="fp32", image_size=(96, 96)))
    backbone, seen = encoder.backbone, LabelledFeatures.of(encoder, read_folders(root).train)
    head = new_head(seen.labelled.names, 6, backbone, ClassifyConfig())
    before = {name: value.clone() for name, value in head.state_dict().items()}
    frozen = {name: value.clone() for name, value in backbone.state_dict().items()}
    losses = train(head, seen.pooled, seen.labels, backbone, ClassifyConfig(steps=15, learning_rate=0.02))
    assert losses[-1] < losses[0]
    assert not [name for name, value in head.state_dict().items() if torch.equal(value, before[name])]
    assert all(torch.equal(value, frozen[name]) for name, value in backbone.state_dict().items())


def test_the_same_seed_learns_the_same(classifier, seen):
    backbone = classifier.encoder.backbone
    one, two, other = (
        learn(seen.pooled, seen.labels, seen.labelled.names, backbone, replace(QUICK, seed=seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(cosines(one.head, seen.pooled, backbone), cosines(two.head, seen.pooled, backbone))
    assert one.weights == two.weights
    assert not torch.equal(other.head.adapters[0].blocks[0].linear.weight, one.head.adapters[0].blocks[0].linear.weight)


def test_with_one_shot_nothing_is_trained(classifier, seen):
    one = seen.take(seen.labelled.shots(1, 0))
    learned = learn(one.pooled, one.labels, one.labelled.names, classifier.encoder.backbone, ClassifyConfig())
    assert not learned.trained
    assert learned.temperature == 1
    assert -1 <= learned.known <= 1
    assert TRAINED_FROM > 1


def test_steps_of_zero_train_nothing(classifier, seen):
    learned = learn(seen.pooled, seen.labels, seen.labelled.names, classifier.encoder.backbone, ClassifyConfig(steps=0))
    assert not learned.trained


def test_pooling_starts_as_one_softmax_over_the_image():
    tokens = torch.randn(3, 36, 8)
    pooled = Pooling(6, 8)(tokens)
    assert torch.allclose(pooled, middle(tokens[None]), atol=1e-5)


def test_pooling_looks_where_its_query_says():
    tokens = torch.randn(1, 36, 8)
    pooling = Pooling(6, 8)
    with torch.no_grad():
        pooling.inside.copy_(100 * torch.nn.functional.layer_norm(tokens[0, 17], (8,)))
        pooling.places.zero_()
    assert torch.nn.functional.cosine_similarity(pooling(tokens)[0], tokens[0, 17], dim=0) > 0.99


def test_coarse_tokens_are_means_of_neighbours():
    tokens = torch.arange(144.0).reshape(1, 144, 1)
    coarse = coarsen(tokens, (12, 12))
    assert coarse.shape == (1, 36, 1)
    assert coarse[0, 0, 0] == np.mean([0, 1, 12, 13])
    assert coarsen(tokens[:, :16], (4, 4)).shape == (1, 9, 1)
    assert coarsen(tokens[:, :4], (2, 2)).shape == (1, 4, 1)  # too few to be made fewer


def gaussian_looks(counts: int = 40, spread: float = 0.3) -> tuple[PooledFeatures, torch.Tensor, torch.Tensor]:
    """Two classes that differ along one axis only, and vary most along another."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat(counts)
    features = spread * torch.randn(2 * counts, 6, generator=random)
    features[:, 0] *= 8
    features[:, 1] += 2.0 * (labels * 2 - 1)
    tokens = torch.randn(1, 2 * counts, 9, 4, generator=random)
    return PooledFeatures(features, tokens.half(), tuple(range(2 * counts))), torch.zeros(2 * counts, 4), labels


def test_gaussians_ignore_what_varies_inside_classes():
    pooled, levels, labels = gaussian_looks()
    train, test = list(range(40)), list(range(40, 80))
    gaussians = Gaussians.fit(pooled.take(train), levels[train], labels[train], 2, 0.0)
    told = gaussians(pooled.features[test], levels[test]).argmax(dim=1)
    means = class_means(pooled.features[train], labels[train], 2)
    nearest = torch.cdist(pooled.features[test], means).argmin(dim=1)
    ours, theirs = (float((each == labels[test]).float().mean()) for each in (told, nearest))
    assert ours >= theirs
    assert ours > 0.97


def test_names_are_worth_what_they_tell():
    labels = torch.arange(3).repeat(8)
    useful = weigh_names(torch.eye(3)[labels] * 0.3, labels)
    useless = weigh_names(torch.randn(24, 3, generator=torch.Generator().manual_seed(1)) * 0.1, labels)
    assert useful.share > 0.8
    assert useless.share < 0.1
    assert useful.sharpness > useless.sharpness


def test_evidence_that_tells_nothing_counts_little():
    labels = torch.arange(4).repeat(30)
    good = torch.eye(4)[labels] + 0.3 * torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(120, 4, generator=torch.Generator().manual_seed(1)) * 0.2
    assert weigh(good, noise, labels).text <= 2
    assert weigh(good * 0.01, torch.eye(4)[labels] * 0.2, labels).text >= 10


def test_folds_share_every_class():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    fold = fold_of(labels, 3, seed=0)
    assert fold[-1] == -1  # the only image of its class
    for number in range(3):
        assert (labels[fold == number] == 0).sum() == 2
        assert (labels[fold == number] == 1).sum() == 1


def test_measures_agree_with_scikit_learn():
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 8, 300), random.normal(size=(300, 8))
    logits[np.arange(300), labels] += 1
    found = measure(torch.from_numpy(logits), torch.from_numpy(labels), tuple("abcdefgh"))
    assert found.top1 == pytest.approx((logits.argmax(1) == labels).mean())
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, logits, k=5))
    assert found.balanced == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))
    assert np.sum(found.confusion) == 300
    assert found.confusion[2][3] == ((labels == 2) & (logits.argmax(1) == 3)).sum()


def test_a_class_without_images_has_no_recall():
    found = measure(torch.eye(3)[:2], torch.tensor([0, 1]), ("a", "b", "c"))
    assert found.recall == {"a": 1.0, "b": 1.0, "c": None}
    assert found.balanced == 1.0


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    probabilities = np.tile([0.8, 0.2], (10, 1))
    assert calibration_error(probabilities, np.array([0] * 8 + [1] * 2)) == pytest.approx(0)
    assert calibration_error(probabilities, np.array([0] * 3 + [1] * 7)) == pytest.approx(0.5)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_the_sharpness_that_explains_held_out_images_is_found():
    random = torch.Generator().manual_seed(0)
    seen = torch.randn(4000, 5, generator=random)
    labels = torch.multinomial((12 * seen).softmax(dim=1), 1, generator=random)[:, 0]
    found = weigh(seen, torch.zeros(4000, 5), labels)
    assert found.visual == pytest.approx(12, rel=0.2)
    assert found.text == 0


def test_what_is_of_no_class_is_called_so(classifier, root):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert classifier.predict(noise, other=True)[0].name == NONE
    assert classifier.predict(noise)[0].name != NONE
    known = classifier.predict(root, other=True)
    assert np.mean([found.name != NONE for found in known]) > 0.8


def test_the_threshold_keeps_most_held_out_images():
    held_out, none = torch.linspace(0, 1, 101), torch.zeros(3, 2)
    assert threshold_of(held_out, torch.eye(3), none) == pytest.approx(0.05)
    centres = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), dim=-1)
    assert threshold_of(torch.zeros(0), centres, none) == pytest.approx(0.5**0.5)


def test_nearness_asks_names_as_far_as_they_tell():
    features, centres, names = torch.eye(3)[:2], torch.eye(3)[:1], torch.eye(3)[1:]
    assert nearness(features, centres, text_centres(names, share=0.9)).tolist() == [1.0, 0.5]
    assert nearness(features, centres, text_centres(names, share=0.0)).tolist() == [1.0, 0.0]


def test_other_names_leave_out_those_that_mean_the_same():
    names, vocabulary = torch.eye(4)[:1], torch.eye(4)
    others = others_than(names, vocabulary)
    assert torch.equal(others, vocabulary[1:])
    seen = named(torch.eye(4)[:2], names, others)
    assert seen[0] > 2
    assert seen[1] < 0.01


def test_names_alone_tell_and_may_refuse(tiny_backbone, root, tmp_path, capsys):
    names, templates = tmp_path / "names.txt", tmp_path / "templates.txt"
    names.write_text("red dot\ngreen dot\n")
    templates.write_text("a photo of a {}\na {}\n")
    lines = tmp_path / "out.jsonl"
    flags = ["--names", str(names), "--templates", str(templates), "--backbone", tiny_backbone, "--json", str(lines)]
    assert run(["classify", "predict", str(root / "red_dot"), *flags, "--other"]) == 0
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(found) == 8
    assert {each["class"] for each in found} <= {"red dot", "green dot", NONE}
    assert set(found[0]) == {"image_path", "class", "probability", "top"}


def test_templates_change_what_is_read(tiny_backbone, seen):
    one, two = (
        Classifier.from_names(["cat", "dog"], tiny_backbone, templates=[template], settings=Settings(precision="fp32"))
        for template in ("{}", "a blurred photo of a {}")
    )
    assert not torch.allclose(one.logits(seen.pooled), two.logits(seen.pooled))


def test_a_classifier_without_classes_says_so(tiny_backbone, root, tmp_path):
    empty = Classifier.from_pretrained(tiny_backbone)
    with pytest.raises(InputError, match="knows no class"):
        empty.predict(root)
    with pytest.raises(InputError, match="nothing to save"):
        empty.save(tmp_path / "x.safetensors")


def test_rivals_are_what_they_are_called():
    features = torch.nn.functional.normalize(torch.randn(60, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    labels = (features[:, 0] > 0).long()
    assert (linear_probe(features[:40], labels[:40], features[40:], 2) == labels[40:].numpy()).mean() > 0.85
    assert linear_probe(features[:2], torch.tensor([0, 1]), features[:2], 2).tolist() == [0, 1]  # a shot each
    means = torch.stack([features[labels == label].mean(dim=0) for label in (0, 1)])
    nearest = torch.nn.functional.cosine_similarity(features[:, None], means[None], dim=-1).argmax(dim=1)
    assert nearest_mean(features, labels, features, 2).tolist() == nearest.tolist()


def test_everything_is_compared_on_the_same_images(classifier, root):
    rows = compare(classifier.encoder, read_folders(root), [1, None], [0, 1], ClassifyConfig(steps=2))
    assert len(rows) == 4 * (1 + len(RIVALS))
    assert {row.method for row in rows} == {OURS, *RIVALS}
    assert all(0 <= row.top1 <= 1 and row.top1 == pytest.approx(row.balanced) for row in rows)  # as many of each class
    with pytest.raises(InputError, match="k-shot is 40"):
        compare(classifier.encoder, read_folders(root), [40], [0])


def test_broken_images_are_left_out_and_told(classifier, root, tmp_path):
    write(tmp_path, "a", "b")
    (tmp_path / "a" / "3.png").write_bytes(b"no image")
    labelled = read_test(tmp_path, ("a", "b"))
    pooled = encode_pooled(classifier.encoder, labelled.images)
    assert len(pooled.features) == len(pooled.kept) == 4
    assert 2 not in pooled.kept
    assert "3.png" in pooled.skipped[0][0]
    assert isinstance(labelled, Labelled)


def test_the_commands_train_test_and_predict(root, tiny_backbone, tmp_path, capsys):
    model, figure, numbers = tmp_path / "dots.safetensors", tmp_path / "confusion.png", tmp_path / "numbers.json"
    assert (
        run(
            [
                "classify",
                "train",
                "--root",
                str(root),
                "--out",
                str(model),
                "--backbone",
                tiny_backbone,
                "--k_shot",
                "4",
            ]
        )
        == 0
    )
    flags = ["--model", str(model), "--root", str(root), "--out", str(figure), "--json", str(numbers)]
    assert run(["classify", "test", *flags]) == 0
    found = json.loads(numbers.read_text())
    assert found["images"] == 12  # of 24 the others were learned from
    assert found["top1"] > 0.5
    with Image.open(figure) as drawn:
        assert drawn.size[0] > 100
    assert run(["classify", "predict", str(root / "red_dot"), "--model", str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["class"] in found["names"]
    compared = ["--compare", "--root", str(root), "--k-shot", "1,2", "--seeds", "0", "--backbone", tiny_backbone]
    assert run(["classify", "test", *compared, "--json", str(numbers)]) == 0
    assert {row["shots"] for row in json.loads(numbers.read_text())} == {1, 2}
    assert run(["classify", "test", *compared, "--model", str(model)]) == 2
    assert "leave --model" in capsys.readouterr().err.splitlines()[-1]
    assert run(["classify", "test", "--compare", "--root", str(root), "--k-shot", "some"]) == 2
