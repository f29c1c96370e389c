"""Two checkouts of the repository, the same commands in both: is every number that comes out equal? Ten minutes.

    python benchmarks/compare_checkouts.py OLD NEW [--only GROUP,...] [--out FILE.json] [--work DIR]

OLD and NEW are the repositories' roots. Images are generated once, by OLD. Each command of `GROUPS` then runs in both,
in a process of its own as a user types it, and what it writes is compared: JSON, drawn images and tensors. A row tells
whether all is equal, how many values were compared, their largest difference and the seconds in OLD and NEW; below it
stands what differs, and what only one of them has, which is no failure. Exit code 1 where anything differs or failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open

# Flags of today, and what a checkout calls them whose help doesn't know them.
FLAGS = {"--images": "--pictures", "--gaze-images": "--gaze-pictures", "--patch-fraction": "--keep"}
# Two threads that sleep while they wait: the same sums in the same order, also where other processes are busy.
THREADS = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
# Times differ from run to run, and so does a graph's file, which names lines of code; what it predicts is compared.
IGNORED = re.compile(r"[.:](seconds|encoding|images_per_second|sha256\.model\..*)$")
FIGURES = ("shots.png", "sizes.png")  # say in words what they show, and words may change
SHOWN = 5  # of what differs, on the terminal

DATA = "../../inputs"
PLACES = {
    "parts": f"{DATA}/parts",
    "good": f"{DATA}/parts/woven_fabric/train/good",
    "test": f"{DATA}/parts/woven_fabric/test",
    "large": f"{DATA}/large/woven_fabric",
    "small": f"{DATA}/small/mvtec",
    "wood": f"{DATA}/small/mvtec/wood",
    "scenes": f"{DATA}/scenes",
    "kinds": f"{DATA}/kinds",
    "messy": f"{DATA}/messy",
    "gaze": f"{DATA}/gaze.csv",
    "tiny": f"{DATA}/tiny.safetensors",
}
# Commands of a group run in one folder, one after the other; each group has all that it needs.
GROUPS = {
    "memory": """
        fit --normal {good} --k-shot 1 --out one.sowa
        info one.sowa --json
        predict {test} --model one.sowa --json one.jsonl --out one
        fit --normal {good} --k-shot 4 --out four.sowa
        info four.sowa --json
        predict {test} --model four.sowa --json four.jsonl --out four
        predict {test} --model four.sowa --json faiss.jsonl --search faiss
        predict {test} --model four.sowa --json boxes.jsonl --out boxes --boxes
        predict {test} --json zero-shot.jsonl --out zero-shot""",
    "options": """
        fit --normal {good} --k-shot 2 --augment none --coreset --patch-fraction 0.3 --out keep.sowa
        predict {test} --model keep.sowa --json keep.jsonl
        fit --normal {good} --k-shot 2 --augment hflip,tilt --saliency-weight 0.3 --out salient.sowa
        predict {test} --model salient.sowa --json salient.jsonl
        fit --normal {good} --k-shot 2 --augment none --expect hole "missing thread" --out expect.sowa
        predict {test} --model expect.sowa --json expect.jsonl""",
    "tiled": """
        fit --normal {large}/train/good --augment none --tiled --out tiled.sowa
        predict {large}/test/[gh]*/*.png --model tiled.sowa --json tiled.jsonl --out tiled
        fit --normal {large}/train/good --augment none --tiled --glances 3 --out glances.sowa
        predict {large}/test/[gh]*/*.png --model glances.sowa --json glances.jsonl --out glances""",
    "names": """
        fit --normal {good} --k-shot 2 --augment none --out two.sowa
        predict {test} --model two.sowa --json words.jsonl --defect stain hole "missing thread"
        predict {test} --model two.sowa --json shown.jsonl --defect stain hole crack --examples {large}/examples""",
    "calibrate": """
        fit --normal {good} --k-shot 2 --augment none --out two.sowa
        calibrate --model two.sowa --false-positive-rate 0.05 --out rate.sowa
        calibrate --model two.sowa --normal {good} --false-positive-rate 0.1 --out normal.sowa
        calibrate --model two.sowa --dataset folder --root {test} --rule f1 --out f1.sowa
        calibrate --model two.sowa --dataset folder --root {test} --rule cost --missed-cost 20
        info f1.sowa --json
        predict {test} --model two.sowa --json cost.jsonl""",
    "test": """
        test --dataset mvtec --root {parts} --k-shot 0,1,2 --seeds 0,1 --bootstrap 50 --json mvtec.json
        test --dataset folder --root {wood}/test --backbone {tiny} --k-shot 0,1,2 --seeds 0,1 --json folder.json
        test --dataset mvtec --root {small} --backbone {tiny} --k-shot 1 --scoring paper --aupro authors \
            --json paper.json""",
    "train": """
        train --dataset mvtec --root {parts} --batch-size 4 --epochs 2 --out mini.safetensors
        predict {test} --model mini.safetensors --json mini.jsonl
        fit --normal {good} --k-shot 1 --augment none --model mini.safetensors --out mini.sowa
        predict {test} --model mini.sowa --json fitted.jsonl
        train --dataset mvtec --root {small} --category wood --backbone {tiny} --batch-size 4 --saliency backbone \
            --adapter.window-size 4 --adapter.heads 4 --gaze {gaze} --gaze-images {wood}/train/good \
            --out tiny.safetensors
        predict {wood}/test --model tiny.safetensors --json tiny.jsonl""",
    "export": """
        fit --normal {good} --k-shot 1 --augment none --out one.sowa
        export --model one.sowa --out as-onnx --images {good}
        predict {test} --model as-onnx --json onnx.jsonl --out drawn
        fit --normal {wood}/train/good --backbone {tiny} --out tiny.sowa
        export --model tiny.sowa --out as-openvino --format openvino
        predict {wood}/test --model as-openvino --json openvino.jsonl""",
    "shots": """
        shots --normal {good} --method all --candidates 1,2 --folds 2 --draws 2 --json mini.json
        shots --dataset mvtec --root {small} --category wood --labels real --method all --candidates 1,2,4 --folds 3 \
            --backbone {tiny} --json tiny.json""",
    "gaze": """
        gaze train --fixations {gaze} --images {wood}/train/good --pixels-per-degree 10 --out gaze.safetensors
        gaze test --fixations {gaze} --images {wood}/train/good --pixels-per-degree 10 --model gaze.safetensors""",
    "detect": """
        detect train --dataset coco --root {scenes} --backbone {tiny} --phrases --epochs 3 --width 16 \
            --out d.safetensors
        detect test --model d.safetensors --dataset coco --root {scenes} --query hexagon cross big --json test.json
        detect predict {scenes}/test --model d.safetensors --query ring "red star" --least-score 0.01 --out drawn \
            --json found.jsonl --coco coco.json""",
    "classify": """
        classify train --root {kinds} --steps 5 --out c.safetensors
        classify test --root {kinds} --model c.safetensors --json test.json
        classify predict {kinds} --model c.safetensors --other --json learned.jsonl
        classify predict {kinds} --names "wood,leather,metal" --json names.jsonl""",
    "data": """
        data check --dataset mvtec --root {small} --json parts.json
        data check --dataset coco --root {scenes} --json scenes.json
        data check --dataset imagefolder --root {messy} --json messy.json
        prompts preview --names "scratch,hole,stain" --words "dark,round,long" --json prompts.json""",
    "benchmark": """
        benchmark --root {small}/.. --out out --no-train --datasets mvtec --backbone {tiny} --k-shot 0,1 --seeds 0,1""",
}


@dataclass(frozen=True)
class Checkout:
    root: Path
    folder: Path
    flags: dict[str, str]

    @classmethod
    def at(cls, root: Path, folder: Path) -> Checkout:
        helps = (python(root, root, "-m", "sowa", command, "-h") for command in ("export", "train", "fit"))
        told = "".join(each.stdout for each in helps)
        return cls(root, folder, {new: old for new, old in FLAGS.items() if new not in told})

    def run(self, group: str, line: str) -> Outcome:
        """Runs a command in the group's folder and reads all that it wrote."""
        folder = self.folder / group
        words = [self.flags.get(word, word) for word in shlex.split(line.format(**PLACES))]
        before, started = stamps(folder), time.perf_counter()
        done = python(self.root, folder, "-m", "sowa", *words)
        seconds = time.perf_counter() - started
        if done.returncode:
            return Outcome({}, seconds, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        values = dict(flat(documents(done.stdout), "printed:"))
        for path, stamp in stamps(folder).items():
            if before.get(path) != stamp:
                values |= dict(leaves(path, str(path.relative_to(folder))))
        return Outcome({key: value for key, value in values.items() if not IGNORED.search(key)}, seconds)


@dataclass(frozen=True)
class Outcome:
    values: dict[str, Any]
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Row:
    group: str
    command: str
    equal: bool
    values: int
    difference: float  # the largest of numbers; where shapes or words differ there is none, but it isn't equal
    seconds: tuple[float, float]
    failed: tuple[str, ...] = ()
    differing: dict[str, str] = field(default_factory=dict)
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()

    @classmethod
    def of(cls, group: str, command: str, outcomes: tuple[Outcome, Outcome], tolerance: float) -> Row:
        old, new = outcomes
        seconds = (old.seconds, new.seconds)
        failed = tuple(f"{name} failed: {one.error}" for name, one in (("OLD", old), ("NEW", new)) if one.error)
        if failed:
            return cls(group, command, False, 0, math.inf, seconds, failed)
        both = {key: (value, new.values[key]) for key, value in old.values.items() if key in new.values}
        distances = {key: difference(*pair) for key, pair in both.items()}
        differing = {
            key: f"{brief(both[key][0])} -> {brief(both[key][1])}, difference {far:.3g}"
            for key, far in distances.items()
            if far
        }
        count = sum(np.size(value) for value, _ in both.values())
        alone = (tuple(k for k in mine.values if k not in its.values) for mine, its in ((old, new), (new, old)))
        largest = max((far for far in distances.values() if far < math.inf), default=math.inf)
        # Where they have nothing in common, nothing has been shown to be equal.
        equal = bool(both) and all(far <= tolerance for far in distances.values())
        return cls(group, command, equal, count, largest, seconds, (), differing, *alone)

    def text(self) -> str:
        told = "yes" if self.equal else "failed" if self.failed else "NO"
        line = f"{told:6} {self.values:>9} {self.difference:>10.3g} {self.seconds[0]:6.1f} {self.seconds[1]:6.1f}  "
        below = [*self.failed, *(f"{key}: {values}" for key, values in list(self.differing.items())[:SHOWN])]
        below += [f"... {len(self.differing) - SHOWN} more"] if len(self.differing) > SHOWN else []
        for name, keys in (("OLD", self.only_old), ("NEW", self.only_new)):
            below += [f"only {name}: {', '.join(keys[:SHOWN])}, {len(keys)} in all"] if keys else []
        return "\n".join([f"{line}{self.group}: {self.command}", *(f"{'':8}{each}" for each in below)])


def python(root: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | THREADS | {"PYTHONPATH": str(root / "src")}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Which files there are, and since when: what a command changes is what it wrote."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def leaves(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    """All values that a file holds, with their names."""
    if path.suffix in (".json", ".jsonl"):
        yield from flat(documents(path.read_text()), f"{name}:")
    elif path.suffix in (".png", ".jpg") and path.name not in FIGURES:
        yield f"{name}:pixels", np.asarray(Image.open(path))
        yield f"{name}:bytes", hashlib.sha256(path.read_bytes()).hexdigest()
    elif path.suffix in (".safetensors", ".sowa"):
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - it's no dict
                # How a detector is written down may change; `info` and `predict` say what else is in it.
                if key == "bank" or path.suffix != ".sowa":
                    yield f"{name}:{key}", file.get_tensor(key).double().numpy()
            if path.suffix == ".safetensors":
                yield from flat(json.loads((file.metadata() or {}).get("sowa", "{}")), f"{name}:header.")


def documents(text: str) -> Any:
    """JSON, or the lines of JSON among others."""
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Numbers and words of nested JSON, each with the way to it."""
    if isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(part, images(f"{key}{'' if key.endswith((':', '.')) else '.'}{name}"))
    else:
        yield key, images(value) if isinstance(value, str) else value


def images(text: str) -> str:
    """Words of before and after 'picture' became 'image'."""
    return text.replace("picture", "image").replace("an image", "a image")


def difference(old: Any, new: Any) -> float:
    """0 where equal, infinite where one can't be taken from the other."""
    if isinstance(old, str | None) or isinstance(new, str | None) or np.shape(old) != np.shape(new):
        return 0.0 if type(old) is type(new) and np.array_equal(old, new) else math.inf
    if np.array_equal(old, new, equal_nan=True):
        return 0.0
    far = float(np.abs(np.subtract(old, new, dtype=np.float64)).max())
    return math.inf if math.isnan(far) else far


def brief(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else str(value)[:80]


def write_inputs(root: Path) -> None:
    """Images, boxes, fixations and a tiny backbone. OLD's process calls it."""
    from sowa.synthetic import generate, write_dataset
    from sowa.synthetic.scenes import Inventory, write_scenes

    def test(good: int) -> dict[str, Any]:
        today = "test" in signature(write_dataset).parameters
        return {"test": (good, 1)} if today else {"test_good": good, "test_per_defect": 1}

    write_dataset(root / "parts", ["woven_fabric"], train=5, size=384, **test(2))
    write_dataset(root / "large", ["woven_fabric"], train=2, size=(480, 640), **test(1))
    write_dataset(root / "small" / "mvtec", ["wood", "capsule"], train=9, size=96, **test(3))
    write_scenes(root / "scenes", Inventory({}), {"train": 6, "val": 2, "test": 2}, size=64)
    for kind in ("stain", "hole"):
        shutil.copytree(root / "large/woven_fabric/test" / kind, root / "large/woven_fabric/examples" / kind)
    for kind in ("wood", "leather", "brushed_metal"):
        (root / "kinds" / kind).mkdir(parents=True)
        for seed in range(6):
            made = generate(kind, size=128, seed=seed, style_seed=seed).image
            Image.fromarray(made).save(root / "kinds" / kind / f"{seed}.png")
    shutil.copytree(root / "kinds", root / "messy")
    shutil.copy(root / "kinds/wood/1.png", root / "messy/leather/again.png")
    (root / "messy/wood/0.png").write_bytes(b"broken")
    random, lines = np.random.default_rng(0), ["image,x,y,duration_ms,observer"]
    for image, observer in ((image, observer) for image in range(9) for observer in ("Ada", "Bo", "Cy")):
        for x, y in random.normal((30, 60), 10, (5, 2)).clip(0, 95):
            lines.append(f"{image:03d}.png,{x:.1f},{y:.1f},{random.integers(100, 400)},{observer}")
    (root / "gaze.csv").write_text("\n".join([*lines, ""]))
    write_backbone(root / "tiny.safetensors")


def write_backbone(path: Path) -> None:
    """A random CLIP of OpenAI's shape that runs in milliseconds."""
    import torch
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    from safetensors.torch import save_file

    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=4, width=64, head_width=64, patch_size=16, image_size=64)
    network = CLIP(32, vision, CLIPTextCfg(width=64, heads=1, layers=1), quick_gelu=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)


def prepared(old: Path, new: Path, work: Path) -> tuple[Checkout, Checkout]:
    """Makes the inputs, unless an earlier run has. Raises SystemExit where OLD or NEW is no checkout."""
    for root in (old, new):
        found = python(root, root, "-c", "import sowa; print(sowa.__file__)").stdout
        if not Path(found).is_relative_to(root):
            raise SystemExit(f"{root} has no package sowa in src; found is {found or 'none'}")
    inputs, part = work / "inputs", work / "inputs.part"
    if not inputs.exists():
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        call = f"import sys, {Path(__file__).stem} as our; our.write_inputs(our.Path(sys.argv[1]))"
        done = python(old, Path(__file__).parent, "-c", call, str(part))
        if done.returncode:
            raise SystemExit(f"no inputs could be made: {done.stderr}")
        part.rename(inputs)
    return Checkout.at(old, work / "old"), Checkout.at(new, work / "new")


def compared(old: Checkout, new: Checkout, groups: list[str], tolerance: float) -> Iterator[Row]:
    for group in groups:
        for checkout in (old, new):
            shutil.rmtree(checkout.folder / group, ignore_errors=True)
            (checkout.folder / group).mkdir(parents=True)
        for command in (" ".join(line.split()) for line in GROUPS[group].strip().splitlines()):
            yield Row.of(group, command, (old.run(group, command), new.run(group, command)), tolerance)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", default=",".join(GROUPS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.0, help="largest difference that counts as equal")
    parser.add_argument("--work", type=Path, default=Path("build/compare"))
    arguments = parser.parse_args()
    if unknown := set(groups := arguments.only.split(",")) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}, only {', '.join(GROUPS)}")
    old, new = prepared(arguments.old.resolve(), arguments.new.resolve(), arguments.work.resolve())
    print(f"{'equal':6} {'values':>9} {'difference':>10} {'s old':>6} {'s new':>6}  command")
    rows = []
    for row in compared(old, new, groups, arguments.tolerance):
        print(row.text(), flush=True)
        rows.append(row)
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    equal, spent = sum(row.equal for row in rows), np.sum([row.seconds for row in rows], axis=0)
    print(f"{equal} of {len(rows)} commands equal; {spent[0]:.0f} s in OLD, {spent[1]:.0f} s in NEW")
    return int(equal < len(rows))


if __name__ == "__main__":
    sys.exit(main())
