"""Files of trained weights: what they hold, and what they refuse to load."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import tiny_clip
from safetensors import safe_open
from safetensors.torch import save_file

from sowa.core.config import AdapterConfig, ModelConfig, PromptConfig, Settings, to_dict
from sowa.core.files import read_safetensors, write_safetensors
from sowa.core.headers import WEIGHTS_FORMAT, WeightsHeader, read_header
from sowa.detector.detector import Sowa
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.model.authors import from_authors
from sowa.model.backbone import Backbone
from sowa.model.checkpoint import (
    find_weights,
    identity,
    load_weights,
    rebuild,
    save_weights,
    seeded_network,
    trained_tensors,
)
from sowa.model.mini import trained_weights_path
from sowa.model.sowa import SowaNetwork

CONFIG = ModelConfig(
    levels=(1, 3),
    adapter=AdapterConfig(window_size=2, depth=2, heads=4, value_only=False),
    prompt=PromptConfig(class_names=("wood", "capsule"), length=4),
    temperature=0.1,
)
BLOCK = (
    "attention.logit_scale",
    "attention.position_mlp.0.weight",
    "attention.position_mlp.0.bias",
    "attention.position_mlp.2.weight",
    "norm_attention.weight",
    "norm_attention.bias",
    "linear.weight",
    "norm_linear.weight",
    "norm_linear.bias",
)
NAMES = {f"adapters.{level}.blocks.{block}.{name}" for level in range(2) for block in range(2) for name in BLOCK} | {
    "prompts.context_normal",
    "prompts.context_abnormal",
    "prompts.linear.weight",
    "prompts.linear.bias",
}
THEIRS = {
    "attention.logit_scale": "attn.logit_scale",
    "attention.position_mlp": "attn.cpb_mlp",
    "norm_attention": "norm1",
    "norm_linear": "norm2",
    "linear": "mlp.layers.0",
}


@pytest.fixture
def network(tiny_backbone: str) -> SowaNetwork:
    network = seeded_network(tiny_backbone, CONFIG, seed=5)
    with torch.no_grad():
        for parameter in network.trainable().values():
            parameter.add_(torch.randn_like(parameter))
    return network


@pytest.fixture
def saved(network: SowaNetwork, tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(network, path, WeightsHeader(network.config, identity(network.backbone), losses=[2.0, 1.5]))
    return path


def refused(act) -> str:
    with pytest.raises(InputError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def under_authors_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The other way round, written by hand from METHOD.md section 7."""
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith("adapters."):
            head, block, rest = re.fullmatch(r"(adapters\.\d)\.(blocks\.\d)\.(.*)", name).groups()
            ours = next(part for part in THEIRS if rest.startswith(part))
            renamed[f"visual_encoder.{head}.{block}.{rest.replace(ours, THEIRS[ours], 1)}"] = tensor
        else:
            name = name.replace("prompts.context_normal", "prompt_learner.ctx_pos")
            name = name.replace("prompts.context_abnormal", "prompt_learner.ctx_neg")
            renamed[name.replace("prompts.linear", "cross_fusion.linear")] = tensor
    return renamed


def test_a_file_holds_what_is_trained_and_nothing_of_the_backbone(network, saved):
    with safe_open(saved, framework="pt") as file:
        assert set(file.keys()) == NAMES
    assert network.trainable().keys() == NAMES


def test_without_the_text_linear_it_isnt_saved(tiny_backbone, tmp_path):
    config = replace(CONFIG, prompt=PromptConfig(text_linear=False))
    tensors = trained_tensors(seeded_network(tiny_backbone, config))
    assert tensors.keys() == {name for name in NAMES if not name.startswith("prompts.linear")}


