"""Which package may import which, as docs/ARCHITECTURE.md draws it, and what runs without torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "sowa"
# Each package and those that it may import; a package may import itself. Nothing imports cli.
EDGES = {
    "errors": "",
    "core": "errors",
    "metrics": "core errors",
    "synthetic": "core errors",
    "data": "core errors",
    "model": "core errors",
    "encoders": "core model errors",
    "detector": "core metrics synthetic data encoders errors",
    "training": "core metrics data model encoders errors",
    "evaluation": "core metrics data model encoders detector training errors",
    "report": "core metrics data detector evaluation errors",
    "export": "core synthetic data model encoders detector errors",
    "extensions": "core data model encoders detector errors",
    "shots": "core metrics synthetic data encoders evaluation errors",
    "tasks": "core metrics data model encoders detector training evaluation report errors",
    "cli": "core metrics synthetic data model encoders detector training evaluation report export extensions shots "
    "tasks errors",
}
STAGES = {"adapter", "alignment", "backbone", "prompts", "saliency", "words"}
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)
# What must be had without torch, so that mini may run where it isn't installed; of packages, every module.
TORCH_FREE = ("core", "data", "metrics", "report", "detector", "synthetic")
TORCH_FREE_MODULES = (
    "sowa",
    "sowa.cli.app",
    "sowa.encoders.base",
    "sowa.encoders.engines",
    "sowa.evaluation.evaluate",
    "sowa.extensions.gaze.record.session",
)


def imported(path: Path) -> set[str]:
    """Dotted names below `sowa` that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix("sowa.") for name in names if name.startswith("sowa.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_what_its_package_may(path):
    own = path.relative_to(SOURCE).parts[0]
    used = {name.split(".")[0] for name in imported(path)} - {own}
    assert used <= set(EDGES[own].split())


def test_the_edges_are_those_of_the_document_and_go_one_way():
    document = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    section = document.split("## Who may import whom")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\w ,`]*) \|", section, re.MULTILINE)
    assert {name: set(re.findall(r"\w+", allowed)) for name, allowed in rows} == {
        name: set(allowed.split()) - {"errors"} for name, allowed in EDGES.items() if name != "errors"
    }
    places = {name: place for place, name in enumerate(EDGES)}
    assert all(places[other] < places[name] for name, allowed in EDGES.items() for other in allowed.split())


def test_stages_do_not_import_each_other():
    for stage in STAGES:
        others = {name.removeprefix("model.") for name in imported(SOURCE / "model" / f"{stage}.py")} & STAGES
        assert not others, stage


def test_the_detector_and_the_core_know_no_extension():
    for name in ("core", "data", "encoders", "detector", "model"):
        for path in (SOURCE / name).rglob("*.py"):
            assert "sowa.extensions" not in path.read_text().replace('"sowa.extensions"', ""), path


def test_the_rule_sees_every_kind_of_import(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("import sowa.cli\ndef f():\n    from sowa.detector import Sowa\n")
    assert imported(file) == {"cli", "detector"}


def torch_free() -> list[str]:
    paths = (path for name in TORCH_FREE for path in sorted((SOURCE / name).rglob("*.py")))
    modules = (".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in paths)
    return [*TORCH_FREE_MODULES, *(module.removesuffix(".__init__") for module in modules)]


def test_what_is_to_run_without_torch_is_imported_where_torch_is_blocked():
    code = (
        "import importlib, sys\nsys.modules['torch'] = None\nfailed = []\n"
        "for name in sys.argv[1:]:\n    try:\n        importlib.import_module(name)\n"
        "    except ImportError as error:\n        failed.append(f'{name}: {error}')\n"
        "sys.exit('\\n'.join(failed) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *torch_free()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("statement", ["import sowa", "import sowa.cli.app, sowa.cli.info", "sowa.ExportedSowa"])
def test_light_imports_load_no_torch(statement):
    code = f"import sys, sowa\n{statement}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
