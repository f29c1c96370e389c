"""What plugs into a detector: found by name, stored in its file, refused in one line."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import sowa
from sowa.cli.app import run
from sowa.core.files import read_metadata
from sowa.detector import extension
from sowa.detector.extension import BankSearch, DistanceWeight, ImageJudge
from sowa.errors import InputError
from sowa.extensions.faiss import FaissSearch
from sowa.extensions.glances.extension import Glances
from sowa.extensions.names.expected import ExpectedDefects
from sowa.extensions.saliency import SaliencyWeight


class Halved:
    """Another package's: distances count half, but for the patches of one row of a window."""

    name: ClassVar[str] = "halved"
    replaces_prompts = False

    def __init__(self, row: int = 0) -> None:
        self.row, self.known = row, torch.zeros(1)

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        return cls(settings["row"])

    def attach(self, encoder: Any) -> None:
        encoder.read_patches(self.name, Row(self.row))

    def settings(self) -> dict[str, Any]:
        return {"row": self.row}

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"known": torch.tensor([7.0])}

    def restore(self, settings: dict[str, Any], tensors: dict[str, torch.Tensor], bank: Any) -> None:
        self.known = tensors["known"]

    def factors(self, values_BP: Any) -> Any:
        return values_BP


class Row(torch.nn.Module):
    def __init__(self, row: int) -> None:
        super().__init__()
        self.row = row

    def forward(self, pixels: torch.Tensor, features: Any) -> torch.Tensor:
        values = torch.full((len(pixels), *features.grid), 0.5)
        values[:, self.row] = 1.0
        return values.flatten(1)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Halved` beside what the package brings."""
    own = list(extension.entry_points(group=extension.GROUP))
    point = EntryPoint("halved", f"{__name__}:Halved", extension.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self, load=EntryPoint.load: Halved if self == point else load(self))
    monkeypatch.setattr(extension, "entry_points", lambda group: EntryPoints([*own, point]))


def test_what_ships_fulfils_its_protocol() -> None:
    assert isinstance(SaliencyWeight(0.1), DistanceWeight)
    assert isinstance(ExpectedDefects(["hole"]), DistanceWeight)
    assert isinstance(Glances(1), ImageJudge)
    assert isinstance(FaissSearch(), BankSearch)
    assert not isinstance(SaliencyWeight(0.1), ImageJudge)
    shipped = {"expected_defects": ExpectedDefects, "glances": Glances, "saliency_weight": SaliencyWeight}
    assert {name: extension.find(name) for name in shipped} == shipped


@pytest.mark.usefixtures("installed")
def test_another_package_s_extension_weighs_is_stored_and_found_again(
    tiny_backbone: str, normal: Path, tmp_path: Path
) -> None:
    settings = sowa.Settings(precision="fp32")
    plain = sowa.Sowa.from_pretrained(tiny_backbone, settings=settings).fit(normal, k_shot=2)
    weighed = sowa.Sowa.from_pretrained(tiny_backbone, settings=settings, extensions=[Halved(1)]).fit(normal, k_shot=2)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    before, after = (one.predict(image)[0].level_maps for one in (plain, weighed))
    expected = before * np.where(np.arange(4) == 1, 1.0, 0.5)[None, :, None]
    np.testing.assert_allclose(after, expected, rtol=1e-5)
    path = weighed.save(tmp_path / "parts.sowa")
    assert read_metadata(path)[1]["extensions"] == {"halved": {"row": 1}}
    assert load_file(path)["extensions.halved.known"].tolist() == [7.0]
    again = sowa.Sowa.load(path, settings=settings)
    assert again.extensions[0].known.tolist() == [7.0]
    assert again.predict(image)[0].raw_score == weighed.predict(image)[0].raw_score


def test_an_extension_that_is_not_here_is_one_clear_line(
    tiny_backbone: str, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal, k_shot=2).save(tmp_path / "parts.sowa")
    _, metadata = read_metadata(path)
    metadata["extensions"] = {"from_elsewhere": {}}
    header = {"format": "sowa-detector", "version": "3", "sowa": json.dumps(metadata)}
    save_file(load_file(path), path, metadata=header)
    assert run(["predict", str(normal), "--model", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "parts.sowa: extension 'from_elsewhere' isn't installed" in line
    assert "glances" in line


def test_a_file_of_the_version_before_is_one_clear_line(
    tiny_backbone: str, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal, k_shot=2).save(tmp_path / "parts.sowa")
    _, metadata = read_metadata(path)
    header = {"format": "sowa-detector", "version": "2", "sowa": json.dumps(metadata)}
    save_file(load_file(path), path, metadata=header)
    assert run(["predict", str(normal), "--model", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has version 2 of sowa-detector, this package reads version 3; make it anew" in line


def test_what_leaves_another_without_effect_is_refused(tiny_backbone: str) -> None:
    tiled = sowa.Settings(tiled=True)
    with pytest.raises(InputError, match="each may be given once"):
        sowa.Sowa.from_pretrained(tiny_backbone, extensions=[SaliencyWeight(0.1), SaliencyWeight(0.2)])
    with pytest.raises(InputError, match="leave saliency_weight out, or glances"):
        sowa.Sowa.from_pretrained(tiny_backbone, settings=tiled, extensions=[SaliencyWeight(0.1), Glances(2)])
    with pytest.raises(InputError, match="which searches no memory bank"):
        sowa.Sowa.from_pretrained(tiny_backbone, settings=sowa.Settings(search="glances"))


def test_a_file_s_own_settings_are_not_given_again(tiny_backbone: str, normal: Path, tmp_path: Path) -> None:
    path = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal, k_shot=2).save(tmp_path / "parts.sowa")
    with pytest.raises(InputError, match="has its own image size, tiles and category"):
        sowa.Sowa.load(path, settings=sowa.Settings(image_size=(96, 96)))
