"""What commands that judge images write: JSON lines, and a name for each image's files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sowa.core.files import replacing
from sowa.errors import InputError


@contextmanager
def json_lines(json_file: Path | None) -> Iterator[TextIO]:
    """Where JSON lines go: to standard output, or to a file that appears under its name at the end."""
    if json_file is None:
        yield sys.stdout
        return
    with replacing(json_file) as temporary, temporary.open("w", encoding="utf-8") as lines:
        try:
            yield lines
        except InputError:
            if lines.tell():
                temporary.rename(json_file.with_name(f"{json_file.name}.partial"))
            raise


def unique_names(paths: list[str]) -> dict[str, str]:
    """A file name for each image's results: its stem, its folder in front where stems repeat, then a number."""
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
