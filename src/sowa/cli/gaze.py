"""``sowa gaze``: record where people look, have a network learn it, and see how well it tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App

from sowa.cli.console import Console
from sowa.cli.options import (
    NETWORK,
    PIXELS_PER_DEGREE,
    BatchSize,
    Device,
    Network,
    NetworkFlags,
    PixelsPerDegree,
    WeightsOut,
    advanced,
    basic,
)
from sowa.core.config import SaliencyConfig, Settings
from sowa.core.headers import WeightsHeader
from sowa.errors import InputError

if TYPE_CHECKING:
    from sowa.encoders.torch_encoder import TorchEncoder
    from sowa.extensions.gaze.comparing import Predict
    from sowa.extensions.gaze.learning import Views, Watched
    from sowa.extensions.gaze.metrics import GazeMetrics
    from sowa.extensions.gaze.record.session import Lens, Session

gaze_app = App(name="gaze", help="People's eye movements: record them, learn from them, compare with them.")
Fixations = Annotated[
    Path, basic("CSV (image, x, y, duration_ms, observer), JSON of SALICON, or folder of grey images")
]
Images = Annotated[Path, basic("folder of the images that people looked at")]
Sigma = Annotated[float, advanced("degrees that a fixation is blurred by")]


@dataclass(frozen=True)
class Looked:
    """Where people's fixations are, the images they are on, and how these were shown."""

    fixations: Path
    images: Path
    pixels_per_degree: float
    sigma: float


@gaze_app.command
def record(
    source: Annotated[Path, basic("image, folder or glob pattern, shown in the order of their names")],
    *,
    out: Annotated[Path, basic("CSV file: image, x, y, duration_ms, observer; what it holds is kept")],
    observer: Annotated[str, basic("name of who looks")],
    radius: Annotated[float, advanced("radius of what is sharp, in parts of the longer side")] = 0.06,
    blur: Annotated[float, advanced("standard deviation of the blur, in parts of the longer side")] = 0.02,
    least: Annotated[int, advanced("clicks that an image needs at least")] = 3,
    host: Annotated[
        str, advanced("address to serve on; another lets other machines in, such as a tablet")
    ] = "127.0.0.1",
    port: Annotated[int, advanced("port of the page; 0 for any that is free")] = 8765,
) -> None:
    """Record where somebody looks, in a browser: images are blurred, and sharp where they are clicked.

    It stands in for an eye tracker, and needs pip install sowa[serve].
    Each image is written when it's done, so a recording that was stopped goes on where it was.
    """
    from sowa.extensions.gaze.record.session import Lens

    record_to_file(source, out, observer, Lens(radius, blur, least), host, port, Console())


def record_to_file(source: Path, out: Path, observer: str, lens: Lens, host: str, port: int, console: Console) -> None:
    """Serves the page until the observer is through, or somebody interrupts. Every image is written when it's done.

    Raises InputError where a package is missing, and as `stimuli`, `Session` and `bind` do.
    """
    from sowa.extensions.gaze.record.session import Session, stimuli

    try:
        from sowa.extensions.gaze.record.server import LOOPBACK, bind, serve
    except ImportError as error:
        raise InputError(f"recording needs a package that isn't there ({error}); pip install sowa[serve]") from None
    skipped: list[tuple[str, str]] = []
    with console.progress() as report:
        images = stimuli(source, lambda name, why: skipped.append((name, why)), report)
    console.skipped(skipped)
    session = Session(images, out, observer, lens)
    before = session.recorded
    if session.next is None:
        _say_recorded(session, before, console)
        return
    with bind(host, port) as listening:
        url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
        console.note(f"open {url} in a browser; Ctrl+C stops, and the same command goes on later")
        try:
            serve(session, listening, None if host in LOOPBACK else ["*"])
        finally:
            _say_recorded(session, before, console)


def _say_recorded(session: Session, before: int, console: Console) -> None:
    done, total, new = session.recorded, len(session.images), session.recorded - before
    console.say(
        f"{session.csv_path}: {done} of {total} images by {session.observer}, {new} of them new",
        event="gaze",
        out=str(session.csv_path),
        observer=session.observer,
        images=total,
        recorded=done,
        new=new,
    )


