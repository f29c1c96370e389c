"""The detectors of the benchmark: as a name gives them, or with weights trained on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sowa.core.config import ModelConfig, Settings
from sowa.core.files import read_safetensors
from sowa.core.headers import WEIGHTS_FORMAT, WeightsHeader, read_header
from sowa.core.progress import Report, silent
from sowa.core.types import Sample
from sowa.detector.detector import Sowa
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.training.config import TrainConfig
from sowa.training.train import recipe, train


@dataclass(frozen=True)
class Network:
    """What every detector of the benchmark is made of, as ``Sowa.from_pretrained`` takes it.

    Attributes:
        name: A backbone, or weights of ``sowa train``.
        weights: A checkpoint of the authors for that backbone.
        settings: Device, precision, image size, tiling.
    """

    name: str = "mini"
    weights: Path | None = None
    settings: Settings = Settings()  # noqa: RUF009 - frozen

    def build(self) -> Sowa:
        """A detector."""
        return Sowa.from_pretrained(self.name, weights=self.weights, settings=self.settings)

    def trained(self, samples: Sequence[Sample], epochs: int, weights: Path, report: Report = silent) -> Sowa:
        """A detector trained by the paper's protocol on the test split of a data set.

        Args:
            samples: Of the data set.
            epochs: 1 or more.
            weights: The file. It's read where it is of the same training; otherwise it's written.
            report: Told of the progress.

        Raises:
            InputError: as `sowa.training.train.train` says.
        """
        config = TrainConfig(protocol="paper", epochs=epochs)
        encoder = TorchEncoder.from_pretrained(
            self.name, weights=self.weights, config=ModelConfig(), settings=self.settings
        )
        if not _is_of(weights, encoder, samples, config):
            train(encoder, samples, config, weights, report)
        return replace(self, name=str(weights), weights=None).build()


def _is_of(weights: Path, encoder: TorchEncoder, samples: Sequence[Sample], config: TrainConfig) -> bool:
    """Whether the file holds what training would lead to: same network, backbone, settings and images."""
    try:
        _, metadata = read_safetensors(weights, WEIGHTS_FORMAT)
        header = read_header(WeightsHeader, metadata, weights)
    except InputError:
        return False
    found = (header.config, header.backbone, header.train)
    return found == (encoder.config, encoder.identity, recipe(encoder, samples, config))
