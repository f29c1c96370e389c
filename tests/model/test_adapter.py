"""The window adapter against a slow oracle written from METHOD.md section 2, and how it trains."""

import math

import pytest
import torch
from conftest import tiny_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.slow_adapter import slow_adapter
from torch import Tensor

from sowa.core.config import AdapterConfig, ModelConfig
from sowa.errors import InputError
from sowa.model.adapter import WindowAdapter, attention_mask, partition, relative_offsets, reverse
from sowa.model.backbone import Backbone
from sowa.model.sowa import SowaNetwork
from sowa.model.types import FrozenAttention

WIDTH = 12


def frozen_attention(seed: int = 1, width: int = WIDTH) -> FrozenAttention:
    random = torch.Generator().manual_seed(seed)
    shapes = ((3 * width, width), (width, width), (width,))
    return FrozenAttention(*(torch.randn(shape, generator=random) / math.sqrt(width) for shape in shapes))


def random_adapter(seed: int = 2, **settings: object) -> WindowAdapter:
    """An adapter whose every weight is random, so that none hides behind a one or a zero."""
    config = AdapterConfig(**{"heads": 3, "position_width": 5, **settings})
    adapter = WindowAdapter(WIDTH, config).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
        for block in adapter.blocks:
            block.attention.logit_scale.copy_(torch.tensor([-1.0, 0.5, 2.5]).view(3, 1, 1))
    return adapter


def random_tokens(grid: tuple[int, int], batch: int = 2, seed: int = 3) -> Tensor:
    return torch.randn(batch, grid[0] * grid[1], WIDTH, generator=torch.Generator().manual_seed(seed))


def oracle(adapter: WindowAdapter, tokens: Tensor, grid: tuple[int, int], frozen: FrozenAttention) -> Tensor:
    blocks = [{name: p.detach().double().numpy() for name, p in b.named_parameters()} for b in adapter.blocks]
    weights = tuple(w.double().numpy() for w in (frozen.in_proj_weight, frozen.out_proj_weight, frozen.out_proj_bias))
    first = adapter.blocks[0]
    value_only = first.attention.value_only
    adapted = slow_adapter(tokens.double().numpy(), grid, blocks, weights, first.window_size, value_only)
    return torch.from_numpy(adapted)


@given(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 99)
)
@settings(max_examples=50)
def test_reverse_undoes_partition_on_any_grid(window, down, across, batch, width, seed):
    grid = (window * down, window * across)
    x = torch.randn(batch, *grid, width, generator=torch.Generator().manual_seed(seed))
    windows = partition(x, window)
    assert windows.shape == (batch * down * across, window * window, width)
    assert torch.equal(reverse(windows, window, grid), x)


def test_a_window_holds_a_square_of_neighbours_row_by_row():
    x = torch.arange(24).view(1, 4, 6, 1)
    windows = partition(x, 2)[..., 0].tolist()
    assert windows[0] == [0, 1, 6, 7]
    assert windows[1] == [2, 3, 8, 9]
    assert windows[5] == [16, 17, 22, 23]


@pytest.mark.parametrize("value_only", [True, False])
@pytest.mark.parametrize(
    ("grid", "window", "depth"),
    [
        pytest.param((4, 4), 2, 1, id="divisible"),
        pytest.param((6, 6), 3, 2, id="divisible, shifted"),
        pytest.param((4, 8), 4, 2, id="non-square, the window covers the short side"),
        pytest.param((4, 6), 2, 2, id="non-square, shifted"),
        pytest.param((4, 4), 4, 2, id="window as large as the grid"),
        pytest.param((3, 3), 7, 2, id="window larger than the grid"),
        pytest.param((2, 5), 4, 2, id="window larger than the short side, padded"),
        pytest.param((5, 5), 2, 1, id="padded"),
        pytest.param((5, 4), 3, 1, id="non-square, padded both ways"),
        pytest.param((5, 7), 3, 2, id="padded and shifted"),
        pytest.param((7, 5), 4, 2, id="even window, padded and shifted"),
        pytest.param((1, 4), 3, 2, id="one row"),
    ],
)
def test_the_adapter_equals_the_slow_oracle(grid, window, depth, value_only):
    adapter = random_adapter(window_size=window, depth=depth, value_only=value_only)
    tokens, frozen = random_tokens(grid), frozen_attention()
    with torch.no_grad():
        adapted = adapter(tokens, grid, frozen)
    torch.testing.assert_close(adapted.double(), oracle(adapter, tokens, grid, frozen), atol=1e-5, rtol=1e-5)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 2), st.booleans(), st.integers(0, 99))
