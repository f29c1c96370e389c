"""``sowa predict``: verdicts to JSON lines, overlays and masks."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from sowa.console import Console
from sowa.data.stream import pictures
from sowa.detector import Sowa
from sowa.errors import InputError
from sowa.files import replacing


def predict_to_files(
    detector: Sowa, source: Path, out: Path | None, json_file: Path | None, batch_size: int, console: Console
) -> None:
    """Judges the pictures of ``source`` one batch at a time and writes as it goes.

    The JSON lines appear under their name when all pictures are judged. Without ``json_file`` they're printed.
    """
    wanted = pictures(str(source))
    names = unique_names([Path(picture.name) for picture in wanted])
    anomalous = judged = 0
    with ExitStack() as stack:
        report = stack.enter_context(console.progress())
        lines = None
        if json_file:
            lines = stack.enter_context(stack.enter_context(replacing(json_file)).open("w", encoding="utf-8"))
        for prediction in detector.predict(str(source), stream=True, batch_size=batch_size):
            line = json.dumps(prediction.to_dict(), ensure_ascii=False)
            if lines:
                lines.write(line + "\n")
            else:
                print(line, flush=True)
            if out:
                prediction.save(out, names[Path(prediction.image_path)])
            judged += 1
            anomalous += prediction.is_anomalous
            report("predict", judged + len(detector.skipped_), len(wanted))
    console.skipped(detector.skipped_)
    console.note(f"{judged} pictures judged, {anomalous} anomalous" + (f"; overlays in {out}" if out else ""))


def unique_names(paths: list[Path]) -> dict[Path, str]:
    """A file name for each picture's results: its stem, with as many folders in front as tell it from the others.

    Raises InputError where two pictures differ only in their suffix's case and can't be told apart.
    """
    names: dict[Path, str] = {}
    stems = Counter(path.stem for path in paths)
    for path in paths:
        names[path] = path.stem if stems[path.stem] == 1 else "_".join([*path.parts[-2:-1], path.stem])
    again = Counter(names.values())
    for path, name in names.items():
        if again[name] > 1:
            names[path] = "_".join(part for part in path.with_suffix("").parts if part not in ("/", "\\", "..", "."))
            names[path] += path.suffix.replace(".", "_")
    if len(set(names.values())) != len(names):
        raise InputError(f"two of {len(paths)} pictures would write the same file; predict their folders one by one")
    return names
