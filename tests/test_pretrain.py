"""The scripts that make the weights of ``mini``: made-up tasks, what is learned from them, stopping and going on."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from open_clip import tokenize
from safetensors.torch import load_file, save_file

from sowa.core.config import Settings
from sowa.data.sources import ImageSource
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.extensions.names.namer import FLAWLESS
from sowa.model.mini import empty_clip
from sowa.shots.meta import MeasuredProducts
from sowa.synthetic import generate

SCRIPTS = Path(__file__).parents[1] / "pretrain"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:  # short names such as "losses" belong to the scripts alone
        if Path(getattr(sys.modules[name], "__file__", None) or ".").parent == SCRIPTS:
            del sys.modules[name]


FILES = {
    "objects/gear/image_0001.jpg": "gear",
    "objects/gear/n01440764_1.jpg": "gear",  # not of Caltech-101
    "objects/screw/image_0001.jpg": "screw",
    "textures/wood/1.png": "wood",
    "auxiliary/ballscrew/images/1.png": "brushed_metal",
    "deeppcb/group1/1/1_temp.jpg": "leather",
    "deeppcb/group1/1/1_test.jpg": "leather",
}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with what is read of the corpus and of the real data sets."""
    for index, (name, category) in enumerate(FILES.items()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), generate(category, size=208, seed=index).image[..., ::-1])
    return tmp_path


def test_only_what_a_business_may_train_on_is_read_and_no_category_held_out(photographs):
    from episodes import images_of

    found = images_of(photographs, photographs, ["screw"])
    assert [str(path.relative_to(photographs)) for path in found["objects"]] == ["objects/gear/image_0001.jpg"]
    assert [path.name for path in found["surfaces"]] == ["1.png", "1_temp.jpg"]


