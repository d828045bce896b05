"""A key that must never be seen again, and eyes for every place where it could be."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import pickle
import traceback
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs
from rich.pretty import pretty_repr
from rich.traceback import Traceback

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["CANARY", "PASSWORD", "Sightings", "of_error", "of_folder", "of_value", "watched"]

CANARY = "sk-Qz7Xw3Vn9Lk2Jh8Tg4Fd6Sa1Pb5Mc0RyEuIoWqZxNvBtHjKlDfGs"[:51]
"""The key; everything behind ``sk-`` is secret."""
PASSWORD = "Ym4Kp9Wd2Xr7Hs5Bn3Gt8Lc6Vq1Zj0FeUaTiOoRySwQx"
"""The proxy's."""

_RUN = 8
"""So many characters of a secret in a row are too many."""
_TESTS = str(Path(__file__).parent)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield secret[::-1]
    yield quote(secret, safe="")
    yield secret.encode().hex()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret.encode()).decode().rstrip("=")
        # The first and the last character may hold bits of something else.
        yield encoded[before + 1 : -1]
        yield encoded[before + 1 : -1].replace("+", "-").replace("/", "_")


_ALL_FORMS = {form for secret in (CANARY.removeprefix("sk-"), PASSWORD) for form in _forms(secret)}
_PIECES = {form[at : at + _RUN] for form in _ALL_FORMS for at in range(len(form) - _RUN + 1)}
_MARKS = {form[at : at + 4] for form in _ALL_FORMS for at in range(0, len(form) - 3, 5)}
"""Of which any piece holds one: most texts hold none."""


@attrs.define
class Sightings:
    """What was looked at, and where the canary was seen."""

    seen: list[str] = attrs.field(factory=list)
    _known: set[str] = attrs.field(factory=set)

    @property
    def looked_at(self) -> int:
        """How many different texts."""
        return len(self._known)

    def look(self, where: str, text: str) -> None:
        """Look for the canary in a text."""
        if text in self._known:
            return
        self._known.add(text)
        if any(mark in text for mark in _MARKS):
            self.seen += [
                f"{where}: …{text[max(0, text.index(piece) - 60) :][:80]!r}…" for piece in _PIECES if piece in text
            ][:1]

    def look_at_all(self, told: Iterable[tuple[str, str]]) -> None:
        """Look for the canary in named texts."""
        for where, text in told:
            self.look(where, text)


def of_value(value: object, name: str) -> Iterator[tuple[str, str]]:
    """Everything that a value shows of itself when it is printed, pickled or inspected."""
    yield f"{name} repr", repr(value)
    yield f"{name} pretty", pretty_repr(value, max_string=80)
    if hasattr(value, "__dict__"):
        yield f"{name} vars", repr(vars(value))
    for protocol in (0, pickle.HIGHEST_PROTOCOL):
        with suppress(TypeError, AttributeError, pickle.PicklingError):  # what cannot be pickled shows nothing
            yield f"{name} pickle {protocol}", pickle.dumps(value, protocol).decode("latin-1")


def of_error(error: BaseException) -> Iterator[tuple[str, str]]:
    """Everything that an error, and each error behind it, shows of itself, locals of all frames included."""
    for number, each in enumerate(_chain(error)):
        name = f"error {number} {type(each).__name__}"
        yield from of_value(each, name)
        yield f"{name} str", str(each)
        yield f"{name} args", repr(each.args)
        yield f"{name} notes", repr(getattr(each, "__notes__", None))
        yield f"{name} copy", repr(vars(copy.copy(each)))
        for what in ("attempts", "filename", "object", "doc", "headers", "request_info", "history", "os_error"):
            yield f"{name} {what}", repr(getattr(each, what, None))
        yield from _frames(each, name)


def _chain(error: BaseException) -> Iterator[BaseException]:
    waiting, known = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in known:
            continue
        known.add(id(each))
        yield each
        # Also a context that a traceback would leave out.
        waiting += [other for other in (each.__cause__, each.__context__) if other is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _frames(error: BaseException, name: str) -> Iterator[tuple[str, str]]:
    """Show the frames of an error with their locals, as two tools do; those of the tests know the key."""
    plain = traceback.TracebackException.from_exception(error, capture_locals=True)
    yield f"{name} printed", "".join(plain.format_exception_only())
    for frame in plain.stack:
        if not frame.filename.startswith(_TESTS):
            yield f"{name} locals of {frame.name}", repr(frame.locals)
    rich = Traceback.extract(type(error), error, error.__traceback__, show_locals=True)
    for stack in rich.stacks[:1]:
        for shown in stack.frames:
            if not shown.filename.startswith(_TESTS):
                yield f"{name} rich locals of {shown.name}", " ".join(map(str, (shown.locals or {}).values()))


def of_folder(folder: Path) -> Iterator[tuple[str, str]]:
    """Every byte of every file below a folder, and their names."""
    for path in folder.rglob("*"):
        yield f"name of {path}", path.name
        if path.is_file():
            yield f"bytes of {path}", path.read_bytes().decode("latin-1")


@contextmanager
def watched(sightings: Sightings, *, debug: bool = True) -> Iterator[None]:
    """Look at whatever is logged, at any level, and at every warning; in debug mode asyncio says all that it can."""
    handler = _Handler(sightings)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    with suppress(RuntimeError):
        asyncio.get_running_loop().set_debug(debug)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            yield
        sightings.look_at_all((f"warning {each.category}", f"{each.message} {each.source!r}") for each in told)
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


class _Handler(logging.Handler):
    def __init__(self, sightings: Sightings) -> None:
        super().__init__(logging.DEBUG)
        self._sightings = sightings

    def emit(self, record: logging.LogRecord) -> None:
        name = f"log of {record.name}"
        self._sightings.look(name, f"{record.getMessage()} {record.args!r} {record.stack_info}")
        if record.exc_info and record.exc_info[1] is not None:
            self._sightings.look_at_all((f"{name}: {where}", text) for where, text in of_error(record.exc_info[1]))
