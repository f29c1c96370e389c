"""The comparison with the authors' recording passes, and notices when it shouldn't."""

import importlib.util
import json
import runpy
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import RECORDING

from sowa.errors import InputError

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "parity.py"


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A recording that may be changed."""
    for suffix in (".npz", ".json"):
        target = tmp_path / f"copy{suffix}"
        shutil.copyfile(RECORDING.with_suffix(suffix), target)
    return tmp_path / "copy.npz"


def change_array(path: Path, name: str, by: float) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[-1] += by
    np.savez(path, **arrays)


def test_everything_that_the_authors_code_computed_is_computed_here(parity, capsys):
    assert parity.main(RECORDING) == 0
    errors = json.loads(capsys.readouterr().out)
    with np.load(RECORDING) as file:
        outputs = {name for name in file.files if name.startswith("out/")}
    config = json.loads(RECORDING.with_suffix(".json").read_text())
    assert errors.keys() == outputs | config["expected"].keys() | {f"metrics/{name}" for name in config["metrics"]}
    assert max(errors.values()) < 1e-4


@pytest.mark.parametrize("name", ["out/map_2", "out/text_features", "out/kshot_map", "out/paper_image_score"])
def test_a_recording_that_differs_in_one_value_is_noticed(parity, copy, capsys, name):
    change_array(copy, name, 1e-2)
    assert parity.main(copy) == 1
    errors = json.loads(capsys.readouterr().out)
    assert [key for key, error in errors.items() if error > 1e-4] == [name]
    assert errors[name] == pytest.approx(1e-2, rel=0.05)


def test_a_changed_weight_is_noticed(parity, copy, capsys):
    change_array(copy, "sowa/visual_encoder.adapters.1.blocks.0.attn.cpb_mlp.2.weight", 1.0)
    assert parity.main(copy) == 1
    errors = json.loads(capsys.readouterr().out)
    assert errors["out/adapted_1"] > 1e-4
    assert errors["out/adapted_0"] < 1e-4


@pytest.mark.parametrize(("group", "name"), [("expected", "loss_dice"), ("metrics", "pixel-aupro")])
def test_another_loss_or_metric_is_noticed(parity, copy, capsys, group, name):
    config = json.loads(copy.with_suffix(".json").read_text())
    config[group][name] += 1e-2
    copy.with_suffix(".json").write_text(json.dumps(config))
    assert parity.main(copy) == 1
    capsys.readouterr()


def test_an_output_that_isnt_known_or_isnt_a_number_is_noticed(parity, copy, capsys):
    with np.load(copy) as file:
        arrays = dict(file)
    arrays["out/unheard_of"] = np.zeros(1)
    arrays["out/sum_map"] = np.full_like(arrays["out/sum_map"], np.nan)
    np.savez(copy, **arrays)
    assert parity.main(copy) == 1
    errors = json.loads(capsys.readouterr().out)
    assert errors["out/unheard_of"] == errors["out/sum_map"] == float("inf")


def run_as_script(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code


def test_a_missing_recording_ends_with_code_2_and_one_line(monkeypatch, capsys, tmp_path):
    assert run_as_script(monkeypatch, str(tmp_path / "nowhere.npz")) == 2
    message = capsys.readouterr().err.strip()
    assert "nowhere.npz" in message
    assert "\n" not in message


def test_a_recording_without_its_configuration_is_refused(parity, tmp_path):
    np.savez(tmp_path / "alone.npz", a=np.zeros(1))
    with pytest.raises(InputError, match=r"alone\.json beside it are needed"):
        parity.main(tmp_path / "alone.npz")


def test_without_a_path_the_usage_is_shown(monkeypatch, capsys):
    assert run_as_script(monkeypatch) == 2
    assert "usage: scripts/parity FILE.npz" in capsys.readouterr().err
