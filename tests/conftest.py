"""What tests share: a tiny CLIP on disk, a tiny data set, and where the recorded reference lies."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file

import sowa
from sowa.core.config import AdapterConfig, ModelConfig, Settings
from sowa.detector.exported import ExportedSowa
from sowa.detector.extension import Extension
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.synthetic import write_dataset

# Tiny networks gain nothing from threads, and lose much where cores are shared.
torch.set_num_threads(1)
# The network that a test makes lasts as long as the test: to look for garbage as often as usual is a tenth of the time.
gc.set_threshold(20_000, 20, 20)
# Tests say what is right, not how fast: on a busy machine a first run takes as long as it takes.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

# Files that take longest, to be begun first: a process that is left alone with one at the end has the other wait.
LONGEST = ("test_export_kinds", "test_export", "test_readme", "test_runtime", "test_cli", "test_pretrain")
Once = Callable[[str, Callable[[Path], object]], Path]
RECORDING = Path(__file__).resolve().parent / "reference" / "recording.npz"  # of the authors' code


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def tiny_clip(seed: int = 0, image_size: int = 64, layers: int = 4) -> CLIP:
    """A CLIP of OpenAI's shape, small enough to run in milliseconds: 4 x 4 patches, one head of 64."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CLIP(
            32,
            vision_cfg=CLIPVisionCfg(layers=layers, width=64, head_width=64, patch_size=16, image_size=image_size),
            text_cfg=CLIPTextCfg(width=64, heads=1, layers=1),
            quick_gelu=True,
        ).eval()


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a tiny CLIP under OpenAI's names: what `--backbone` takes."""
    path = tmp_path_factory.mktemp("backbone") / "tiny.safetensors"
    state = {name: value.contiguous() for name, value in tiny_clip().state_dict().items()}
    save_file(state, path)
    return str(path)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """A function that has something made under a name, once for all processes that run tests, and returns its path."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        path = shared / name
        with FileLock(f"{path}.lock"):
            if not path.exists():
                make(path)
        return path

    return made


@pytest.fixture(scope="session")
def dataset(once: Once) -> Path:
    """Generated images in the MVTec AD layout: categories `wood` and `capsule`, 96 pixels."""
    return once(
        "dataset",
        lambda root: write_dataset(root, ["wood", "capsule"], train=6, test=(3, 1), size=96),
    )


@pytest.fixture(scope="session")
def normal(dataset: Path) -> Path:
    """Six normal images of wood."""
    return dataset / "wood" / "train" / "good"


@pytest.fixture(scope="session")
def judged(dataset: Path) -> Path:
    """Normal and anomalous images of wood."""
    return dataset / "wood" / "test"


@pytest.fixture(scope="session")
def detector_file(tiny_backbone: str, normal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector fitted on them, saved."""
    return sowa.Sowa.from_pretrained(tiny_backbone).fit(normal).save(tmp_path_factory.mktemp("detector") / "wood.sowa")


def fitted(
    backbone: str,
    normal: Path,
    trained: bool = True,
    levels: tuple[int, ...] | None = (1, 3),
    extensions: Sequence[Extension] = (),
    **settings: Any,
) -> sowa.Sowa:
    """A detector with random prompts and adapters that count as trained; of two levels, which are exported sooner."""
    torch.manual_seed(3)
    config = ModelConfig(adapter=AdapterConfig(window_size=3, heads=4), levels=levels)
    encoder = TorchEncoder.from_pretrained(backbone, config=config, settings=Settings(precision="fp32", **settings))
    encoder.trained = trained
    return sowa.Sowa(encoder, extensions).fit(normal, k_shot=4)


@pytest.fixture(scope="session")
def prompted(tiny_backbone: str, normal: Path) -> sowa.Sowa:
    """A detector whose prompts count, fitted on four normal images."""
    return fitted(tiny_backbone, normal)


@pytest.fixture(scope="session")
def exports(prompted: sowa.Sowa, once: Once) -> Callable[[str, str], Path]:
    """A function that makes each export once: it takes some ten seconds."""

    from sowa.export import export

    def made(format: str, precision: str = "fp32") -> Path:
        # A random network isn't made to be rounded; tests look at the difference themselves.
        tolerance = 0.5 if precision == "int8" else None
        return once(
            f"export-{format}-{precision}", lambda out: export(prompted, out, format, precision, tolerance=tolerance)
        )

    return made


@pytest.fixture(scope="session")
def exported(exports: Callable[[str, str], Path]) -> Path:
    """An export to ONNX."""
    return exports("onnx")


@pytest.fixture
def images() -> np.ndarray:
    """Images (5, 64, 64, 3) that no detector has seen."""
    return np.random.default_rng(8).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


def differences(detector: sowa.Sowa, exported: ExportedSowa, images: np.ndarray) -> list[float]:
    """Largest differences of raw scores, maps and level maps."""
    original, there = detector.judge(detector.encoder.encode(images)).numpy(), exported.engine(images)
    parts = ("raw_scores", "maps", "level_maps")
    return [float(np.abs(getattr(original, part) - getattr(there, part)).max()) for part in parts]
