"""The import rule of docs/ARCHITECTURE.md, and that `import sowa` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "sowa"
LAYERS = (
    {"errors", "types", "config", "progress", "files", "headers"},
    {"model"},
    {"memory", "scoring", "losses", "calibration", "metrics", "data", "synthetic", "devices", "render", "prediction"}
    | {"augment", "checkpoints", "coreset", "encoder", "index", "inspection", "observer", "results", "storage"}
    | {"tiling"},
    {"collect", "detector", "references", "train", "evaluate", "runtime", "shots", "attention", "tasks"},
    {"console", "report", "benchmark", "commands", "export", "cli", "__main__"},
)
STAGES = {"backbone", "adapter", "prompts", "alignment", "maps", "saliency", "namer", "words"}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


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
def test_a_file_imports_only_from_its_own_level_and_below(path):
    own = LEVEL[path.relative_to(SOURCE).parts[0].removesuffix(".py")]
    above = {name for name in imported(path) if LEVEL[name.split(".")[0]] > own}
    assert not above


def test_stages_do_not_import_each_other():
    for stage in STAGES:
        others = {name.removeprefix("model.") for name in imported(SOURCE / "model" / f"{stage}.py")} & STAGES
        assert not others, stage


def test_the_rule_sees_every_kind_of_import(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("import sowa.cli.app\ndef f():\n    from sowa.detector.detector import Sowa\n")
    assert imported(file) == {"cli", "detector"}


@pytest.mark.parametrize(
    "statement",
    [
        "import sowa",
        "import sowa.cli.info",
        "import sowa.cli.predict, sowa.detector.exported; sowa.ExportedSowa",
        "import sowa.metrics, sowa.data, sowa.report",
    ],
)
def test_light_imports_load_no_torch(statement):
    code = f"import sys\n{statement}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
