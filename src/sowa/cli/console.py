"""What a person sees of a running command: progress bars and tables on a terminal, JSON lines of events elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sowa.core.progress import Report

EVENT_SECONDS = 2.0


class Console:
    """Results go to standard output, progress to standard error, so that a pipe holds results alone."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()

    def say(self, text: str, **event: Any) -> None:
        """One line of result; where the output isn't a terminal, the event as a JSON line."""
        print(text if sys.stdout.isatty() or not event else json.dumps(event), flush=True)

    def note(self, text: str) -> None:
        """One line that isn't a result."""
        print(text, file=sys.stderr, flush=True)

    def skipped(self, skipped: Sequence[tuple[str, str]]) -> None:
        """Says how many images couldn't be read, and why, the first three in words."""
        if skipped:
            reasons = "; ".join(why for _, why in skipped[:3])
            self.note(f"{len(skipped)} broken image(s) skipped: {reasons}")

    @contextmanager
    def progress(self) -> Iterator[Report]:
        """A bar per label, or an event every two seconds."""
        if self.terminal:
            yield from self._bars()
        else:
            yield self._events()

    def _bars(self) -> Iterator[Report]:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=RichConsole(stderr=True)) as bars:
            tasks: dict[str, Any] = {}

            def report(label: str, done: int, total: int) -> None:
                name = label.partition(",")[0]  # what follows a comma changes from step to step
                if name not in tasks:
                    tasks[name] = bars.add_task(label, total=total)
                bars.update(tasks[name], description=label, completed=done, total=total)

            yield report

    def _events(self) -> Report:
        started = last = time.monotonic()

        def report(label: str, done: int, total: int) -> None:
            nonlocal last
            if done == total or time.monotonic() - last >= EVENT_SECONDS:
                last = time.monotonic()
                self._event(label, done, total, started)

        return report

    def _event(self, label: str, done: int, total: int, started: float) -> None:
        seconds = round(time.monotonic() - started, 2)
        self.note(json.dumps({"event": "progress", "label": label, "done": done, "total": total, "seconds": seconds}))

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of words and numbers; numbers with four digits, None as a dash."""
        if not rows:
            return
        from rich.console import Console as RichConsole
        from rich.table import Table

        table = Table(title=title, title_justify="left")
        for index, name in enumerate(header):
            table.add_column(name, justify="right" if index else "left")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        RichConsole(width=None if sys.stdout.isatty() else 140).print(table)

    def describe(self, facts: Mapping[str, Any], as_json: bool) -> None:
        """Names and values, one a line, or as JSON."""
        if as_json:
            print(json.dumps(facts, indent=1))
            return
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            lines = [str(part) for part in value] if isinstance(value, list) else [str(value)]
            for index, line in enumerate(lines or ["none"]):
                print(f"{'' if index else name:<{width}}  {line}")


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
