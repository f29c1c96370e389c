"""Backbones by name: files, random weights, the embedded one, and names that lead nowhere."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from conftest import tiny_clip
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from torch import Tensor

from sowa.errors import InputError
from sowa.model.backbone import Backbone
from sowa.model.mini import (
    PARTS,
    UNTRAINED,
    WORD_STEPS,
    WORDS,
    EmphasisBlock,
    compress,
    empty_clip,
    fold_norms,
    read_weights,
    trained_weights_path,
    weights_path,
)
from sowa.model.pretrained import build_backbone
from sowa.synthetic import generate


def refused(name: str) -> str:
    with pytest.raises(InputError) as caught:
        build_backbone(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def tiny_state() -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in tiny_clip().state_dict().items()}


def originals(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def agrees(backbone: Backbone, clip: open_clip.CLIP, tolerance: float) -> None:
    tokens = backbone.tokenize(["a damaged object."])
    with torch.no_grad():
        image, text = clip.encode_image(originals()), clip.encode_text(tokens)
        found = backbone.encode_text(backbone.embed_tokens(tokens), tokens.argmax(dim=-1))
        torch.testing.assert_close(backbone(originals()).image_feature, image, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(found, text, atol=tolerance, rtol=tolerance)


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


# ------------------------------------------------------------------------------------------ files under OpenAI's names


def test_a_safetensors_file_under_openais_names_is_that_clip(tiny_backbone):
    backbone = build_backbone(tiny_backbone)
    assert backbone.name == tiny_backbone
    assert backbone.levels == (0, 1, 2, 3)
    assert backbone.image_size == (64, 64)
    agrees(backbone, tiny_clip(), 1e-2)


def test_a_file_in_full_precision_keeps_its_precision(tiny_backbone):
    """Not rounded to half precision on the way in, as OpenAI's own files are."""
    visual = build_backbone(tiny_backbone).visual
    assert torch.equal(visual.conv1.weight, tiny_clip().visual.conv1.weight)
    agrees(build_backbone(tiny_backbone), tiny_clip(), 1e-5)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_saved_state_dict_is_that_clip(tmp_path, half, wrapped):
    path = tmp_path / "tiny.pt"
    state = {name: value.half() if half else value for name, value in tiny_state().items()}
    torch.save({"state_dict": state} if wrapped else state, path)
    backbone = build_backbone(str(path), levels=(3,))
    assert backbone.levels == (3,)
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    agrees(backbone, tiny_clip(), 1e-2)


def test_a_half_precision_file_is_computed_in_full(tmp_path):
    path = tmp_path / "half.safetensors"
    save_file({name: value.half() for name, value in tiny_state().items()}, path)
    clip = tiny_clip()
    clip.load_state_dict({name: value.half().float() for name, value in tiny_state().items()})
    agrees(build_backbone(str(path)), clip, 1e-5)


def test_files_under_openais_names_always_mean_quick_gelu(tiny_backbone):
    blocks = build_backbone(tiny_backbone).visual.transformer.resblocks
    assert all(isinstance(block.mlp.gelu, QuickGELU) for block in blocks)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "code ran"
    plain, torchs = tmp_path / "plain.pt", tmp_path / "torch.pt"
    plain.write_bytes(pickle.dumps({**tiny_state(), "bomb": Bomb(marker)}))
    torch.save({**tiny_state(), "bomb": Bomb(marker)}, torchs)
    for name in (str(plain), str(torchs), f"ViT-S-32-alt:{plain}", f"ViT-S-32-alt:{torchs}"):
        refused(name)
    assert not marker.exists()
    torch.load(torchs, weights_only=False)
    assert marker.exists()  # the file would have run


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, tiny_backbone, suffix, part):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pt":
        torch.save(tiny_state(), path)
    else:
        shutil.copy(tiny_backbone, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert "can't be read as weights" in refused(str(path))


@pytest.mark.parametrize("content", [[1, 2], {}, {1: 2}, torch.zeros(3)], ids=["list", "empty", "number", "tensor"])
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.pt")
    assert "can't be read as weights" in refused(str(tmp_path / "odd.pt"))


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no weights in here")
    assert "can't be read as weights" in refused(str(tmp_path / "notes.txt"))


def test_weights_under_other_names_are_refused_with_the_way_out(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"encoder.weight": torch.zeros(2)}, path)
    message = refused(str(path))
    assert "no weights under OpenAI's CLIP names (visual.proj is missing)" in message
    assert f"use NAME:{path}" in message