def test_a_saved_network_is_the_same_when_it_is_rebuilt(network, saved):
    tensors, metadata = read_safetensors(saved, WEIGHTS_FORMAT)
    header = read_header(WeightsHeader, metadata, saved)
    assert header.config == CONFIG
    assert header.backbone == identity(network.backbone)
    assert header.losses == [2.0, 1.5]
    again = rebuild(header.config, header.backbone, saved)
    load_weights(again, tensors, str(saved))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before, after = network.eval()(images), again.eval()(images)
    assert torch.equal(before.text_probs, after.text_probs)
    assert all(torch.equal(a, b) for a, b in zip(before.level_maps, after.level_maps, strict=True))


def test_saving_leaves_the_graph_and_the_weights_alone(network, tmp_path):
    before = {name: p.clone() for name, p in network.trainable().items()}
    save_weights(network, tmp_path / "w.safetensors", WeightsHeader(CONFIG, identity(network.backbone)))
    assert all(p.requires_grad and torch.equal(p, before[name]) for name, p in network.trainable().items())


def test_a_seeded_network_depends_on_its_seed_alone(tiny_backbone):
    first = trained_tensors(seeded_network(tiny_backbone, CONFIG, seed=3))
    again, other = (trained_tensors(seeded_network(tiny_backbone, CONFIG, seed=seed)) for seed in (3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["prompts.context_normal"], other["prompts.context_normal"])


@pytest.mark.parametrize("prefix", ["", "net."])
def test_the_authors_names_are_read(network, prefix):
    expected = trained_tensors(network)
    theirs = {prefix + name: tensor for name, tensor in under_authors_names(expected).items()}
    found = from_authors(theirs)
    assert found.keys() == expected.keys()
    assert all(found[name] is expected[name] for name in expected)


@pytest.mark.parametrize(
    "key",
    [
        "visual_encoder.adapters.0.blocks.0.attn.relative_coords_table",
        "visual_encoder.adapters.0.blocks.0.attn.relative_position_index",
        "visual_encoder.adapters.0.blocks.1.attn_mask",
        "net.prompt_learner.tokenized_prompts_pos",
        "net.prompt_learner.token_prefix_neg",
        "clip_model.visual.proj",
    ],
)
def test_what_follows_from_the_configuration_is_skipped(key):
    assert from_authors({key: torch.zeros(1)}) == {}


@pytest.mark.parametrize("key", ["something", "visual_encoder.adapters.0.blocks.0.norm3.weight", "net.", "ctx_pos"])
def test_an_unknown_key_is_refused(key):
    message = refused(lambda: from_authors({key: torch.zeros(1)}))
    assert f"weight {key!r} is unknown" in message


def test_weights_that_are_missing_or_too_many_are_refused_and_nothing_is_loaded(network):
    before = {name: p.clone() for name, p in network.trainable().items()}
    tensors = {name: tensor + 1 for name, tensor in before.items()}
    first = tensors.pop("adapters.0.blocks.0.linear.weight")
    assert "missing ['adapters.0.blocks.0.linear.weight']" in refused(lambda: load_weights(network, tensors, "F"))
    tensors |= {"adapters.0.blocks.0.linear.weight": first, "backbone.visual.proj": first}
    assert "unexpected ['backbone.visual.proj']" in refused(lambda: load_weights(network, tensors, "F"))
    del tensors["backbone.visual.proj"]
    tensors["prompts.linear.bias"] = torch.zeros(3)
    message = refused(lambda: load_weights(network, tensors, "F"))
    assert "F: prompts.linear.bias has shape (3,), the network has (32,)" in message
    assert all(torch.equal(p, before[name]) for name, p in network.trainable().items())


def test_weights_find_their_backbone_by_name_and_fingerprint(network, saved):
    detector = Sowa.from_pretrained(str(saved), settings=Settings(device="cpu"))
    assert detector.encoder.trained
    assert detector.encoder.network.config == CONFIG
    loaded = trained_tensors(detector.encoder.network)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in trained_tensors(network).items())


def test_weights_of_another_backbone_are_refused(network, tmp_path):
    path = tmp_path / "w.safetensors"
    other = Backbone(tiny_clip(seed=1), network.backbone.name, CONFIG.levels)
    save_weights(network, path, WeightsHeader(CONFIG, identity(other)))
    message = refused(lambda: Sowa.from_pretrained(str(path), settings=Settings(device="cpu")))
    assert "was made with other weights of backbone" in message


@pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
def test_truncated_weights_are_refused(saved, part):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * part)])
    message = refused(lambda: Sowa.from_pretrained(str(saved), settings=Settings(device="cpu")))
    assert "truncated" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda metadata: metadata.pop("config"),
        lambda metadata: metadata.pop("backbone"),
        lambda metadata: metadata["config"].update(colour="red"),
        lambda metadata: metadata["config"]["adapter"].update(heads="many"),
        lambda metadata: metadata["config"]["adapter"].update(window_size=0),
        lambda metadata: metadata["backbone"].pop("fingerprint"),
    ],
    ids=["no config", "no backbone", "unknown field", "wrong type", "impossible value", "no fingerprint"],
)
def test_a_header_that_isnt_understood_is_refused(network, tmp_path, change):
    metadata = to_dict(WeightsHeader(CONFIG, identity(network.backbone)))
    change(metadata)
    path = tmp_path / "w.safetensors"
    write_safetensors(path, trained_tensors(network), WEIGHTS_FORMAT, metadata)
    message = refused(lambda: Sowa.from_pretrained(str(path), settings=Settings(device="cpu")))
    assert str(path) in message


def test_only_a_weights_file_of_ours_is_found(saved, tiny_backbone, tmp_path):
    assert find_weights(str(saved)) == saved
    assert find_weights(tiny_backbone) is None
    assert find_weights("ViT-B-32") is None
    assert find_weights("mini") == trained_weights_path()
    assert find_weights(str(tmp_path / "nowhere.safetensors")) is None


def authors_checkpoint(tiny_backbone: str, config: ModelConfig) -> tuple[dict[str, torch.Tensor], SowaNetwork]:
    """What a Lightning run of theirs holds, buffers included, and our network with the same weights."""
    network = seeded_network(tiny_backbone, config, seed=5)
    theirs = {f"net.{name}": value for name, value in under_authors_names(trained_tensors(network)).items()}
    side = 2 * config.adapter.window_size - 1
    theirs["net.visual_encoder.adapters.0.blocks.0.attn.relative_coords_table"] = torch.zeros(1, side, side, 2)
    return theirs, network


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
@pytest.mark.parametrize("text_linear", [True, False])
def test_an_authors_checkpoint_is_read_with_the_configuration_that_its_shapes_tell(
    tiny_backbone, tmp_path, suffix, text_linear
):
    adapter = AdapterConfig(window_size=3, depth=2, heads=4, position_width=16)
    config = ModelConfig(adapter=adapter, prompt=PromptConfig(length=5, text_linear=text_linear))
    theirs, network = authors_checkpoint(tiny_backbone, config)
    path = tmp_path / f"authors.{suffix}"
    if suffix == "ckpt":
        torch.save({"state_dict": theirs, "epoch": 1}, path)
    else:
        save_file(theirs, path)
    detector = Sowa.from_pretrained(tiny_backbone, weights=path, settings=Settings(device="cpu"))
    assert detector.encoder.trained
    assert detector.encoder.network.config == config
    for name, value in trained_tensors(network).items():
        torch.testing.assert_close(trained_tensors(detector.encoder.network)[name], value)


def test_an_authors_checkpoint_for_several_classes_needs_their_names(tiny_backbone, tmp_path):
    prompt = PromptConfig(class_names=("nut", "bolt"), length=5)
    config = ModelConfig(adapter=AdapterConfig(window_size=3, heads=4), prompt=prompt)
    theirs, _ = authors_checkpoint(tiny_backbone, config)
    path = tmp_path / "authors.safetensors"
    save_file(theirs, path)
    message = refused(lambda: Sowa.from_pretrained(tiny_backbone, weights=path, settings=Settings(device="cpu")))
    assert "2 classes" in message
    settings = Settings(device="cpu")
    told = TorchEncoder.from_pretrained(tiny_backbone, weights=path, config=config, settings=settings)
    assert told.config == config
