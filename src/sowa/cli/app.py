"""The command line ``sowa``: reads flags, calls the package, prints. No logic of its own.

Heavy imports happen inside commands, so that ``sowa --help`` and ``sowa info`` answer at once.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Dict

import sowa
from sowa.cli.allocator import collect_no_more, collect_rarely, keep_freed_memory
from sowa.cli.classify_app import classify_app
from sowa.cli.console import Console
from sowa.cli.detect_app import detect_app
from sowa.cli.flags import (
    PIXELS_PER_DEGREE,
    Device,
    Precision,
    Typed,
    augmentation,
    extensions,
    hyphens,
    named_network,
    print_config,
    read_config,
    size,
    take_config,
)
from sowa.cli.gaze_app import gaze_app
from sowa.cli.measure_app import benchmark, run_test, shots
from sowa.cli.task_app import data_app, prompts_app, task_app
from sowa.core.config import FALSE_POSITIVE_RATE, AdapterConfig, ModelConfig, PromptConfig, SaliencyConfig, Settings
from sowa.errors import ExportError, InputError, TrainingError
from sowa.training.config import TrainConfig

app = App(
    name="sowa",
    version=sowa.__version__,
    help="Find defects in images of parts from a handful of normal images, or none.",
    help_epilogue="Every command takes --config FILE (YAML with its flags; for fit also the preset accurate) and "
    "--print-config (writes that file).",
)


@app.command
def demo(out: Path = Path("demo"), size: int = 384, seed: int = 0) -> None:
    """Generate images of parts, learn the good ones, find the defects, and draw what was found.

    Args:
        out: folder for images, detectors and overlays
        size: side of the generated images in pixels
        seed: another seed makes other products
    """
    from sowa.cli.demo import run_demo

    run_demo(out, size, seed, Console())


@app.command
def fit(
    *,
    normal: Path,
    out: Path,
    model: Path | None = None,
    backbone: str | None = None,
    k_shot: int | Literal["auto"] | None = None,
    seed: int = 0,
    coreset: bool = False,
    patch_fraction: float | None = None,
    augment: str = "auto",
    saliency_weight: float = 0.0,
    expect: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
    category: str | None = None,
    image_size: str | None = None,
    tiled: bool = False,
    glances: int | None = None,
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Learn what normal looks like from images of good parts, and save a detector.

    Args:
        normal: folder (or file, or glob pattern) of normal images
        out: the detector's file, *.sowa
        model: weights of `sowa train`, which name their backbone, or with --backbone the authors'
        backbone: embedded `mini` (default), a model of open_clip such as ViT-L-14-336, NAME:FILE, or NAME:random
        k_shot: how many images to take as references, drawn by the seed; all by default. auto finds out how many are
            enough, as `sowa shots` does
        seed: of the draw
        coreset: with --k-shot, take those images that the others look most like, instead of any
        patch_fraction: share of each reference's patches that the bank holds, 0 to 1; all by default, fewer beyond
            64 images
        augment: views of the references that are normal too: auto (up to eight references tell which are), none, or
            some of hflip,vflip,rotate90,rotate180,tilt,brightness,crop
        saliency_weight: what standing out of its image adds to a patch's distance, -1 to 1
        expect: defects in your words, such as scratch "missing part"; what looks like none of them counts less, for
            images that differ beside the part
        false_positive_rate: share of good parts that may be called anomalous, 0 to 1; `sowa calibrate` changes it later
        category: class whose prompts are used, where the weights know several
        image_size: side in pixels, or HEIGHTxWIDTH; by default the backbone's
        tiled: see large images through overlapping windows, for defects that are small in them; slower
        glances: with --tiled, look at so many windows only, chosen one after the other by what was seen so far
    """
    from sowa.core.calibration import check_rate
    from sowa.detector.detector import Sowa

    check_rate(false_positive_rate)
    console = Console()
    network = named_network(model, backbone)
    settings = Settings(device, precision, size(image_size), tiled, category)
    detector = Sowa.from_pretrained(
        **network, settings=settings, extensions=extensions(saliency_weight, expect, glances)
    )
    if k_shot == "auto":
        from sowa.cli.shots import chosen_shots

        k_shot = chosen_shots(detector, normal, seed, batch_size, console)
    with console.progress() as report:
        detector.fit(
            normal,
            k_shot=k_shot,
            seed=seed,
            coreset=coreset,
            patch_fraction=patch_fraction,
            augment=augmentation(augment),
            batch_size=batch_size,
            report=report,
        )
    detector.calibrate(false_positive_rate=false_positive_rate).save(out)
    console.skipped(detector.skipped_)
    console.say(
        f"{out}: {len(detector.references_)} reference images, threshold {detector.calibration_.threshold:.4f}",
        event="fit",
        out=str(out),
        references=detector.references_,
        threshold=detector.calibration_.threshold,
    )