@gaze_app.command
def train(
    *,
    fixations: Fixations,
    images: Images,
    out: WeightsOut,
    network: NetworkFlags = NETWORK,
    pixels_per_degree: PixelsPerDegree = PIXELS_PER_DEGREE,
    sigma: Sigma = 1.0,
    held_out: Annotated[float, advanced("share of the images that is kept to test on")] = 0.2,
    seed: Annotated[int, advanced("seed of that draw and of the training")] = 0,
    batch_size: BatchSize = 8,
    device: Device = "auto",
) -> None:
    """Have a network's saliency learn where people look; adapters and prompts stay as they are."""
    from sowa.extensions.gaze.learning import apart, learn

    looked, console = Looked(fixations, images, pixels_per_degree, sigma), Console()
    encoder = _encoder(network, device)
    if not encoder.trained:
        raise InputError("the adapters and prompts aren't trained; use sowa train with --saliency and --gaze")
    views = watched_images(encoder, looked, batch_size, console)
    training, testing = apart(views.watched, held_out, seed)
    before = _compared(encoder, training, testing, looked, console)["the network"]
    with console.progress() as report:
        losses = learn(encoder, training, seed, report)
    found = _compared(encoder, training, testing, looked, console)
    how = {"gaze": {"images": len(training), "seed": seed, "held_out": held_out}}
    _save(encoder, out, how, (before, found["the network"]), losses)
    _table({"the network, not learned": before, **found}, console)
    console.say(f"{out} written", event="gaze train", out=str(out), **{n: _plain(m) for n, m in found.items()})


@gaze_app.command(name="test")
def run_test(
    *,
    fixations: Fixations,
    images: Images,
    network: NetworkFlags = NETWORK,
    pixels_per_degree: PixelsPerDegree = PIXELS_PER_DEGREE,
    sigma: Sigma = 1.0,
    batch_size: BatchSize = 8,
    device: Device = "auto",
) -> None:
    """Compare a network's attention with where people looked, beside the image's centre and other people."""
    looked, console = Looked(fixations, images, pixels_per_degree, sigma), Console()
    encoder = _encoder(network, device)
    views = watched_images(encoder, looked, batch_size, console)
    found = _compared(encoder, [], views.watched, looked, console)
    _table(found, console)
    told = {name: _plain(metrics) for name, metrics in found.items()}
    console.say(f"{len(views.watched)} images", event="gaze test", images=len(views.watched), metrics=told)


def _encoder(network: Network, device: str) -> TorchEncoder:
    from sowa.encoders.torch_encoder import TorchEncoder

    return TorchEncoder.from_pretrained(**network.arguments(), saliency=SaliencyConfig(), settings=Settings(device))


def watched_images(encoder: TorchEncoder, looked: Looked, batch_size: int, console: Console) -> Views:
    """Reads and encodes the images that people looked at, and says what is left out.

    Raises InputError where there is none.
    """
    from sowa.data.files import expand_source
    from sowa.extensions.gaze.fixations import match_images
    from sowa.extensions.gaze.learning import watch
    from sowa.extensions.gaze.readers import read_gaze

    gaze = read_gaze(looked.fixations)
    files, unseen = match_images(gaze.images, expand_source(looked.images))
    if not files:
        raise InputError(f"{looked.images} has none of the {len(unseen)} images that {looked.fixations} names")
    with console.progress() as report:
        views = watch(encoder, gaze, files, looked.pixels_per_degree, looked.sigma, batch_size, report)
    console.skipped(views.skipped)
    if unseen:
        console.note(f"{len(unseen)} image(s) aren't in {looked.images}: {', '.join(unseen[:3])}")
    if views.outside:
        console.note(views.outside)
    return views


def _save(
    encoder: TorchEncoder, out: Path, how: dict[str, Any], metrics: tuple[GazeMetrics, GazeMetrics], losses: list[float]
) -> None:
    """Weights like those of ``sowa train``, with the ``metrics`` before and after."""
    from sowa.model.checkpoint import identity, save_weights

    backbone, (before, after) = identity(encoder.network.backbone), map(_plain, metrics)
    header = WeightsHeader(encoder.network.config, backbone, how, before, after, losses)
    save_weights(encoder.network, out, header)


def _compared(
    encoder: TorchEncoder, training: list[Watched], testing: list[Watched], looked: Looked, console: Console
) -> dict[str, GazeMetrics]:
    from sowa.extensions.gaze.comparing import baselines, compare
    from sowa.extensions.gaze.learning import attention_map

    saliency = encoder.network.saliency
    assert saliency is not None  # `watch` has seen to it
    network: dict[str, Predict] = {"the network": lambda watched: attention_map(saliency, watched)}
    with console.progress() as report:
        return compare(testing, baselines(training) | network, looked.pixels_per_degree, looked.sigma, report)


def _table(found: dict[str, GazeMetrics], console: Console) -> None:
    names = list(next(iter(found.values())).metrics())
    console.table("where people look", ["", *names], [[name, *_plain(m).values()] for name, m in found.items()])


def _plain(metrics: GazeMetrics) -> dict[str, float | None]:
    return {name: None if score.why else score.value for name, score in metrics.metrics().items()}
