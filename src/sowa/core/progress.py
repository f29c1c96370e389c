"""How long-running work tells how far it is: a callback, nothing more."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Called with a label, how many steps are done, and how many there are."""


def silent(label: str, done: int, total: int) -> None:
    """Tells nobody."""
