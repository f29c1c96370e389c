"""The flags of ``sowa gaze``. Heavy imports happen inside the commands."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from sowa.cli.console import Console
from sowa.cli.flags import PIXELS_PER_DEGREE, Device, named_network
from sowa.core.config import SaliencyConfig, Settings

gaze_app = App(name="gaze", help="People's eye movements: record them, learn from them, compare with them.")


@gaze_app.command
def record(
    source: Path,
    *,
    out: Path,
    observer: str,
    radius: float = 0.06,
    blur: float = 0.02,
    least: int = 3,
    host: str = "127.0.0.1",
    port: int = 8765,
) -> None:
    """Record where somebody looks, in a browser: images are blurred, and sharp where they are clicked.

    It stands in for an eye tracker. Each image is written when it's done, so a recording that was stopped goes on
    where it was. Needs `pip install sowa[serve]`.

    Args:
        source: image, folder or glob pattern; images are shown in the order of their names
        out: CSV file with the columns image, x, y, duration_ms, observer; what it holds is kept
        observer: name of who looks
        radius: of the sharp region, in parts of the image's longer side
        blur: standard deviation of the blur, in parts of the image's longer side
        least: clicks that an image needs at least
        host: address to serve on; another than the default lets other machines in, such as a tablet
        port: of the page; 0 for any that is free
    """
    from sowa.cli.gaze import record_to_file
    from sowa.extensions.gaze.record.session import Lens

    record_to_file(source, out, observer, Lens(radius, blur, least), host, port, Console())


@gaze_app.command
def train(
    *,
    fixations: Path,
    images: Path,
    out: Path,
    model: Path | None = None,
    backbone: str | None = None,
    pixels_per_degree: float = PIXELS_PER_DEGREE,
    sigma: float = 1.0,
    held_out: float = 0.2,
    seed: int = 0,
    batch_size: int = 8,
    device: Device = "auto",
) -> None:
    """Have a network's saliency learn where people look; adapters and prompts stay as they are.

    Args:
        fixations: CSV file (image, x, y, duration_ms, observer), JSON file of SALICON, or folder of grey images
        images: folder of the images that people looked at
        out: file for the weights, *.safetensors
        model: weights of `sowa train`, which name their backbone, or with --backbone the authors'
        backbone: as in `sowa fit`
        pixels_per_degree: of visual angle, of the images as they were shown
        sigma: degrees that a fixation is blurred by
        held_out: share of the images that is kept to test on
        seed: of that draw and of the training
    """
    from sowa.cli.gaze_learning import Looked, learn_to_file
    from sowa.encoders.torch_encoder import TorchEncoder

    encoder = TorchEncoder.from_pretrained(
        **named_network(model, backbone), saliency=SaliencyConfig(), settings=Settings(device)
    )
    looked = Looked(fixations, images, pixels_per_degree, sigma)
    learn_to_file(encoder, looked, out, held_out, seed, batch_size, Console())


@gaze_app.command(name="test")
def run_test(
    *,
    fixations: Path,
    images: Path,
    model: Path | None = None,
    backbone: str | None = None,
    pixels_per_degree: float = PIXELS_PER_DEGREE,
    sigma: float = 1.0,
    batch_size: int = 8,
    device: Device = "auto",
) -> None:
    """Compare a network's attention with where people looked, beside the image's centre and other people.

    Args:
        fixations: as in `sowa gaze train`
        images: as in `sowa gaze train`
        model: weights of `sowa gaze train` or `sowa train`, or with --backbone the authors'
        backbone: as in `sowa fit`
        pixels_per_degree: of visual angle, of the images as they were shown
        sigma: degrees that a fixation is blurred by
    """
    from sowa.cli.gaze_learning import Looked, compare_to_table
    from sowa.encoders.torch_encoder import TorchEncoder

    encoder = TorchEncoder.from_pretrained(
        **named_network(model, backbone), saliency=SaliencyConfig(), settings=Settings(device)
    )
    compare_to_table(encoder, Looked(fixations, images, pixels_per_degree, sigma), batch_size, Console())
