"""The detectors of the benchmark: as a name gives them, or with weights trained on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sowa.core.config import ModelConfig, TrainConfig
from sowa.core.files import read_safetensors
from sowa.core.headers import WEIGHTS_FORMAT, WeightsHeader, read_header
from sowa.core.progress import Report, silent
from sowa.core.types import Sample
from sowa.detector.detector import Sowa
from sowa.encoders.devices import Precision
from sowa.errors import InputError
from sowa.model.checkpoint import identity
from sowa.training.train import recipe, train


@dataclass(frozen=True)
class Network:
    """What every detector of the benchmark is made of, as ``Sowa.from_pretrained`` takes it."""

    name: str = "mini"
    weights: Path | None = None
    device: str = "auto"
    precision: Precision = "auto"
    image_size: tuple[int, int] | None = None

    def build(self, config: ModelConfig | None = None) -> Sowa:
        """A detector; with ``config`` one whose prompts and adapters aren't trained."""
        return Sowa.from_pretrained(
            self.name,
            weights=self.weights,
            config=config,
            device=self.device,
            precision=self.precision,
            image_size=self.image_size,
        )

    def trained(self, samples: Sequence[Sample], epochs: int, weights: Path, report: Report = silent) -> Sowa:
        """A detector trained by the paper's protocol on the test split of a data set.

        Its weights are those of the file ``weights`` where that is of the same training; otherwise it's written.
        Raises InputError as ``sowa.training.train.train`` does.
        """
        config = TrainConfig(protocol="paper", epochs=epochs)
        detector = self.build(ModelConfig())
        if not _is_of(weights, detector, samples, config):
            train(detector, samples, config, weights, report)
        return replace(self, name=str(weights), weights=None).build()


def _is_of(weights: Path, detector: Sowa, samples: Sequence[Sample], config: TrainConfig) -> bool:
    """Whether the file holds what training would lead to: same network, backbone, settings and images."""
    try:
        _, metadata = read_safetensors(weights, WEIGHTS_FORMAT)
        header = read_header(WeightsHeader, metadata, weights)
    except InputError:
        return False
    network = detector.network
    found = (header.config, header.backbone, header.train)
    return found == (network.config, identity(network.backbone), recipe(detector, samples, config))
