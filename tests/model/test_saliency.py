"""Bottom-up saliency: what stands out, that off changes nothing, and that each switch changes what it says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor
from torch.nn import functional as F

from sowa import Sowa
from sowa.core.config import AdapterConfig, ModelConfig, SaliencyConfig, Settings
from sowa.core.headers import Identity, WeightsHeader
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.extensions.saliency import SaliencyWeight
from sowa.model.adapter import WindowAdapter
from sowa.model.checkpoint import pretrained_network, save_weights
from sowa.model.saliency import CHANNELS, LIMIT, SPECTRUM, Saliency, standardise
from sowa.model.types import FrozenAttention

GRID, WIDTH = (12, 12), 6
SHAPES = ((3 * WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH,))  # of a block's frozen attention


def saliency(**settings: object) -> Saliency:
    return Saliency(SaliencyConfig(**settings), WIDTH)


def early(batch: int, grid: tuple[int, int] = GRID, seed: int = 0) -> Tensor:
    return torch.randn(batch, grid[0] * grid[1], WIDTH, generator=torch.Generator().manual_seed(seed))


def disc(seed: int = 0) -> tuple[Tensor, Tensor]:
    """An orange disc on blue noise (1, 3, 192, 192) and which patches (P,) it covers."""
    random = np.random.default_rng(seed)
    image = np.full((192, 192, 3), (0.3, 0.3, 0.6)) + random.normal(0, 0.03, (192, 192, 1))
    rows, columns = np.mgrid[:192, :192]
    inside = (rows - 60) ** 2 + (columns - 124) ** 2 < 20**2
    image[inside] = (0.9, 0.5, 0.2)
    pixels = torch.from_numpy(image.clip(0, 1)).permute(2, 0, 1)[None].float()
    covered = F.adaptive_avg_pool2d(torch.from_numpy(inside)[None, None].float(), GRID).flatten() > 0.3
    return pixels, covered


def test_what_is_odd_stands_out_in_every_channel():
    pixels, covered = disc()
    tokens = torch.ones(1, covered.numel(), WIDTH) + 0.05 * early(1)
    tokens[0, covered, :3] = -1.0
    found = standardise(saliency().channels(pixels, F.normalize(tokens, dim=-1), GRID))[0]
    for name, channel in zip(CHANNELS, found, strict=True):
        assert channel[covered].mean() > 1 + channel[~covered].mean(), name
    whole = saliency()(pixels, tokens, GRID)[0]
    assert whole[covered].min() > whole[~covered].median()
    assert covered[whole.argmax()]


def test_nothing_stands_out_of_an_even_image():
    even = saliency()(torch.full((2, 3, 96, 96), 0.4), torch.ones(2, 144, WIDTH), GRID)
    assert even.abs().max() < 0.01


@given(arrays.arrays(np.float32, (1, 3, 48, 32), elements=st.floats(0, 1, width=32)))
@settings(max_examples=25)
def test_any_image_has_finite_saliency_within_the_limit(pixels):
    found = saliency()(torch.from_numpy(pixels), early(1, (3, 2)), (3, 2))
    assert found.shape == (1, 6)
    assert found.isfinite().all()
    assert found.abs().max() <= LIMIT


def test_an_image_is_judged_by_itself_and_mirrored_as_what_it_shows():
    pixels, _ = disc()
    batch, tokens = torch.cat([pixels, pixels.flip(3), torch.rand_like(pixels)]), early(1)
    mirrored = tokens.unflatten(1, GRID).flip(2).flatten(1, 2)
    together = saliency()(batch, torch.cat([tokens, mirrored, tokens]), GRID)
    torch.testing.assert_close(together[:1], saliency()(pixels, tokens, GRID))
    torch.testing.assert_close(
        together[1], together[0].unflatten(0, GRID).flip(1).flatten(), atol=2e-2, rtol=0
    )  # a mirrored wave isn't quite sampled alike


def test_the_spectral_residual_is_that_of_the_fast_fourier_transform():
    pixels = torch.rand(2, 3, SPECTRUM, SPECTRUM, generator=torch.Generator().manual_seed(4))
    spectrum = torch.fft.fft2(pixels.mean(dim=1).double())
    logarithm = spectrum.abs().log()
    around = F.avg_pool2d(F.pad(logarithm[:, None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[:, 0]
    back = torch.fft.fft2((logarithm - around).exp() * spectrum / spectrum.abs()).abs().square()
    back = back.flip(1, 2).roll((1, 1), (1, 2))  # forwards twice is the inverse, mirrored
    expected = F.avg_pool2d(F.pad(back[:, None], (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    found = saliency()._spectral_residual(pixels)
    torch.testing.assert_close(found / found.mean(), (expected / expected.mean()).float(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["weights", "centre", "direction"])
def test_each_learned_part_changes_what_stands_out_and_can_be_learned(name):
    module, (pixels, _) = saliency(), disc()
    before = module(pixels, early(1), GRID)
    before.square().sum().backward()
    gradient = getattr(module, name).grad
    assert gradient is not None
    assert gradient.abs().max() > 0
    with torch.no_grad():
        getattr(module, name).add_(torch.linspace(0.5, 1.5, max(1, getattr(module, name).numel())).view_as(gradient))
    assert not torch.allclose(module(pixels, early(1), GRID), before)


def test_the_centre_pulls():
    module = saliency()
    with torch.no_grad():
        module.weights.zero_()
        module.centre.fill_(1.0)
    found = module(torch.rand(1, 3, 48, 80), early(1, (3, 5)), (3, 5)).view(3, 5)
    assert found.argmax() == 7
    torch.testing.assert_close(found, found.flip(0, 1))


def test_a_cnn_of_timm_tells_what_stands_out_and_is_saved_with_the_weights(tiny_backbone, tmp_path):
    config = ModelConfig(adapter=AdapterConfig(heads=4), saliency=SaliencyConfig(cnn="resnet18:random"))
    network, _ = pretrained_network(tiny_backbone, config=config)
    own, _ = pretrained_network(tiny_backbone, saliency=SaliencyConfig(), config=ModelConfig(adapter=config.adapter))
    pixels = torch.rand(1, 3, 64, 64)
    patches, grid = network.backbone.patches(pixels)
    assert not torch.allclose(network.stands_out(pixels, patches[0], grid), own.stands_out(pixels, patches[0], grid))
    assert all(not p.requires_grad for p in network.saliency.cnn.parameters())
    with torch.no_grad():
        for parameter in network.saliency.cnn.parameters():
            parameter.add_(0.01)  # as if these were downloaded ones
    path = tmp_path / "weights.safetensors"
    backbone = Identity(tiny_backbone, network.backbone.levels, network.backbone.fingerprint())
    save_weights(network, path, WeightsHeader(network.config, backbone))
    again, trained = pretrained_network(str(path))
    assert trained
    assert torch.equal(again.stands_out(pixels, patches[0], grid), network.stands_out(pixels, patches[0], grid))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"cnn": "no_such_net:random"}, "no_such_net.*resnet18"),
        ({"cnn": "vit_tiny_patch16_224:random"}, "one size only.*resnet18"),
    ],
)
def test_what_cannot_be_is_said(settings, told):
    with pytest.raises(InputError, match=told):
        saliency(**settings)


@pytest.mark.parametrize("weight", [1.5, float("nan")])
def test_a_weight_beyond_one_is_refused(weight):
    with pytest.raises(InputError, match=f"{weight}.*-1 to 1"):
        SaliencyWeight(weight)


def test_off_is_bit_equal(tiny_backbone, prompted, normal, images):
    """A network with saliency that wasn't trained says what the one without says, to the last bit."""
    config, settings = prompted.encoder.config, Settings(precision="fp32")
    salient = Sowa(
        TorchEncoder.from_pretrained(tiny_backbone, config=config, saliency=SaliencyConfig(), settings=settings)
    )
    without = salient.encoder.network.load_state_dict(prompted.encoder.network.state_dict(), strict=False)
    assert not without.unexpected_keys
    assert all("saliency" in key for key in without.missing_keys)
    salient.encoder.trained = True
    salient.fit(normal, k_shot=4)
    one, other = prompted.encoder.encode(images), salient.encoder.encode(images)
    assert all(torch.equal(*pair) for pair in zip(one.level_maps, other.level_maps, strict=True))
    assert torch.equal(prompted.judge(one).maps, salient.judge(other).maps)
    assert prompted.calibration_ == salient.calibration_
    assert torch.equal(prompted.bank_.features, salient.bank_.features)