def test_a_board_s_mask_is_where_it_differs_from_its_template_inside_its_boxes(tmp_path):
    from boards import tested_boards

    template = np.zeros((64, 64, 3), np.uint8)
    tested = template.copy()
    tested[10:20, 10:20] = tested[40:50, 40:50] = 255
    for folder in ("group1/1", "group1/1_not"):
        (tmp_path / folder).mkdir(parents=True)
    for kind, image in (("temp", template), ("test", tested)):
        cv2.imwrite(str(tmp_path / f"group1/1/7_{kind}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    (tmp_path / "group1/1_not/7.txt").write_text("5 5 25 25 3\n")
    ((_, _, mask),) = tested_boards(tmp_path)
    expected = np.zeros((64, 64), bool)
    expected[10:20, 10:20] = True
    np.testing.assert_array_equal(mask, expected)


def test_an_episode_is_four_references_two_normal_and_four_defective_images(photographs):
    from episodes import KINDS, SIZE, episode, images_of

    images, kinds = images_of(photographs, photographs, []), set()
    for seed in range(8):
        made = episode(images, seed)
        kinds.add(made.kind)
        assert (made.images.shape, made.images.dtype) == ((10, SIZE, SIZE, 3), np.uint8)
        assert (made.masks.shape, made.masks.dtype) == ((10, SIZE, SIZE), np.bool_)
        assert not made.masks[:6].any()
        assert made.masks[6:].any(axis=(1, 2)).sum() >= 3
        assert len({image.tobytes() for image in made.images}) == 10, "an image twice"
    assert kinds == set(KINDS)
    again = episode(images, 7)
    np.testing.assert_array_equal(again.images, made.images)
    np.testing.assert_array_equal(again.masks, made.masks)


def patches(*directions: int) -> torch.Tensor:
    """(N, 324, 8): images whose patches all point along one axis each."""
    return torch.eye(8)[list(directions)][:, None].expand(-1, 324, -1).clone()


def test_few_shots_are_learned_where_a_defect_lies_near_the_references():
    from losses import few_shot_loss

    masks = torch.zeros(7, 72, 72)
    masks[6, :16, :16] = 1  # sixteen patches
    near, far = patches(0, 0, 0, 0, 0, 0, 0), patches(0, 0, 0, 0, 0, 0, 0)
    noise = 0.05 * torch.randn(near.shape, generator=torch.Generator().manual_seed(0))
    covered = torch.nn.functional.avg_pool2d(masks[6:], 4).flatten() > 0
    far[6, covered] = torch.eye(8)[1]
    assert few_shot_loss([far + noise], masks, 4) < 0.1 < 0.4 < few_shot_loss([near + noise], masks, 4)
    assert few_shot_loss([near + noise], torch.zeros_like(masks), 4) == 0


def test_the_dense_loss_is_low_where_the_defect_is_marked():
    from losses import coverage, dense_loss

    masks = torch.zeros(2, 72, 72)
    masks[0, 20:40, 20:40] = 1
    right = (coverage(masks) > 0).float()[None] * 20 - 10
    assert dense_loss(right, masks) < 0.01 < 1 < dense_loss(-right, masks)


def test_a_hidden_class_teaches_nothing():
    from losses import class_loss

    torch.manual_seed(0)
    features, names, scale = torch.randn(3, 8), torch.nn.functional.normalize(torch.randn(1000, 8)), torch.tensor(20.0)
    scores = torch.randn(3, 1000)
    loss = class_loss(features, scores, names, torch.tensor([5]), scale)
    scores[:, 5], names[5] = 100.0, -names[5]
    torch.testing.assert_close(class_loss(features, scores, names, torch.tensor([5]), scale), loss)
    assert class_loss(features, scores, names, torch.tensor([], dtype=torch.long), scale) != loss


@pytest.mark.slow
def test_a_stopped_run_ends_where_an_unbroken_one_does(tmp_path, monkeypatch):
    import vision

    monkeypatch.setattr(vision, "EPISODES", 1)
    monkeypatch.setattr(vision, "PHOTOGRAPHS", 1)
    monkeypatch.setattr(vision, "REAL", 1)
    folders = [tmp_path / "whole", tmp_path / "broken"]
    for folder in folders:
        write_features(folder)
    whole = vision.Run(folders[0], folders[0], ["tench"], steps=4)
    losses = [whole.learn() for _ in range(2)]
    whole.save()
    broken = vision.Run(folders[1], folders[1], ["tench"], steps=4)
    assert broken.learn() == losses[0]
    broken.save()
    again = vision.Run(folders[1], folders[1], ["tench"], steps=4)
    assert again.step == 1
    assert again.learn() == losses[1]
    again.save()
    one, two = (load_file(folder / "vision.safetensors") for folder in folders)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def write_features(folder: Path) -> None:
    """What ``features.py`` and ``text.py`` write, filled with noise."""
    draw = torch.Generator().manual_seed(0)

    def tokens(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, 577, 256, generator=draw).half()

    def masks(*shape: int) -> torch.Tensor:
        marked = torch.zeros(*shape, 96, 96, dtype=torch.uint8)
        marked[..., -1:, 30:60, 30:60] = 255
        return marked

    for part in ("episodes", "photographs", "auxiliary"):
        (folder / "features" / part).mkdir(parents=True)
    save_file({"tokens": tokens(1, 10), "masks": masks(1, 10)}, folder / "features/episodes/0.safetensors")
    scores = torch.randn(2, 1000, generator=draw).half()
    save_file({"tokens": tokens(2), "scores": scores}, folder / "features/photographs/0.safetensors")
    for name in ("ballscrew", "deeppcb", "glass174", "kolektorsdd", "sdu_fibre"):
        real = {"tokens": tokens(2), "masks": masks(2), "labels": torch.tensor([0, 1])}
        save_file(real, folder / f"features/auxiliary/{name}.safetensors")
    tower = {name: value for name, value in empty_clip().state_dict().items() if not name.startswith("visual.")}
    save_file({name: value.contiguous() for name, value in tower.items()}, folder / "text.safetensors")


def test_held_out_names_are_hidden_and_the_others_say_what_the_text_tower_says(tmp_path):
    from names import IMAGENET_CLASSNAMES, hidden_classes, imagenet_names

    write_features(tmp_path)
    assert [IMAGENET_CLASSNAMES[index] for index in hidden_classes(["tench", "emu", "no such name"])] == ["tench"]
    names, clip = imagenet_names(tmp_path), empty_clip()
    clip.load_state_dict(load_file(tmp_path / "text.safetensors"), strict=False)
    with torch.no_grad():
        expected = clip.encode_text(tokenize(["a photo of a goldfish"]), normalize=True)[0]
    torch.testing.assert_close(names[IMAGENET_CLASSNAMES.index("goldfish")], expected, atol=1e-5, rtol=1e-5)


def test_products_that_were_measured_are_not_measured_again(tiny_backbone, tmp_path, monkeypatch):
    import shots

    images = [generate("wood", size=96, seed=seed).image for seed in range(24)]
    asked = []

    def originals(name):
        asked.append(name)
        return [ImageSource(f"{name} {index}", image) for index, image in enumerate(images)], None

    products = [shots.Product(name, "wood", partial(originals, name)) for name in ("oak", "ash")]
    encoder = TorchEncoder.from_pretrained(tiny_backbone)
    monkeypatch.setattr(TorchEncoder, "from_pretrained", lambda name: encoder)
    target = tmp_path / "shots.json"
    for known in (products[:1], products):
        monkeypatch.setattr(shots, "products", lambda corpus, data, known=known: iter(known))
        shots.main(tmp_path, tmp_path, target)
    assert asked == ["oak", "ash"]
    learned = MeasuredProducts.read(target)
    assert [task.name for task in learned.tasks] == ["oak", "ash"]
    assert learned.tasks[0].curve == learned.tasks[1].curve  # the same images
    assert len(learned.tasks[0].traits) == len(learned.traits)


def test_the_namer_learns_from_what_it_has_cached(photographs, tmp_path, tiny_backbone, monkeypatch):
    import namer
    from episodes import images_of

    from sowa.extensions.names.weights import load_namer

    encoder = TorchEncoder.from_pretrained(tiny_backbone, settings=Settings(image_size=(384, 384)))
    monkeypatch.setattr(TorchEncoder, "from_pretrained", lambda name: encoder)
    monkeypatch.setattr(namer, "CATEGORIES", ("wood", "leather"))
    monkeypatch.setattr(namer, "STYLES", (1,))
    monkeypatch.setattr(namer, "SHARDS", 2)
    monkeypatch.setattr(namer, "SHARD", 10)
    images = images_of(photographs, photographs, ["screw"])
    kinds = {job.defect_type for job in namer.jobs(images)} - {None}
    build, out = tmp_path / "build", tmp_path / "namer.safetensors"
    namer.main(images, build, out, steps=3)
    first = load_file(out)
    assert load_namer(encoder.network.backbone, out).config.length == 4
    monkeypatch.setattr(namer, "encode", None)  # everything is there already
    namer.main(images, build, out, steps=3)
    assert all(torch.equal(value, first[name]) for name, value in load_file(out).items())
    examples = namer.Examples.read(build)
    assert set(examples.shown) <= kinds | {FLAWLESS}
    assert len(examples.unit) == len(examples.typical) == len(examples.image)
