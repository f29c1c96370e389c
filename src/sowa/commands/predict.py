"""``sowa predict``: verdicts to JSON lines, overlays and masks."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TextIO

from sowa.console import Console
from sowa.data.stream import pictures
from sowa.detector import Sowa
from sowa.devices import Precision
from sowa.errors import InputError
from sowa.files import file_format, make_folder, replacing
from sowa.headers import WEIGHTS_FORMAT
from sowa.progress import Report


def load_detector(model: Path | None, backbone: str | None, device: str, precision: Precision) -> Sowa:
    """The detector that a file holds, or one without references: from a weights file, or the embedded one.

    ``backbone`` stands in for the one that a detector names. Raises InputError for any other file.
    """
    if model is None:
        return Sowa.from_pretrained(backbone or "mini", device=device, precision=precision)
    if file_format(model) == WEIGHTS_FORMAT:
        return Sowa.from_pretrained(str(model), device=device, precision=precision)
    return Sowa.load(model, backbone=backbone, device=device, precision=precision)


def predict_to_files(
    detector: Sowa, source: Path, out: Path | None, json_file: Path | None, batch_size: int, console: Console
) -> None:
    """Judges the pictures of ``source`` one batch at a time and writes as it goes.

    The JSON lines appear under their name when all pictures are judged, or under FILE.partial where an error ends the
    run before. Without ``json_file`` they're printed.
    """
    wanted = [picture.name for picture in pictures(str(source))]
    if out:
        wanted = _without_results(wanted, source, out)
        make_folder(out)
    with console.progress() as report:
        if json_file is None:
            anomalous, judged = _predict(detector, wanted, out, sys.stdout, batch_size, report)
        else:
            with replacing(json_file) as temporary, temporary.open("w", encoding="utf-8") as lines:
                try:
                    anomalous, judged = _predict(detector, wanted, out, lines, batch_size, report)
                except InputError:
                    if lines.tell():
                        temporary.rename(json_file.with_name(f"{json_file.name}.partial"))
                    raise
    console.skipped(detector.skipped_)
    console.note(f"{judged} pictures judged, {anomalous} anomalous" + (f"; overlays in {out}" if out else ""))


def _predict(
    detector: Sowa, wanted: list[str], out: Path | None, lines: TextIO, batch_size: int, report: Report
) -> tuple[int, int]:
    """Writes a line per picture, and overlays into ``out``; numbers of anomalous and of all judged pictures."""
    names = unique_names(wanted)
    anomalous = judged = 0
    for prediction in detector.predict(wanted, stream=True, batch_size=batch_size):
        print(json.dumps(prediction.to_dict()), file=lines, flush=lines is sys.stdout)
        if out:
            prediction.save(out, names[prediction.image_path])
        judged += 1
        anomalous += prediction.is_anomalous
        report("predict", judged + len(detector.skipped_), len(wanted))
    return anomalous, judged


def _without_results(wanted: list[str], source: Path, out: Path) -> list[str]:
    """Leaves out what an earlier run wrote into a folder inside the source."""
    inside = out.resolve()
    if source.is_dir() and source.resolve().is_relative_to(inside):
        raise InputError(f"--out {out} holds the pictures themselves; choose another folder, such as {out / 'results'}")
    return [name for name in wanted if not Path(name).resolve().is_relative_to(inside)]


def unique_names(paths: list[str]) -> dict[str, str]:
    """A file name for each picture's results: its stem, its folder in front where stems repeat, then a number."""
    stems = Counter(Path(path).stem for path in paths)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in paths:
        file = Path(path)
        wish = file.stem if stems[file.stem] == 1 else f"{file.parent.name}_{file.stem}"
        name, number = wish, 1
        while name in taken:
            number += 1
            name = f"{wish}-{number}"
        names[path] = name
        taken.add(name)
    return names