def adapted(name: str | None) -> Tensor:
    """Level tokens through an adapter with every weight drawn and, where named, one saliency parameter set."""
    random = torch.Generator().manual_seed(5)
    adapter = WindowAdapter(WIDTH, AdapterConfig(window_size=3, heads=2, depth=2), salient=True).eval()
    with torch.no_grad():
        for key, parameter in adapter.named_parameters():
            if "saliency" in key:
                parameter.fill_(0.7 if name and key.endswith(name) else 0.0)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=random))
    frozen = FrozenAttention(
        *(torch.randn(s, generator=random) for s in ((3 * WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH,)))
    )
    tokens = torch.randn(2, 20, WIDTH, generator=random)
    return adapter(tokens, (4, 5), frozen, torch.randn(2, 20, generator=random))


def test_bias_and_gate_each_change_what_the_adapter_makes():
    plain, bias, gate = adapted(None), adapted("saliency_bias"), adapted("saliency_gate")
    assert not torch.allclose(plain, bias)
    assert not torch.allclose(plain, gate)
    assert not torch.allclose(bias, gate)


def test_what_stands_out_most_is_all_that_its_window_looks_at():
    """With a bias beyond all else every token of a window gets the salient token's values, also where it was padded."""
    random = torch.Generator().manual_seed(6)
    adapter = WindowAdapter(WIDTH, AdapterConfig(window_size=3, heads=2), salient=True).eval()
    block = adapter.blocks[0]
    with torch.no_grad():
        block.attention.saliency_bias.fill_(1000.0)
    frozen = FrozenAttention(
        *(torch.randn(s, generator=random) for s in ((3 * WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH,)))
    )
    tokens, grid = torch.randn(1, 20, WIDTH, generator=random), (4, 5)
    stands_out = torch.zeros(1, 20)
    stands_out[0, [6, 18]] = 1.0  # rows 1 and 3: the second lies in a window that is padded at the bottom
    attended = block._attend(tokens, grid, frozen, stands_out)[0]
    values = tokens[0] @ frozen.in_proj_weight.chunk(3)[2].T @ frozen.out_proj_weight.T + frozen.out_proj_bias
    for token, window in ((6, (0, 1, 2, 5, 6, 7, 10, 11, 12)), (18, (18, 19))):
        torch.testing.assert_close(attended[list(window)], values[token].expand(len(window), -1), rtol=1e-4, atol=1e-4)


