"""Few references chosen among many normal images."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import sowa
from sowa.core.memory import MemoryBank
from sowa.core.scoring import top_mean
from sowa.detector.coreset import choose
from sowa.errors import InputError


def groups(sizes: tuple[int, ...], seed: int = 0, spread: float = 0.05) -> Tensor:
    """Images of so many different looks, (1, N, 4, 8): each a direction, somewhat blurred."""
    random = torch.Generator().manual_seed(seed)
    looks = F.normalize(torch.randn(len(sizes), 8, generator=random), dim=-1)
    images = torch.cat([look.expand(size, 4, 8) for look, size in zip(looks, sizes, strict=True)])
    return F.normalize(images + spread * torch.randn(images.shape, generator=random), dim=-1)[None]


def cost(features: Tensor, chosen: tuple[int, ...]) -> float:
    distances = MemoryBank(features[:, list(chosen)]).distances(tuple(features))
    return float(top_mean(distances.sum(dim=0)).mean())


@pytest.mark.parametrize("seed", range(3))
def test_every_look_gets_a_reference_and_the_commonest_comes_first(seed: int) -> None:
    chosen = choose(groups((3, 9, 4), seed), 3)
    assert chosen[0] in range(3, 12)
    assert {0 if i < 3 else 1 if i < 12 else 2 for i in chosen} == {0, 1, 2}


def test_each_further_image_is_the_best_one_to_add() -> None:
    features = groups((2, 3, 3), seed=4, spread=0.4)
    chosen = choose(features, 4)
    for count in range(1, 5):
        costs = {i: cost(features, (*chosen[: count - 1], i)) for i in range(8) if i not in chosen[: count - 1]}
        assert costs[chosen[count - 1]] == pytest.approx(min(costs.values()), abs=1e-6)
    assert len(set(chosen)) == 4


def test_the_choice_is_better_than_most() -> None:
    features = groups((2, 4, 4, 2), seed=1, spread=0.3)
    costs = sorted(cost(features, some) for some in itertools.combinations(range(12), 3))
    assert cost(features, tuple(choose(features, 3))) <= costs[len(costs) // 20]


def test_fit_takes_the_choice_and_calibrates_on_the_others(tiny_backbone: str, normal: Path, tmp_path: Path) -> None:
    shutil.copytree(normal, tmp_path / "good")
    (tmp_path / "good" / "x.png").write_bytes(b"broken")
    detector = sowa.Sowa.from_pretrained(tiny_backbone).fit(tmp_path / "good", k_shot=2, coreset=True)
    assert len(detector.references_) == len(detector.bank_) == 2
    assert detector.calibration_.seen == "4 normal images"
    assert [Path(name).name for name, _ in detector.skipped_] == ["x.png"]
    again = sowa.Sowa.from_pretrained(tiny_backbone).fit(tmp_path / "good", k_shot=2, coreset=True, seed=5)
    assert set(again.references_) == set(detector.references_)  # all images are candidates, so the draw is no matter


def test_few_left_over_tell_less_than_the_references(tiny_backbone: str, normal: Path) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal, k_shot=5, coreset=True)
    assert detector.calibration_.seen == "5 references, each left out in turn"


def test_fit_with_all_images_has_nothing_to_choose(tiny_backbone: str, normal: Path) -> None:
    detector = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal, k_shot=6, coreset=True)
    assert detector.calibration_.seen == "6 references, each left out in turn"


def test_more_references_than_there_are_stay_refused(tiny_backbone: str, normal: Path) -> None:
    with pytest.raises(InputError, match="k-shot is 7, allowed is 1 to 6"):
        sowa.Sowa.from_pretrained(tiny_backbone).fit(normal, k_shot=7, coreset=True)