def test_a_resnet_under_openais_names_is_refused(tmp_path):
    path = tmp_path / "resnet.safetensors"
    state = {name: value for name, value in tiny_state().items() if not name.startswith("visual.")}
    save_file({**state, "visual.layer1.0.conv1.weight": torch.zeros(8, 8, 1, 1)}, path)
    assert "visual.proj is missing" in refused(str(path))


@pytest.mark.parametrize(
    "change",
    [
        {"visual.proj": torch.zeros(3, 3)},
        {"visual.conv1.weight": torch.zeros(3)},
        {"ln_final.weight": None},
        {"visual.transformer.resblocks.1.ln_1.weight": None},
        {"epoch": 3},
    ],
    ids=["wrong shape", "wrong dimensions", "a text weight missing", "a vision weight missing", "no tensor"],
)
def test_a_file_that_is_nearly_openais_is_refused_in_one_line(tmp_path, change):
    state = {name: value for name, value in {**tiny_state(), **change}.items() if value is not None}
    torch.save(state, tmp_path / "nearly.pt")
    assert str(tmp_path / "nearly.pt") in refused(str(tmp_path / "nearly.pt"))


# ----------------------------------------------------------------------------------------------- names of open_clip


def test_random_weights_depend_on_the_seed_alone():
    first, again, other = (build_backbone("ViT-S-32-alt:random", seed=seed) for seed in (0, 0, 1))
    assert first.levels == (2, 5, 8, 11)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_building_random_weights_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    build_backbone("ViT-S-32-alt:random")
    build_backbone("mini:random")
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_of_a_named_architecture_are_read_from_a_file(tmp_path):
    clip = open_clip.create_model("ViT-S-32-alt", precision="fp32")
    path = tmp_path / "mine.safetensors"
    save_file(clip.state_dict(), path)
    backbone = build_backbone(f"ViT-S-32-alt:{path}", levels=(0, 5))
    assert backbone.levels == (0, 5)
    assert torch.equal(backbone.visual.proj, clip.visual.proj)