@app.command
def calibrate(
    *,
    model: Path,
    normal: Path | None = None,
    false_positive_rate: float | None = None,
    dataset: str | None = None,
    root: Path | None = None,
    category: str | None = None,
    rule: Literal["f1", "youden", "recall", "cost"] | None = None,
    missed_cost: float | None = None,
    out: Path | None = None,
    backbone: str | None = None,
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Set a detector's thresholds anew, without fitting it again.

    From further normal images (--normal), from labelled ones (--dataset, --root and --rule), or, with neither, from
    what the detector already knows of normal images, for another --false-positive-rate.

    Args:
        model: the detector that `sowa fit` wrote
        normal: folder (or file, or glob pattern) of normal images that aren't its references
        false_positive_rate: share of good parts that may be called anomalous, 0 to 1; 0.01 by default
        dataset: layout of the labelled images, such as folder (ROOT/good and ROOT/bad), mvtec, visa
        root: folder of the labelled images; all but the references are used
        category: the category to use, where there are several
        rule: f1 (largest F1), youden (true minus false positive rate), recall (no defect missed), cost (see below)
        missed_cost: what a missed defect costs, counted in false alarms, for --rule cost; 1 by default
        out: file for the result; by default the detector's own
        backbone: stands in for the one that the detector names, where its file has moved
    """
    from sowa.cli.calibrate import Labelled, calibrate_file
    from sowa.detector.detector import Sowa

    labelled = Labelled.of(dataset, root, category, rule, missed_cost)
    if labelled and (normal or false_positive_rate is not None):
        raise InputError("--rule takes labelled images; leave --normal and --false-positive-rate out, or --rule")
    detector = Sowa.load(model, backbone=backbone, settings=Settings(device, precision))
    rate = FALSE_POSITIVE_RATE if false_positive_rate is None else false_positive_rate
    calibrate_file(detector, labelled or normal, rate, out or model, batch_size, Console())


@app.command
def predict(
    source: Path,
    *,
    model: Path | None = None,
    out: Path | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    report: Path | None = None,
    boxes: Annotated[bool, Parameter(negative=())] = False,
    backbone: str | None = None,
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
    search: Literal["exact", "faiss"] = "exact",
    defect: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    examples: Path | None = None,
    typed: Typed = None,
) -> None:
    """Judge images with a fitted detector, or zero-shot with trained weights.

    Args:
        source: image, folder or glob pattern
        model: the detector that `sowa fit` wrote, or the folder that `sowa export` wrote, or weights of `sowa train` to
            judge without references; without it `mini` judges, as it ships
        out: folder for overlays and masks
        json_file: file of JSON lines, one per image
        report: HTML file that shows every image and its verdict
        boxes: put a box around each defect, with a score and the pixels it covers, in the JSON lines and the overlays
        backbone: stands in for the one that the detector names, where its file has moved
        search: in the memory bank; faiss is approximate, and much faster where there are hundreds of references
        defect: names that defects may have, in your words, such as scratch "missing part"; each image is told which
            is the likeliest
        examples: folder with a folder of images for each defect, called like it; some or all of --defect, which may
            be left out then
    """
    from sowa.cli.predict import Outputs, load_detector, name_defects, predict_to_files

    detector = load_detector(model, backbone, device, precision, search)
    if defect or examples:
        name_defects(detector, defect or [], examples, batch_size, Console())
    outputs = Outputs(out, json_file, report, boxes)
    predict_to_files(detector, source, outputs, batch_size, Console(), typed or "")


@app.command
def train(
    *,
    dataset: str,
    root: Path,
    out: Path,
    category: str | None = None,
    backbone: str = "mini",
    saliency: str | None = None,
    gaze: Path | None = None,
    gaze_images: Path | None = None,
    pixels_per_degree: float = PIXELS_PER_DEGREE,
    image_size: str | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    config: Annotated[TrainConfig, Parameter(name="*")] = TrainConfig(),  # noqa: B008 - frozen
    adapter: AdapterConfig = AdapterConfig(),  # noqa: B008 - frozen
    prompt: PromptConfig = PromptConfig(),  # noqa: B008 - frozen
) -> None:
    """Train adapters and prompts on images with masks. Killed runs go on from their last checkpoint.

    All labelled images of the data set are used, its test split too, but for those held out to validate on: evaluate
    on another data set, as the paper does.

    Args:
        dataset: folder, pairs, mvtec, mvtec2, visa, btad, dagm, dtd-synthetic, kolektor, kolektor2, magnetic-tile, mpdd
        root: the data set's folder
        out: file for the weights, *.safetensors
        category: one category; all by default
        backbone: as in `sowa fit`
        saliency: have the adapters learn to use what stands out of an image, also to the backbone's early layers
            (backbone) or to those of a CNN of timm, such as resnet18
        gaze: where people looked, as for `sowa gaze train`; saliency learns it in the same run
        gaze_images: folder of the images that they looked at
        pixels_per_degree: of these images as they were shown
    """
    from sowa.data import load
    from sowa.encoders.torch_encoder import TorchEncoder
    from sowa.training.train import train as run

    if gaze_images is not None and gaze is None:
        raise InputError("--gaze-images needs --gaze, which says where people looked on them")
    if gaze is not None and (saliency is None or gaze_images is None):
        raise InputError("--gaze needs --saliency, which learns from it, and --gaze-images")
    console = Console()
    samples = load(dataset, root, category)
    model = ModelConfig(adapter=adapter, prompt=prompt, saliency=_saliency(saliency))
    settings = Settings(device, precision, size(image_size))
    encoder = TorchEncoder.from_pretrained(backbone, config=model, settings=settings)
    auxiliary = None
    if gaze and gaze_images:
        from sowa.cli.gaze_learning import Looked, watched_images
        from sowa.extensions.gaze.learning import GazeLoss

        looked = Looked(gaze, gaze_images, pixels_per_degree, 1.0)
        auxiliary = GazeLoss(watched_images(encoder, looked, config.batch_size, console).watched, config.seed)
    with console.progress() as report:
        result = run(encoder, samples, config, out, report, auxiliary)
    console.skipped(result.skipped)
    console.table(
        "held-out images, zero-shot",
        ["", *result.after],
        [["untrained", *result.before.values()], ["trained", *result.after.values()]] if result.after else [],
    )
    console.say(f"{out} written", event="train", out=str(out), before=result.before, after=result.after)


@app.command
def export(
    *,
    model: Path,
    out: Path,
    format: Literal["onnx", "openvino", "torch"] = "onnx",
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    images: Path | None = None,
    tolerance: float | None = None,
    backbone: str | None = None,
) -> None:
    """Write a detector as one graph for onnxruntime, OpenVINO or torch.export, and compare it with the original.

    Args:
        model: the detector that `sowa fit` wrote
        out: folder for the graph and metadata.json, which holds the thresholds; an earlier export is replaced
        format: onnx, openvino, or torch (a program of torch.export)
        precision: fp32, fp16 (half the size), or int8 (onnx and openvino; fastest on a CPU)
        images: what the export is compared on, and int8 is fitted to; by default the references
        tolerance: largest difference from the original, in parts of the thresholds; 0.001, for fp16 0.02, for int8 0.05
        backbone: stands in for the one that the detector names, where its file has moved
    """
    from sowa.cli.export import export_file

    export_file(model, out, format, precision, images, tolerance, backbone, Console())


app.command(run_test, name="test")
app.command(benchmark)
app.command(shots)
for group in (gaze_app, detect_app, classify_app, task_app, data_app, prompts_app):
    app.command(group)


@app.command
def info(file: Path | None = None, *, json_out: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Show what a detector or weights file holds, or what the package offers.

    Args:
        file: a *.sowa or *.safetensors file
    """
    from sowa.cli.info import describe_file, describe_package

    Console().describe(describe_file(file) if file else describe_package(), as_json=json_out)


@app.command
def doctor(*, json_out: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Check that this machine can run the package: versions, devices, and one image judged."""
    from sowa.cli.doctor import examine

    checks = examine()
    Console().describe(checks, as_json=json_out)
    if checks["problems"]:
        sys.exit(1)


def _saliency(early: str | None) -> SaliencyConfig | None:
    if early is None:
        return None
    return SaliencyConfig(cnn="" if early == "backbone" else early)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and ends the process: 0 done, 2 the input is wrong (one line says what), 1 anything else."""
    keep_freed_memory()
    collect_rarely()
    code = run(sys.argv[1:] if arguments is None else arguments)
    collect_no_more()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Runs a command; returns the exit code."""
    typed = arguments
    try:
        arguments, file, printing = take_config([hyphens(argument) for argument in arguments])
        commands = [name for name in app if not name.startswith("-")]
        # The file's values stand in for flags that aren't given.
        app.config = (
            () if file is None else (Dict(read_config(file, commands), use_commands_as_keys=False, source=file),)
        )
        command, bound, unparsed = app.parse_args(arguments, print_error=False, exit_on_error=False)
        if printing:
            print_config(command, bound)
            return 0
        if "typed" in unparsed:
            bound.arguments["typed"] = shlex.join(["sowa", *typed])
        command(*bound.args, **bound.kwargs)
    except (CycloptsError, InputError) as error:
        print(f"sowa: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (ExportError, TrainingError) as error:
        print(f"sowa: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("sowa: interrupted", file=sys.stderr)
        return 130
    return 0
