from __future__ import annotations

import asyncio
import io
import sys

import pytest
from rich.console import Console

from imagen_async.batch import Progress
from imagen_async.cli.display import Display, PlainDisplay
from imagen_async.cli.figures import Figures
from imagen_async.cli.live import LiveDisplay
from imagen_async.cli.run_options import DisplayOptions
from imagen_async.cli.session import progress_display
from imagen_async.limiter.limiter import PaceState

LINE = (
    "100/200 done, 3 failed, 2 partial, 50 skipped, 9.0 images/s, 13.5 MB/s, 1 retry, 16 of 32 in flight, "
    "3.60 USD, ETA 20.0 s"
)
HOSTILE = "\x1b[2J[bold red]fox[/bold red]\r\n\u202egnp"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def at_full_pace() -> PaceState:
    return PaceState(limit=32)


def progress() -> Progress:
    return Progress(total=200)


def advance(counters: Progress) -> None:
    counters.succeeded, counters.failed, counters.partial, counters.skipped = 45, 3, 2, 50
    counters.images, counters.bytes, counters.retries, counters.in_flight = 90, 135_000_000, 1, 16
    counters.cost_usd = 3.6


async def test_without_a_terminal_a_line_is_printed_at_intervals_and_at_the_end() -> None:
    clock, counters, lines = Clock(), progress(), list[str]()
    ticks: asyncio.Queue[None] = asyncio.Queue()
    waits: list[float] = []
    written = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await ticks.get()

    def write(line: str) -> None:
        lines.append(line)
        loop.call_soon_threadsafe(written.set)

    async with PlainDisplay(Figures(counters, at_full_pace, clock), every=5.0, sleep=sleep, write=write) as display:
        advance(counters)
        clock.now += 10
        ticks.put_nowait(None)
        await written.wait()
        display.trouble("of no interest here")
        display.note("finishing")
    assert lines == [
        LINE,
        "finishing",
        LINE,
    ]
    assert set(waits) == {5.0}


async def test_a_pipe_has_no_total_and_no_time_left() -> None:
    counters, lines = Progress(), list[str]()
    async with PlainDisplay(Figures(counters, at_full_pace, Clock()), every=5.0, write=lines.append):
        counters.succeeded = 7
    assert lines[0].startswith("7 done, 0 failed, ")
    assert lines[0].endswith("ETA ?")


def drawn(display: LiveDisplay) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    console.print(display.drawn())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_live_display_shows_the_same_figures_and_the_last_trouble() -> None:
    clock, counters = Clock(), progress()
    display = LiveDisplay(Figures(counters, at_full_pace, clock), Console(file=io.StringIO(), width=100))
    advance(counters)
    clock.now += 10
    display.trouble("RejectedError: no")
    display.note("SIGINT: finishing")
    text = drawn(display)
    for figure in (
        "50% 100/200 done",
        "3 failed",
        "2 partial",
        "9.0 images/s",
        "13.5 MB/s",
        "1 retry",
        "16 of 32 in flight",
    ):
        assert figure in text
    assert "ETA 20.0 s" in text
    assert "RejectedError: no" in text
    assert "SIGINT: finishing" in text


def test_no_line_of_the_live_display_is_so_wide_that_an_echoed_keystroke_wraps() -> None:
    display = LiveDisplay(Figures(progress(), at_full_pace, Clock()), Console(file=io.StringIO(), width=100))
    display.trouble("x" * 500)
    assert max(map(len, drawn(display).splitlines())) <= 96


def test_hostile_text_neither_moves_the_cursor_nor_is_markup() -> None:
    display = LiveDisplay(Figures(progress(), at_full_pace, Clock()), Console(file=io.StringIO(), width=100))
    display.trouble(HOSTILE)
    text = drawn(display)
    assert r"\x1b[2J[bold red]fox[/bold red]\r\n\u202egnp" in text
    assert all(line.isprintable() for line in text.splitlines())


async def test_the_live_display_is_drawn_and_then_erased() -> None:
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True)
    async with LiveDisplay(Figures(progress(), at_full_pace, Clock()), console) as display:
        display.note("here")
    assert "0/200 done" in file.getvalue()
    assert file.getvalue().endswith("\x1b[1A\x1b[2K")


def test_a_run_without_a_total_can_be_drawn() -> None:
    assert "0 done" in drawn(LiveDisplay(Figures(Progress(), at_full_pace, Clock()), Console(file=io.StringIO())))


@pytest.mark.parametrize(
    ("mode", "terminal", "expected"),
    [
        ("auto", "terminal", LiveDisplay),
        ("auto", "", PlainDisplay),
        ("live", "", LiveDisplay),
        ("plain", "terminal", PlainDisplay),
        ("off", "terminal", Display),
    ],
)
def test_the_display_follows_the_terminal_or_the_option(
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    terminal: str,
    expected: type,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: bool(terminal), raising=False)
    display = progress_display(DisplayOptions(progress=mode), Figures(progress(), at_full_pace, Clock()))  # type: ignore[arg-type] # parametrized
    assert type(display) is expected


@pytest.mark.parametrize(
    ("pace", "shown"),
    [
        (PaceState(limit=12, rate=0.333), "3 of 12 in flight, at most 0.333 requests/s"),
        (PaceState(limit=8, paused_s=41.2), "3 of 8 in flight, paused by the gateway for 42.0 s"),
        (PaceState(limit=8, waiting=True), "3 of 8 in flight, the gateway does not respond, probing it at intervals"),
    ],
)
async def test_the_limits_that_the_gateway_sets_are_shown(pace: PaceState, shown: str) -> None:
    counters, lines = Progress(in_flight=3, doubtful_usd=0.08), list[str]()
    async with PlainDisplay(Figures(counters, lambda: pace, Clock()), every=5.0, write=lines.append):
        pass
    assert f"{shown}, 0.00 USD + 0.08 USD in doubt" in lines[0]