def test_a_folder_as_open_clip_publishes_it_is_read_and_refused_without_its_weights(tmp_path):
    clip = open_clip.create_model("ViT-S-32-alt", precision="fp32")
    config = {"model_cfg": open_clip.get_model_config("ViT-S-32-alt"), "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    assert f"backbone 'local-dir:{tmp_path}' can't be loaded (" in refused(f"local-dir:{tmp_path}")
    save_file(clip.state_dict(), tmp_path / "open_clip_model.safetensors")
    assert torch.equal(build_backbone(f"local-dir:{tmp_path}").visual.proj, clip.visual.proj)


def test_a_file_of_another_architecture_is_refused(tiny_backbone):
    message = refused(f"ViT-S-32-alt:{tiny_backbone}")
    assert message.startswith(f"backbone 'ViT-S-32-alt:{tiny_backbone}' can't be loaded (")


def test_weights_that_are_neither_file_nor_tag_are_refused():
    message = refused("ViT-B-32:laion3b")
    assert "weights 'laion3b' of backbone 'ViT-B-32' are no file and none of ['openai'" in message


def test_an_architecture_without_published_weights_says_so():
    assert "has no published weights; use ViT-S-32-alt:FILE or :random" in refused("ViT-S-32-alt")


@pytest.mark.parametrize(
    ("name", "meant"), [("ViT-B-23", "ViT-B-32"), ("ViT-L-14-366", "ViT-L-14-336"), ("mni", "mini")]
)
def test_an_unknown_name_suggests_close_ones(name, meant):
    message = refused(name)
    assert f"backbone {name!r} is unknown; did you mean" in message
    assert meant in message.partition("?")[0]


def test_a_name_too_long_for_a_file_is_unknown():
    assert "is unknown" in refused("x" * 300)


def test_a_resnet_is_no_vision_transformer():
    assert "has no plain CLIP vision transformer; choose a ViT-* model" in refused("RN50:random")


def test_mini_has_no_other_weights():
    assert "mini has no weights 'openai'; use 'mini' or 'mini:random'" in refused("mini:openai")


# ---------------------------------------------------------------------------------------------------- the embedded one


STAGES = {"fine": (0, 1, 2), "deep": (5, 6)}  # of EfficientNet, by the stem's names
OUTLINE = ("patch_embed.", "stages.0.", "stages.1.", "stages.2.downsample.")  # of TinyViT


def under_own_names(tensors: dict[str, Tensor], places: dict[str, str]) -> dict[str, Tensor]:
    """Weights of the stem under the names of the network that they come from."""
    return {
        new + name.removeprefix("visual.conv1." + old): value.float()
        for name, value in tensors.items()
        for old, new in places.items()
        if name.startswith("visual.conv1." + old)
    }


def things(images: Tensor, tensors: dict[str, Tensor]) -> tuple[np.ndarray, Tensor]:
    """What timm's own EfficientNet-Lite2 sees at four depths, normalised, weighed, joined; and its pooled features."""
    network = timm.create_model("tf_efficientnet_lite2").eval()
    places = {"entry.0.": "conv_stem.", "entry.1.": "bn1.", "middle.": "blocks.3.", "coarse.": "blocks.4."}
    places |= {f"{part}.{stage}.": f"blocks.{stage}." for part, stages in STAGES.items() for stage in stages}
    places |= {"head.0.": "conv_head.", "head.1.": "bn2."}
    missing, unexpected = network.load_state_dict(under_own_names(tensors, places), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {"classifier"}
    with torch.no_grad():
        x, depths = network.bn1(network.conv_stem(images)), []
        for block in network.blocks:
            x = block(x)
            depths.append(x)
        deep = torch.nn.functional.interpolate(depths[6], scale_factor=2, mode="bilinear").double().numpy()
        pooled = network.forward_head(network.forward_features(images), pre_logits=True)
    fine, middle, coarse = (depths[stage].double().numpy() for stage in (2, 3, 4))
    tokens = []
    for image, row, column in np.ndindex(len(images), *coarse.shape[2:]):
        square = fine[image, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(-1)
        parts = [square, *(depth[image, :, row, column] for depth in (middle, coarse, deep))]
        weighed = [weight * part / np.linalg.norm(part) for weight, part in zip((0.7, 1, 1, 1), parts, strict=True)]
        tokens.append(np.concatenate(weighed))
    return np.stack(tokens), pooled


def outlines(images: Tensor, tensors: dict[str, Tensor]) -> list[np.ndarray]:
    """Edges and regions as timm's own TinyViT sees them at MobileSAM's stride, normalised."""
    network = timm.create_model("tiny_vit_5m_224", num_classes=0).eval()
    network.stages[3].downsample.conv2.conv.stride = (1, 1)
    places = {f"outline.{index}.": name for index, name in enumerate(OUTLINE)}
    places |= {f"segment.{stage}.": f"stages.{stage}." for stage in (2, 3)}
    missing, unexpected = network.load_state_dict(under_own_names(tensors, places), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} <= {"head"}
    seen: list[Tensor] = []
    network.stages[2].downsample.register_forward_hook(lambda module, given, made: seen.append(made))
    with torch.no_grad():
        seen.append(network.forward_features(images))
    rows = [x.permute(0, 2, 3, 1).flatten(0, 2).double().numpy() for x in seen]
    return [row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows]


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return build_backbone("mini")


def test_minis_stem_is_two_published_networks_projected(mini):
    images, tensors = originals(96), load_file(weights_path())
    with torch.no_grad():
        tokens, summary = mini.visual.conv1(images)
    joined, pooled = things(images, tensors)
    edges, regions = outlines(images, tensors)
    sources = {"edges": edges, "things": joined, "regions": regions}
    weights = {name: tensors[f"visual.conv1.projections.{name}.weight"].double().numpy()[:, :, 0, 0] for name in PARTS}
    expected = np.concatenate([sources[name] @ weights[name].T for name in PARTS], axis=1)
    assert tokens.shape == (2, 256, 6, 6)
    found = tokens.permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), atol=1e-4, rtol=1e-4)
    weight, bias = (tensors[f"visual.conv1.summary.{name}"].float() for name in ("weight", "bias"))
    torch.testing.assert_close(summary, pooled @ weight.T + bias, atol=1e-4, rtol=1e-4)


def test_minis_levels_weigh_the_parts_of_a_token(mini):
    """Where the blocks add nothing, a level is the stem's tokens times its gains, and the class token the summary's."""
    plain = build_backbone("mini:random")
    for block in plain.visual.transformer.resblocks:
        block.ls_1.gamma.data.zero_()
        block.ls_2.gamma.data.zero_()
    with torch.no_grad():
        stem, summary = plain.visual.conv1(originals(96))
        levels = plain(originals(96))
    tokens = stem.flatten(2).transpose(1, 2)
    for level, seen in enumerate(levels.tokens):
        gains = torch.cat([torch.full((part.width,), part.gains[level]) for part in PARTS.values()])
        torch.testing.assert_close(seen, tokens * gains, atol=1e-5, rtol=1e-5)
    expected = torch.nn.functional.layer_norm(summary * gains, (256,))
    torch.testing.assert_close(levels.image_feature, expected, atol=1e-4, rtol=1e-4)


def test_minis_patches_attend_to_groups_as_if_to_each_one(mini, monkeypatch):
    """What grouping changes is a hundredth of what the patches of two images of a product differ by."""
    images = np.stack([generate("printed_board", size=384, seed=seed).image for seed in range(2)])
    originals = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        grouped = mini(originals)
        monkeypatch.delattr(EmphasisBlock, "attention")
        each = mini(originals)
    for found, expected in zip(grouped.tokens, each.tokens, strict=True):
        one, other = torch.nn.functional.normalize(expected, dim=2)
        apart = 1 - (one @ other.T).amax(dim=1)
        moved = 1 - torch.cosine_similarity(found[0], expected[0], dim=1)
        assert 0 < moved.mean() < 0.01 * apart.mean()


def test_the_package_has_all_of_minis_weights_and_no_other(mini):
    stored = read_weights(weights_path())
    assert stored.keys() == empty_clip().state_dict().keys() - set(UNTRAINED)
    there = mini.text.state_dict()
    for name, value in stored.items():
        if not name.startswith("visual.conv1."):  # where normalisations are folded into convolutions
            torch.testing.assert_close(there[name], value.to(there[name].dtype))
    assert weights_path().stat().st_size + trained_weights_path().stat().st_size < 40e6


def test_words_in_8_bits_are_off_by_half_a_step():
    words = torch.randn(50, 128, generator=torch.Generator().manual_seed(0))
    words[7] = 0
    kept = compress({WORDS: words, "other": torch.tensor([1.5])})
    assert kept[WORDS].dtype == torch.int8
    found = kept[WORDS].float() * kept[WORD_STEPS].float()[:, None]
    assert bool(((found - words).abs() <= words.abs().amax(dim=1, keepdim=True) / 127 * 0.51).all())
    with pytest.raises(ValueError, match="too large for half precision"):
        compress({WORDS: words, "other": torch.tensor([1e6])})


def test_folded_normalisations_change_nothing_but_the_work():
    torch.manual_seed(0)
    plain = empty_clip().visual.conv1.eval()
    for norm in (module for module in plain.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.uniform_(norm.bias, -0.2, 0.2)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = plain(images)
    fold_norms(plain)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())
    with torch.inference_mode():
        torch.testing.assert_close(plain(images), expected, atol=1e-3, rtol=1e-3)


def test_mini_has_its_own_size_and_normalisation(mini):
    assert (mini.name, mini.image_size, mini.patch_size, mini.levels) == ("mini", (384, 384), (16, 16), (0, 1, 2, 3))
    assert mini.mean.flatten().tolist() == mini.std.flatten().tolist() == [0.5] * 3
    assert mini.width == mini.embed_dim == 256


@pytest.mark.parametrize(("size", "grid"), [((64, 96), (4, 6)), ((79, 33), (4, 2)), ((16, 16), (1, 1))])
def test_mini_reads_images_of_any_size(mini, size, grid):
    with torch.no_grad():
        levels = mini(torch.randn(1, 3, *size))
    assert levels.grid == grid
    assert levels.tokens[0].shape == (1, grid[0] * grid[1], 256)
    assert all(patches.isfinite().all() for patches in levels.patches)


def test_mini_is_the_same_whenever_it_is_built(mini):
    torch.manual_seed(123)
    assert build_backbone("mini", levels=(3,)).fingerprint() == mini.fingerprint()


def test_mini_random_differs_and_is_the_same_whenever_it_is_built(mini):
    first, again = build_backbone("mini:random"), build_backbone("mini:random")
    assert first.name == "mini:random"
    assert first.fingerprint() == again.fingerprint() != mini.fingerprint()
