"""The frozen backbone against open_clip's own passes."""

import pytest
import torch
from conftest import tiny_clip
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, resize_pos_embed
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from sowa.errors import InputError
from sowa.model.backbone import CLIP_MEAN, CLIP_STD, Backbone, interpolate_positions
from sowa.model.pretrained import build_backbone


def originals(*size: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def other_clip(text_layers: int = 1, **vision: object) -> CLIP:
    settings = {"layers": 4, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 64, **vision}
    text = CLIPTextCfg(width=64, heads=2, layers=text_layers)
    return CLIP(32, vision_cfg=CLIPVisionCfg(**settings), text_cfg=text).eval()


def test_levels_are_what_open_clip_gives_between_its_blocks():
    clip = tiny_clip(layers=8)
    images = originals(64, 64)
    with torch.no_grad():
        levels = Backbone(clip, "tiny", levels=(1, 4, 7))(images)
        expected = clip.visual.forward_intermediates(images, indices=[1, 4, 7], output_fmt="NLC")
    assert levels.grid == (4, 4)
    assert len(levels.tokens) == len(levels.patches) == 3
    for tokens, patches, theirs in zip(levels.tokens, levels.patches, expected["image_intermediates"], strict=True):
        torch.testing.assert_close(tokens, theirs, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(patches, theirs @ clip.visual.proj, atol=1e-5, rtol=1e-5)


def test_patches_alone_need_no_block_behind_the_last_level():
    backbone, images = Backbone(tiny_clip(), "tiny", levels=(1, 2)), originals(64, 96)
    levels = backbone(images)
    for block in backbone.visual.transformer.resblocks[3:]:
        block.ln_1.weight.fill_(torch.nan)
    patches, grid = backbone.patches(images)
    assert grid == levels.grid
    assert len(patches) == 2
    assert all(map(torch.equal, patches, levels.patches))
    assert backbone(images).image_feature.isnan().all()


@pytest.mark.parametrize(
    ("build", "stride"),
    [(lambda: Backbone(tiny_clip(), "tiny"), 16), (lambda: build_backbone("mini:random"), 4)],
    ids=["patch embedding", "mini's stem"],
)
def test_early_features_see_near_things_alone_in_images_of_any_size(build, stride):
    backbone, images = build(), originals(96, 160)
    before = backbone.early(images)
    assert before.shape[2:] == (96 // stride, 160 // stride)
    images[:, :, 40:44, 20:24] += 1
    changed = (backbone.early(images) - before).abs().amax(dim=1)
    near = (slice(None), slice(16 // stride, 80 // stride), slice(0, 64 // stride))
    assert changed[near].max() > 1e-3
    changed[near] = 0
    assert changed.max() < 1e-6


@pytest.mark.parametrize("clip", [tiny_clip(), other_clip()], ids=["QuickGELU, one head", "GELU, two heads"])
def test_the_image_feature_is_what_encode_image_gives(clip):
    images = originals(64, 64, batch=3)
    with torch.no_grad():
        feature = Backbone(clip, "tiny")(images).image_feature
        torch.testing.assert_close(feature, clip.encode_image(images), atol=1e-5, rtol=1e-5)


def test_no_image_depends_on_the_others_of_its_batch():
    backbone, images = Backbone(tiny_clip(), "tiny"), originals(64, 64, batch=3)
    together, alone = backbone(images), backbone(images[1:2])
    torch.testing.assert_close(together.image_feature[1:2], alone.image_feature, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.tokens[2][1:2], alone.tokens[2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "texts",
    [
        ["a photo of a bottle"],
        ["object.", "X X X X X X X X X X X X damaged printed circuit board, seen from above.", ""],
    ],
)
@pytest.mark.parametrize("clip", [tiny_clip(), other_clip(text_layers=3)], ids=["one layer", "three layers"])
def test_text_features_are_what_encode_text_gives(clip, texts):
    backbone = Backbone(clip, "tiny")
    tokens = backbone.tokenize(texts)
    assert torch.equal(tokens, SimpleTokenizer()(texts))
    with torch.no_grad():
        features = backbone.encode_text(backbone.embed_tokens(tokens), tokens.argmax(dim=-1))
        torch.testing.assert_close(features, clip.encode_text(tokens), atol=1e-5, rtol=1e-5)


def test_a_text_tower_of_its_own_and_a_projection_with_bias_are_read_too():
    from open_clip.model import CustomTextCLIP

    vision = CLIPVisionCfg(layers=4, width=64, head_width=32, patch_size=16, image_size=64)
    text = CLIPTextCfg(width=64, heads=2, layers=2, proj_bias=True)
    clip = CustomTextCLIP(32, vision_cfg=vision, text_cfg=text).eval()
    backbone = Backbone(clip, "tiny")
    tokens = backbone.tokenize(["a broken cable"])
    with torch.no_grad():
        features = backbone.encode_text(backbone.embed_tokens(tokens), tokens.argmax(dim=-1))
        torch.testing.assert_close(features, clip.encode_text(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "grid"), [((64, 64), (4, 4)), ((96, 96), (6, 6)), ((32, 80), (2, 5)), ((79, 17), (4, 1))]
)
def test_images_of_any_size_give_their_own_grid(size, grid):
    levels = Backbone(tiny_clip(), "tiny")(originals(*size))
    assert levels.grid == grid
    for tokens, patches in zip(levels.tokens, levels.patches, strict=True):
        assert tokens.shape == (2, grid[0] * grid[1], 64)
        assert patches.shape == (2, grid[0] * grid[1], 32)
        assert tokens.isfinite().all()
    assert levels.image_feature.shape == (2, 32)


def test_rows_and_columns_of_a_non_square_grid_arent_mixed_up():
    """An image that changes in its last column of patches changes the input tokens of that column alone."""
    backbone = Backbone(tiny_clip(), "tiny")
    images = originals(32, 80, batch=1)
    changed = images.clone()
    changed[..., 64:] += 1
    before, after = (backbone._embed(x, (2, 5))[0, 1:].view(2, 5, -1) for x in (images, changed))
    moved = (before - after).abs().amax(dim=-1) > 0
    assert moved.tolist() == [[False, False, False, False, True]] * 2


def test_an_image_smaller_than_a_patch_is_refused():
    with pytest.raises(InputError, match=r"image of 15 x 64 pixels is smaller than one patch \(16 x 16\)"):
        Backbone(tiny_clip(), "tiny")(originals(15, 64))


def test_positions_stay_as_they_are_on_the_grid_they_were_learned_for():
    positions = torch.randn(17, 8)
    assert interpolate_positions(positions, (4, 4), (4, 4)) is positions


@pytest.mark.parametrize("grid", [(8, 8), (2, 7), (3, 1)])
def test_positions_on_another_grid_keep_the_class_token_and_a_constant(grid):
    positions = torch.cat([torch.randn(1, 8), torch.full((16, 8), 0.5)])
    interpolated = interpolate_positions(positions, (4, 4), grid)
    assert interpolated.shape == (1 + grid[0] * grid[1], 8)
    assert torch.equal(interpolated[0], positions[0])
    torch.testing.assert_close(interpolated[1:], torch.full_like(interpolated[1:], 0.5))


@pytest.mark.parametrize("image_size", [32, 96, 112])
def test_positions_on_another_grid_are_what_open_clip_makes_of_them(image_size):
    state = {"visual.positional_embedding": tiny_clip().visual.positional_embedding.detach().clone()}
    positions, side = state["visual.positional_embedding"], image_size // 16
    resize_pos_embed(state, tiny_clip(image_size=image_size))
    assert torch.equal(interpolate_positions(positions, (4, 4), (side, side)), state["visual.positional_embedding"])


def test_interpolated_positions_run_in_the_direction_of_the_learned_ones():
    rows = torch.arange(4.0)[:, None].expand(4, 4).reshape(16, 1)
    columns = torch.arange(4.0)[None].expand(4, 4).reshape(16, 1)
    positions = torch.cat([torch.zeros(1, 2), torch.cat([rows, columns], dim=1)])
    row, column = interpolate_positions(positions, (4, 4), (8, 6))[1:].view(8, 6, 2).unbind(dim=-1)
    assert (row.diff(dim=0) > 0).all()
    assert (column.diff(dim=1) > 0).all()
    torch.testing.assert_close(row, row[:, :1].expand(8, 6))
    torch.testing.assert_close(column, column[:1].expand(8, 6))


@pytest.mark.parametrize(
    ("layers", "levels"),
    [(4, (0, 1, 2, 3)), (8, (1, 3, 5, 7)), (12, (2, 5, 8, 11)), (24, (5, 11, 17, 23)), (6, (0, 2, 3, 5))],
)
def test_by_default_there_is_a_level_at_the_end_of_each_quarter(layers, levels):
    assert Backbone(other_clip(layers=layers), "tiny").levels == levels


def test_fewer_than_four_blocks_need_levels_by_name():
    with pytest.raises(InputError, match="has 3 blocks, four levels need at least 4"):
        Backbone(other_clip(layers=3), "tiny")
    assert Backbone(other_clip(layers=3), "tiny", levels=[2]).levels == (2,)


@pytest.mark.parametrize("levels", [(), (4,), (-1, 2), (2, 1), (1, 1)])
def test_levels_that_dont_exist_are_refused(levels):
    with pytest.raises(InputError, match=r"levels are \[.*\], allowed are ascending numbers from 0 to 3 for 'tiny'"):
        Backbone(tiny_clip(), "tiny", levels=levels)


def test_other_image_towers_are_refused():
    pooled = other_clip(attentional_pool=True, attn_pooler_heads=2)
    averaged = other_clip(pool_type="avg")
    resnet = CLIP(
        32,
        vision_cfg=CLIPVisionCfg(layers=(1, 1, 1, 1), width=8, image_size=32),
        text_cfg=CLIPTextCfg(width=64, heads=2, layers=1),
    )
    for clip in (pooled, averaged, resnet):
        with pytest.raises(InputError, match=r"backbone 'other' has no plain CLIP vision transformer; choose a ViT"):
            Backbone(clip, "other")


def test_the_backbone_is_frozen_whatever_is_asked():
    backbone = Backbone(tiny_clip().train(), "tiny")
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert backbone.train() is backbone
    assert not any(module.training for module in backbone.modules())
    assert not backbone(originals(64, 64)).tokens[0].requires_grad


def test_the_frozen_attention_is_the_one_of_the_levels_block():
    backbone = Backbone(tiny_clip(), "tiny", levels=(1, 3))
    for level, block in ((0, 1), (1, 3)):
        theirs = backbone.visual.transformer.resblocks[block].attn
        ours = backbone.attention(level)
        assert torch.equal(ours.in_proj_weight, theirs.in_proj_weight)
        assert torch.equal(ours.out_proj_weight, theirs.out_proj.weight)
        assert torch.equal(ours.out_proj_bias, theirs.out_proj.bias)


def test_sizes_and_normalisation_are_the_models_own():
    backbone = Backbone(tiny_clip(), "tiny")
    assert (backbone.image_size, backbone.patch_size) == ((64, 64), (16, 16))
    assert (backbone.width, backbone.embed_dim, backbone.text_width) == (64, 32, 64)
    assert backbone.mean.flatten().tolist() == pytest.approx(CLIP_MEAN)
    assert backbone.std.flatten().tolist() == pytest.approx(CLIP_STD)


@pytest.mark.parametrize("name", ["visual.conv1.weight", "visual.proj", "text_projection", "token_embedding.weight"])
def test_the_fingerprint_changes_with_any_weight(name):
    clip = tiny_clip()
    backbone = Backbone(clip, "tiny")
    before = backbone.fingerprint()
    weight = clip.get_parameter(name)
    weight.data.view(-1)[-1] += 1e-3
    assert backbone.fingerprint() != before
    weight.data.view(-1)[-1] = tiny_clip().get_parameter(name).view(-1)[-1]
    assert backbone.fingerprint() == before


def test_the_fingerprint_is_that_of_the_weights_and_not_of_how_they_are_held():
    fingerprint = Backbone(tiny_clip(), "tiny").fingerprint()
    assert Backbone(tiny_clip(), "another name", levels=(0,)).fingerprint() == fingerprint
    assert Backbone(tiny_clip(), "tiny").double().fingerprint() == fingerprint
    assert Backbone(tiny_clip(), "tiny").to(memory_format=torch.channels_last).fingerprint() == fingerprint
    assert Backbone(tiny_clip(seed=1), "tiny").fingerprint() != fingerprint


def test_a_prompt_longer_than_the_text_towers_context_is_refused():
    backbone = Backbone(tiny_clip(), "tiny")
    assert backbone.tokenize(["x " * 75]).shape == (1, 77)
    with pytest.raises(InputError, match="has 78 tokens, allowed are 77; shorten it"):
        backbone.tokenize(["short", "x " * 76])
