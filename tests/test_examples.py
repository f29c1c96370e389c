"""The examples in docstrings, run as written."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import sowa

SOURCES = Path(sowa.__file__).parent


def with_examples() -> list[str]:
    """Modules of the package whose text holds a prompt; the others aren't imported."""
    files = sorted(path for path in SOURCES.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
    parts = [path.relative_to(SOURCES.parent).with_suffix("").parts for path in files]
    return [".".join(each[:-1] if each[-1] == "__init__" else each) for each in parts]


def test_there_are_examples() -> None:
    assert with_examples()


@pytest.mark.parametrize("name", with_examples())
def test_examples_give_what_they_say(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted, f"{name} holds a prompt, but not in a docstring"
    assert not found.failed
