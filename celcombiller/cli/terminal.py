"""What a person at a terminal sees: tables, colours and progress, by rich.

rich is loaded only where the output is a terminal. What is piped stays plain text, as programs expect it.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from celcombiller.core.model.text import escape_lines, escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.progress import Progress
    from rich.table import Table

T = TypeVar("T")

_STYLES = {"failed": "red", "refused": "red", "expired": "yellow", "open": "green", "False": "yellow"}
"""The colours of states that an operator looks for."""


def echo(text: str = "") -> None:
    """Print one line, with unprintable characters escaped: a name in it cannot forge another line."""
    print(escape_unprintable(text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on a terminal; a long cell goes on in the next line, so nothing is cut off."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape_unprintable(cell), _STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


def refresh(show: Callable[[int, int], tuple[Sequence[str], Sequence[Sequence[str]], str]], seconds: float) -> None:
    """Show a table on the terminal, and draw it again in the same place every ``seconds``, until Ctrl-C.

    ``show`` is called with the lines and the columns of the terminal, and returns the columns, the rows, and a line
    above them.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    console = Console(highlight=False)

    def draw() -> Table:
        columns, rows, title = show(*console.size[::-1])
        return _make_table(columns, rows, title)

    with suppress(KeyboardInterrupt), Live(draw(), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            live.update(draw(), refresh=True)


def _make_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> Table:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(
        box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left"
    )
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(escape_unprintable(cell), _STYLES.get(cell, "")) for cell in row))
    return table


def print_error(text: str) -> None:
    """Print an error on standard error, red on a terminal, with unprintable characters escaped."""
    text = escape_lines(text)
    if not sys.stderr.isatty():
        print(text, file=sys.stderr)
        return
    from rich.console import Console  # noqa: PLC0415

    Console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def track(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """Yield the items; show on a terminal how many of ``total`` have been taken."""
    if not sys.stderr.isatty():
        yield from items
        return
    with _progress() as shown:
        yield from shown.track(items, total, description=what)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how far the work is; yield the function that takes how many steps more are done."""
    if not sys.stderr.isatty():
        yield lambda _steps: None
        return
    with _progress() as shown:
        task = shown.add_task(what, total=total)
        yield lambda steps: shown.advance(task, steps)


def _progress() -> Progress:
    from rich import progress  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    return progress.Progress(*columns, progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True)