@settings(max_examples=12)
def test_the_adapter_equals_the_slow_oracle_on_any_grid(height, width, window, depth, value_only, seed):
    adapter = random_adapter(seed, window_size=window, depth=depth, value_only=value_only)
    tokens, frozen = random_tokens((height, width), batch=1, seed=seed), frozen_attention(seed)
    with torch.no_grad():
        adapted = adapter(tokens, (height, width), frozen)
    expected = oracle(adapter, tokens, (height, width), frozen)
    torch.testing.assert_close(adapted.double(), expected, atol=1e-4, rtol=1e-5)


def test_the_penalty_of_shifted_windows_is_finite_as_in_swin():
    """At the highest temperature a token of another region can still win over all of its own by more than 100."""
    adapter = random_adapter(window_size=2, depth=2, value_only=False)
    for block in adapter.blocks:
        torch.nn.init.constant_(block.attention.logit_scale, 6.0)  # capped at ln 100
    tokens, frozen, grid = random_tokens((4, 6), batch=4), frozen_attention(), (4, 6)
    with torch.no_grad():
        adapted = adapter(tokens, grid, frozen)
    torch.testing.assert_close(adapted.double(), oracle(adapter, tokens, grid, frozen), atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("option", [{"value_only": False}, {"window_size": 3}, {"depth": 2}])
def test_each_option_changes_the_result(option):
    tokens, frozen = random_tokens((6, 6)), frozen_attention()
    plain, changed = random_adapter(window_size=2), random_adapter(**{"window_size": 2, **option})
    changed.blocks[0].load_state_dict(plain.blocks[0].state_dict())
    with torch.no_grad():
        assert (changed(tokens, (6, 6), frozen) - plain(tokens, (6, 6), frozen)).abs().max() > 1e-2


def test_a_shifted_block_reaches_across_the_borders_of_windows():
    grid, frozen = (8, 8), frozen_attention()
    adapter = random_adapter(window_size=4, depth=2)
    tokens = random_tokens(grid, batch=1).requires_grad_()
    adapter(tokens, grid, frozen)[0, 3 * 8 + 3].sum().backward()
    reached = tokens.grad[0].abs().amax(dim=-1).view(grid) > 0
    assert reached.all()  # its shifted window has a quarter in each of the four windows


def test_padding_changes_nothing_beside_the_torn_off_window():
    frozen = frozen_attention()
    adapter = random_adapter(window_size=3)
    whole = random_tokens((3, 6), batch=1)
    torn = whole.view(1, 3, 6, WIDTH)[:, :, :4].flatten(1, 2)
    with torch.no_grad():
        expected = adapter(whole, (3, 6), frozen).view(3, 6, WIDTH)[:, :3]
        adapted = adapter(torn, (3, 4), frozen).view(3, 4, WIDTH)
    torch.testing.assert_close(adapted[:, :3], expected, atol=1e-5, rtol=1e-5)


def test_padding_takes_no_share_of_the_attention():
    """With equal tokens everywhere attention is the token itself, unless padding takes a share."""
    frozen = frozen_attention()
    adapter = random_adapter(window_size=4, depth=2)
    tokens = random_tokens((1, 1), batch=1).expand(1, 5 * 7, WIDTH)
    with torch.no_grad():
        adapted = adapter(tokens, (5, 7), frozen)
    torch.testing.assert_close(adapted, adapted[:, :1].expand_as(adapted), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grid", [(4, 4), (5, 3)])
def test_no_image_depends_on_the_others_of_its_batch(grid):
    adapter, frozen = random_adapter(window_size=2, depth=2), frozen_attention()
    tokens = random_tokens(grid, batch=3)
    with torch.no_grad():
        together = adapter(tokens, grid, frozen)
        alone = torch.cat([adapter(image[None], grid, frozen) for image in tokens])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_the_temperature_is_capped_at_a_hundred():
    adapter, frozen, tokens = random_adapter(window_size=2), frozen_attention(), random_tokens((4, 4))
    with torch.no_grad():
        adapter.blocks[0].attention.logit_scale.fill_(math.log(100))
        capped = adapter(tokens, (4, 4), frozen)
        adapter.blocks[0].attention.logit_scale.fill_(20)
        assert torch.equal(adapter(tokens, (4, 4), frozen), capped)
        adapter.blocks[0].attention.logit_scale.fill_(math.log(10))
        assert not torch.equal(adapter(tokens, (4, 4), frozen), capped)


def test_a_fresh_adapter_starts_where_the_paper_starts():
    attention = WindowAdapter(16, AdapterConfig()).blocks[0].attention
    assert attention.logit_scale.shape == (8, 1, 1)
    torch.testing.assert_close(attention.logit_scale.exp(), torch.full((8, 1, 1), 10.0))
    assert [tuple(p.shape) for p in attention.position_mlp.parameters()] == [(64, 2), (64,), (8, 64)]


def test_heads_that_dont_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="heads 5 don't divide the backbone's width 12"):
        WindowAdapter(12, AdapterConfig(heads=5))
    with pytest.raises(InputError, match="heads 7 don't divide the width 64 of backbone 'tiny'"):
        SowaNetwork(Backbone(tiny_clip(), "tiny"), ModelConfig(adapter=AdapterConfig(heads=7)))


def test_gradients_reach_every_adapter_weight_and_no_frozen_one():
    network = SowaNetwork(
        Backbone(tiny_clip(), "tiny"), ModelConfig(adapter=AdapterConfig(window_size=2, depth=2, dropout=0.0))
    ).train()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    output = network(images)
    (sum(m.square().sum() for m in output.level_maps) + output.text_probs[:, 1].sum()).backward()
    touched = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    block = {
        "attention.logit_scale",
        "attention.position_mlp.0.weight",
        "attention.position_mlp.0.bias",
        "attention.position_mlp.2.weight",
        "norm_attention.weight",
        "norm_attention.bias",
        "linear.weight",
        "norm_linear.weight",
        "norm_linear.bias",
    }
    adapters = {f"adapters.{level}.blocks.{depth}.{name}" for level in range(4) for depth in range(2) for name in block}
    prompts = {f"prompts.{n}" for n in ("context_normal", "context_abnormal", "linear.weight", "linear.bias")}
    assert touched == adapters | prompts == network.trainable().keys()
    assert all(p.grad is None and not p.requires_grad for p in network.backbone.parameters())


def test_dropout_acts_in_training_only():
    adapter, frozen, tokens = random_adapter(window_size=2, dropout=0.5), frozen_attention(), random_tokens((4, 4))
    with torch.no_grad():
        still = adapter(tokens, (4, 4), frozen)
        assert torch.equal(adapter(tokens, (4, 4), frozen), still)
        adapter.train()
        dropped = adapter(tokens, (4, 4), frozen)
        assert not torch.equal(dropped, still)
        assert not torch.equal(adapter(tokens, (4, 4), frozen), dropped)


def test_no_dropout_means_training_computes_what_evaluation_does():
    adapter, frozen, tokens = random_adapter(window_size=2, dropout=0.0), frozen_attention(), random_tokens((4, 4))
    with torch.no_grad():
        still = adapter(tokens, (4, 4), frozen)
        assert torch.equal(adapter.train()(tokens, (4, 4), frozen), still)


def test_an_adapter_first_used_under_inference_mode_can_still_be_trained():
    relative_offsets.cache_clear()
    attention_mask.cache_clear()
    adapter, frozen, grid = random_adapter(window_size=2, depth=2), frozen_attention(), (5, 5)
    with torch.inference_mode():
        adapter(random_tokens(grid), grid, frozen)
    adapter.train()(random_tokens(grid), grid, frozen).sum().backward()
    assert adapter.blocks[1].attention.position_mlp[0].weight.grad.abs().max() > 0
