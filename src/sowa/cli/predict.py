"""``sowa predict``: verdicts to JSON lines, overlays, masks and a report. With an export it loads no torch."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

from sowa.cli.console import Console
from sowa.cli.options import (
    COMPUTE,
    SEVERAL,
    ComputeFlags,
    JsonLines,
    Machine,
    MovedBackbone,
    Source,
    Typed,
    advanced,
    basic,
)
from sowa.cli.results import json_lines, unique_names
from sowa.core.files import file_format, is_file, make_folder
from sowa.core.headers import DETECTOR_FORMAT, WEIGHTS_FORMAT
from sowa.core.progress import Report
from sowa.errors import InputError

if TYPE_CHECKING:
    from sowa.detector.detector import Sowa
    from sowa.detector.exported import ExportedSowa
    from sowa.detector.instances import Instances
    from sowa.detector.prediction import Prediction
    from sowa.report import ReportWriter


def predict(
    source: Source,
    *,
    model: Annotated[
        Path | None, basic("what sowa fit, export or train wrote; without it mini judges, as it ships")
    ] = None,
    out: Annotated[Path | None, basic("folder for overlays and masks")] = None,
    json_file: JsonLines = None,
    report: Annotated[Path | None, basic("HTML file that shows every image and its verdict")] = None,
    boxes: Annotated[bool, basic("put a box with a score around each defect", negative=())] = False,
    defect: Annotated[
        list[str] | None, basic('names that defects may have, such as scratch "missing part"', **SEVERAL)
    ] = None,
    examples: Annotated[Path | None, basic("folder with a folder of images for each defect, called like it")] = None,
    backbone: MovedBackbone = None,
    search: Annotated[
        Literal["exact", "faiss"], advanced("in the memory bank; faiss is approximate, and faster in large ones")
    ] = "exact",
    compute: ComputeFlags = COMPUTE,
    typed: Typed = None,
) -> None:
    """Judge images with a fitted detector, or zero-shot with trained weights."""
    console = Console()
    detector = _load_detector(model, backbone, compute, search)
    if defect or examples:
        _name_defects(detector, defect or [], examples, compute.batch_size, console)
    outputs = Outputs(out, json_file, report, boxes)
    _predict_to_files(detector, source, outputs, compute.batch_size, console, typed or "")


def _load_detector(model: Path | None, backbone: str | None, machine: Machine, search: str) -> Sowa | ExportedSowa:
    """The detector that a file or an export's folder holds, or one without references: from a weights file, or the
    embedded one.

    ``backbone`` stands in for the one that a detector names. Raises InputError for anything else, and for a ``search``
    where there is no memory bank of ours to search.
    """
    from sowa.detector.exported import ExportedSowa
    from sowa.detector.exported_metadata import NAME as EXPORT

    is_export = model is not None and is_file(model / EXPORT)
    if search != "exact" and (model is None or is_export or file_format(model) != DETECTOR_FORMAT):
        raise InputError(f"--search {search} needs a file of sowa fit as --model, whose memory bank it searches")
    if model is not None and is_export:
        if backbone is not None:
            raise InputError(f"--model {model} is an export, which holds its backbone; leave --backbone {backbone} out")
        where = "cpu" if machine.device == "auto" else machine.device
        return ExportedSowa.load(
            model, device=where, precision="fp32" if machine.precision == "auto" else machine.precision
        )
    from sowa.detector.detector import Sowa  # torch takes seconds, which an export needn't wait for

    if model is None:
        return Sowa.from_pretrained(backbone or "mini", settings=machine.settings())
    if file_format(model) == WEIGHTS_FORMAT:
        if backbone is not None:
            raise InputError(f"--model {model} names its backbone itself; leave --backbone {backbone} out")
        return Sowa.from_pretrained(str(model), settings=machine.settings())
    return Sowa.load(model, backbone=backbone, settings=machine.settings(search=search))


def _name_defects(
    detector: Sowa | ExportedSowa, names: list[str], examples: Path | None, batch_size: int, console: Console
) -> None:
    """Has the detector say which of these names a defect has; ``examples`` holds a folder of images for each.

    Raises InputError for an export, a folder without folders, and as `Sowa.name_defects` does.
    """
    from sowa.detector.exported import ExportedSowa

    if isinstance(detector, ExportedSowa):
        raise InputError("an export can't name defects; give the file of sowa fit as --model, or leave --defect out")
    shown: dict[str, Path] = {}
    if examples is not None:
        shown = {folder.name: folder for folder in sorted(examples.glob("[!.]*")) if folder.is_dir()}
        if not shown:
            raise InputError(f"--examples {examples} holds no folder; needed is one for each defect, called like it")
    from sowa.extensions.names.defects import DefectNames

    told = DefectNames(detector, names or list(shown), shown, batch_size)
    detector.annotators = [told]
    console.skipped(told.skipped_)


@dataclass(frozen=True)
class Outputs:
    """Where ``sowa predict`` writes: a folder of overlays, a file of JSON lines (printed without one), a report; and
    whether ``boxes`` are in the lines and on the overlays."""

    folder: Path | None = None
    json_file: Path | None = None
    report: Path | None = None
    boxes: bool = False


def _predict_to_files(
    detector: Sowa | ExportedSowa, source: Path, outputs: Outputs, batch_size: int, console: Console, command: str = ""
) -> None:
    """Judges the images of ``source`` one batch at a time and writes as it goes.

    The JSON lines appear under their name when all images are judged, or under FILE.partial where an error ends the
    run before. A report appears when all is done, or not at all; ``command`` is what it says was typed.
    """
    from sowa.data.sources import image_sources

    started = time.perf_counter()
    wanted = [image.name for image in image_sources(str(source))]
    if outputs.folder:
        wanted = _without_results(wanted, source, outputs.folder)
        make_folder(outputs.folder)
    with ExitStack() as stack:
        writer = stack.enter_context(_report(outputs.report, len(wanted))) if outputs.report else None
        with console.progress() as report, json_lines(outputs.json_file) as lines:
            verdicts = _judge(detector, wanted, outputs, lines, writer, batch_size, report)
        if writer:
            from sowa.report.describe import describe_predictions

            seconds = time.perf_counter() - started
            writer.finish(describe_predictions(detector, source, verdicts.total(), seconds, command))
    console.skipped(detector.skipped_)
    written = [f"overlays in {outputs.folder}"] if outputs.folder else []
    written += [f"report in {outputs.report}"] if outputs.report else []
    counted = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("anomalous", "unsure", "normal"))
    console.note("; ".join([f"{verdicts.total()} images judged, {counted}", *written]))


def _report(path: Path, count: int) -> AbstractContextManager[ReportWriter]:
    from sowa.report import open_report  # a tenth of a second, which a run without a report needn't wait for

    return open_report(path, count)


def _judge(
    detector: Sowa | ExportedSowa,
    wanted: list[str],
    outputs: Outputs,
    lines: TextIO,
    writer: ReportWriter | None,
    batch_size: int,
    report: Report,
) -> Counter[str]:
    """Writes a line per image, and overlays; how many images there were of each verdict."""
    names = unique_names(wanted)
    verdicts: Counter[str] = Counter()
    for prediction in detector.predict(wanted, stream=True, batch_size=batch_size):
        boxes = _boxes(prediction) if outputs.boxes else None
        told = {"boxes": boxes.to_dicts()} if boxes is not None else {}
        print(json.dumps(prediction.to_dict() | told), file=lines, flush=lines is sys.stdout)
        if outputs.folder:
            prediction.save(outputs.folder, names[prediction.image_path], boxes)
        if writer:
            writer.add(prediction, boxes=boxes)
        verdicts[prediction.verdict] += 1
        report("predict", verdicts.total() + len(detector.skipped_), len(wanted))
    return verdicts


def _boxes(prediction: Prediction) -> Instances:
    from sowa.detector.instances import instances  # needs OpenCV, as drawing does, which an export can do without

    return instances(prediction)


def _without_results(wanted: list[str], source: Path, out: Path) -> list[str]:
    """Leaves out what an earlier run wrote into a folder inside the source."""
    inside = out.resolve()
    if source.is_dir() and source.resolve().is_relative_to(inside):
        raise InputError(f"--out {out} holds the images themselves; choose another folder, such as {out / 'results'}")
    return [name for name in wanted if not Path(name).resolve().is_relative_to(inside)]
