"""Draws a run's progress on a terminal with rich, which redraws in its own thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Group
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from imagen_async.cli.console import show_cursor
from imagen_async.cli.display import Display
from imagen_async.exceptions import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from imagen_async.cli.figures import Figures

__all__ = ["LiveDisplay"]

_FRAMES_PER_S = 4
_LONGEST_NOTE = 300
_ECHO = 4
"""Columns for the terminal's echo of two Ctrl-C keystrokes."""


class LiveDisplay(Display):
    """Draws a bar with the figures below it, a few times a second, and erases it at the end.

    Args:
        figures: What is drawn.
        console: Where it is drawn.
    """

    def __init__(self, figures: Figures, console: Console) -> None:
        self._figures = figures
        self._console = console
        self._notes: dict[str, str] = {}
        self._live = Live(
            console=console,
            get_renderable=self.drawn,
            refresh_per_second=_FRAMES_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    async def __aenter__(self) -> Self:
        self._live.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Show the note below the figures, until the next one."""
        self._notes["note"] = text

    def trouble(self, text: str) -> None:
        """Show the problem below the figures, until the next one."""
        self._notes["trouble"] = text

    def abandon(self) -> None:
        """Show the cursor again."""
        # Not through rich, whose thread may hold its lock.
        show_cursor()

    def drawn(self) -> RenderableType:
        """Return the current frame."""
        figures = self._figures
        done, total = figures.counters.done, figures.counters.total
        first = Table.grid(padding=(0, 1))
        if total:
            first.add_row(ProgressBar(total, done, width=40), Text(f"{done / total:4.0%}"), Text(figures.jobs()))
        else:
            first.add_row(ProgressBar(None, pulse=True, width=40), Text(figures.jobs()))
        losses = Text("  ").join(
            Text(f"{number:,} {name}", style="red" if number else "dim") for name, number in figures.losses()
        )
        rates = Text("  ".join(figures.rates()))
        # The terminal itself writes ^C after the last line; if that wraps, rich erases one line too few.
        return Constrain(Group(first, losses, rates, *self._below()), self._console.width - _ECHO)

    def _below(self) -> list[Text]:
        kept = sorted(self._notes.items(), reverse=True)
        notes = [*(("note", why) for why in self._figures.stopping()), *kept]
        styles = {"note": "yellow", "trouble": "dim"}
        return [
            Text(printable(text, _LONGEST_NOTE), style=styles[kind], overflow="ellipsis", no_wrap=True)
            for kind, text in notes
        ]
