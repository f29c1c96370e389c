"""``sowa gaze record``: a local page that records where somebody looks on images. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from sowa.cli.console import Console
from sowa.errors import InputError
from sowa.extensions.gaze.record.session import Lens, Session, stimuli


def record_to_file(source: Path, out: Path, observer: str, lens: Lens, host: str, port: int, console: Console) -> None:
    """Serves the page until the observer is through, or somebody interrupts. Every image is written when it's done.

    Raises InputError where a package is missing, and as `stimuli`, `Session` and `bind` do.
    """
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
        _say(session, before, console)
        return
    with bind(host, port) as listening:
        url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
        console.note(f"open {url} in a browser; Ctrl+C stops, and the same command goes on later")
        try:
            serve(session, listening, None if host in LOOPBACK else ["*"])
        finally:
            _say(session, before, console)


def _say(session: Session, before: int, console: Console) -> None:
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