def test_weighing_distances_changes_scores_and_maps_and_survives_saving(tiny_backbone, normal, images, tmp_path):
    def fitted(weight: float) -> Sowa:
        settings, extensions = Settings(precision="fp32"), [SaliencyWeight(weight)]
        return Sowa.from_pretrained(tiny_backbone, settings=settings, extensions=extensions).fit(normal, k_shot=2)

    plain, more, less = fitted(0.0), fitted(0.5), fitted(-0.5)
    maps = [each.judge(each.encoder.encode(images)).level_maps for each in (plain, more, less)]
    torch.testing.assert_close((maps[1] * maps[2]).sqrt(), maps[0])  # exp(w s) and exp(-w s)
    assert not torch.allclose(maps[0], maps[1])
    assert plain.calibration_.threshold != more.calibration_.threshold
    loaded = Sowa.load(more.save(tmp_path / "more.sowa"), settings=Settings(precision="fp32"))
    assert torch.equal(loaded.judge(loaded.encoder.encode(images)).maps, more.judge(more.encoder.encode(images)).maps)


def test_tiles_are_joined_with_what_stands_out_in_them(tiny_backbone, normal):
    settings = Settings(precision="fp32", tiled=True)
    detector = Sowa.from_pretrained(tiny_backbone, settings=settings, extensions=[SaliencyWeight(0.3)])
    detector.fit(normal, k_shot=2)
    seen = detector.encoder.encode(np.random.default_rng(1).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8))
    assert seen.patch_values["saliency_weight"].shape == (2, 64)
    assert detector.judge(seen).raw_scores.isfinite().all()


def test_a_detector_without_trained_prompts_keeps_its_cnn(tiny_backbone, normal, images, tmp_path):
    saliency, settings = SaliencyConfig(cnn="resnet18:random"), Settings(precision="fp32")
    encoder = TorchEncoder.from_pretrained(tiny_backbone, saliency=saliency, settings=settings)
    detector = Sowa(encoder, [SaliencyWeight(0.5)])
    with torch.no_grad():
        for parameter in detector.encoder.network.saliency.cnn.parameters():
            parameter.mul_(1.5)  # as if these were downloaded ones
    path = detector.fit(normal, k_shot=2).save(tmp_path / "parts.sowa")
    loaded = Sowa.load(path, settings=Settings(precision="fp32"))
    before, after = (each.encoder.encode(images).patch_values["saliency_weight"] for each in (detector, loaded))
    assert torch.equal(before, after)
