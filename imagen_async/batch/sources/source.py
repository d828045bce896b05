"""Sources of prompts: files of all known formats, and pipes, read lazily.

Memory does not depend on the length of the input. A file that changes between two passes or during one is an error.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import os
import stat
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import IO, Any, BinaryIO, cast

import attrs

from imagen_async.batch.sources.lines import read_lines
from imagen_async.batch.sources.parquet import read_parquet
from imagen_async.batch.sources.readers import TEXT_READERS, read_unnamed
from imagen_async.batch.sources.rows import BadRow, Row, Terms, requests_of
from imagen_async.catalog import CATALOG, Catalog
from imagen_async.exceptions import ConfigurationError, InvalidInputError, printable

__all__ = ["FORMATS", "Report", "Source", "open_source"]

FORMATS = (*TEXT_READERS, "parquet")
"""The formats: ``txt``, ``jsonl``, ``csv``, ``tsv``, ``parquet``; a text format also as ``.gz``."""

_SAME_AS = {"ndjson": "jsonl"}
_STANDARD_INPUT = frozenset({"-", "/dev/stdin"})
_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")
_CHUNK = 1 << 20
_KINDS_OF_NOTES = 100
"""Most different notes that are counted, because a note may quote the input."""


@attrs.frozen(kw_only=True)
class Report:
    """The result of a pass over a source.

    Attributes:
        source: The source's name.
        rows: Rows read, good and bad.
        requests: Requests of the good rows; a row with many images has several.
        images: Images of the good rows.
        bad: How many rows are bad.
        problems: ``(line, mistakes)`` of the first bad rows, in the order of the input.
        notes: The number of good rows by note; beyond 100 different notes, new ones are not kept.
        models: Images by model; beyond 100 models, new ones are not kept.
    """

    source: str
    rows: int
    requests: int
    images: int
    bad: int
    problems: tuple[tuple[int, tuple[str, ...]], ...]
    notes: Mapping[str, int]
    models: Mapping[str, int]

    def raise_for_bad_rows(self) -> None:
        """Do nothing if every row is good.

        Raises:
            InvalidInputError: With the first bad rows and the number of all.
        """
        if self.bad:
            raise InvalidInputError(self.source, self.problems, self.bad)


@attrs.define(eq=False)
class Source:
    """Rows that can be read; made by `open_source`, which keeps nothing open.

    Attributes:
        name: Its name in messages.
        format: One of `FORMATS`, or None if the first row decides.
        rewindable: Whether it can be read more than once: a regular file, not a pipe.
    """

    name: str
    format: str | None
    rewindable: bool
    _path: str | None = attrs.field(repr=False)
    _terms: Terms = attrs.field(repr=False)
    _mark: tuple[int, ...] | None = attrs.field(default=None, init=False, repr=False)
    _spent: bool = attrs.field(default=False, init=False, repr=False)

    def rows(self) -> Iterator[Row | BadRow]:
        """Return an iterator that reads from the beginning, row by row.

        Raises:
            ConfigurationError: Immediately, if a pipe was read before; while reading, if the file cannot be
                opened or read, or has changed since the first pass or in this one.
            InvalidInputError: While reading, if the file as a whole cannot be used: no prompt column, not UTF-8.
            MissingExtraError: While reading Parquet without pyarrow.
        """
        if self._spent:
            raise ConfigurationError(f"{self.name} can be read only once: save it to a file first")
        self._spent = not self.rewindable
        return self._read()

    def check(self, *, limit: int = 20, stopped: Callable[[], bool] = lambda: False) -> Report:
        """Read and count all rows, in constant memory; a pipe is used up by it.

        Args:
            limit: How many bad rows to keep with their problems.
            stopped: Called before each row; reading ends when it returns True, and the report covers the rows before.

        Raises:
            ConfigurationError: Like `rows`.
            InvalidInputError: Like `rows`; a single bad row is reported, not raised.
            MissingExtraError: Like `rows`.
        """
        good = bad = requests = images = 0
        problems: list[tuple[int, tuple[str, ...]]] = []
        notes: Counter[str] = Counter()
        models: Counter[str] = Counter()
        for row in itertools.takewhile(lambda _: not stopped(), self.rows()):
            if isinstance(row, BadRow):
                bad += 1
                problems += [(row.line, row.problems)] if len(problems) < limit else []
                continue
            good += 1
            requests += requests_of(row, self._terms.catalog)
            images += row.request.n
            _count(models, row.request.model, row.request.n)
            for note in row.notes:
                _count(notes, note, 1)
        return Report(
            source=self.name,
            rows=good + bad,
            requests=requests,
            images=images,
            bad=bad,
            problems=tuple(problems),
            notes=dict(notes),
            models=dict(models),
        )

    def fingerprint(self) -> str:
        """Return a digest of the file's bytes and of every setting that decides their rows.

        Raises:
            ConfigurationError: It cannot be read, has changed since it was read before, or can be read only once.
        """
        if self._path is None or not self.rewindable:
            raise ConfigurationError(f"{self.name} can be read only once: save it to a file first")
        terms = (self.format, self._path.lower().endswith(".gz"), dict(self._terms.defaults))
        whole = hashlib.sha256(repr((terms, list(self._terms.catalog.values()))).encode("utf-8", "surrogatepass"))
        with _readable(self.name), open(self._path, "rb") as file:  # noqa: PTH123 - a plain text path
            self._expect_unchanged(file)
            while chunk := file.read(_CHUNK):
                whole.update(chunk)
            self._expect_unchanged(file)
        return whole.hexdigest()

    def _read(self) -> Iterator[Row | BadRow]:
        with _readable(self.name), contextlib.ExitStack() as held:
            file = _standard_input() if self._path is None else held.enter_context(open(self._path, "rb"))  # noqa: PTH123 - a plain text path, /dev/fd/63 included
            self._expect_unchanged(file)
            if self.format == "parquet":
                yield from read_parquet(file, self._terms, self.name)
            else:
                lines = read_lines(self._unpacked(file, held), self.name)
                read = TEXT_READERS[self.format] if self.format else read_unnamed
                yield from read(lines, self._terms, self.name)
            self._expect_unchanged(file)

    def _unpacked(self, file: BinaryIO, held: contextlib.ExitStack) -> BinaryIO:
        if self._path is None or not self._path.lower().endswith(".gz"):
            return file
        return cast("BinaryIO", held.enter_context(gzip.GzipFile(fileobj=file)))

    def _expect_unchanged(self, file: IO[bytes]) -> None:
        if not self.rewindable:
            return
        now = os.fstat(file.fileno())
        mark = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
        if self._mark is None:
            self._mark = mark
        elif mark != self._mark:
            raise ConfigurationError(f"{self.name} was changed while it was being read: run again when it is complete")


def open_source(
    path: str | os.PathLike[str],
    *,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    catalog: Catalog = CATALOG,
    format: str | None = None,  # noqa: A002 - the option's name on the command line
) -> Source:
    """Return a source of prompts; nothing is read before `Source.rows` or `Source.check`.

    Args:
        path: A file, a named pipe, or ``-`` for the standard input.
        defaults: Request fields for rows that do not set them, such as ``{"n": 2}``; not `prompt` and `id`.
        catalog: The models, with their limits.
        format: One of `FORMATS`, in place of the name's extension. A pipe without a known extension holds JSON lines
            if its first row begins with ``{``, otherwise one prompt a line.

    Raises:
        ConfigurationError: The file does not exist, is a folder, must not be read, or has an unknown format.

    Example:
        >>> open_source("-").rewindable
        False
    """
    text = os.fspath(path)
    standard = text in _STANDARD_INPUT
    name = "the standard input" if standard else printable(text)
    pipe = standard or _is_pipe(text, name)
    chosen = _format(text, format, name, pipe=pipe)
    if pipe and chosen == "parquet":
        raise ConfigurationError(f"{name}: Parquet is read from its end, which a pipe does not have: save it to a file")
    terms = Terms(defaults=defaults, catalog=catalog)
    return Source(name, chosen, not pipe, None if standard else text, terms)


def _is_pipe(path: str, name: str) -> bool:
    if "\0" in path:
        raise ConfigurationError(f"{name}: a path cannot hold a NUL character")
    with _readable(name):
        mode = os.stat(path).st_mode  # noqa: PTH116 - a plain text path
        if stat.S_ISDIR(mode):
            raise ConfigurationError(f"{name} is a folder, not a file of prompts")
        if not stat.S_ISREG(mode) or path.startswith(_DESCRIPTORS):
            return True
        with open(path, "rb"):  # noqa: PTH123 - a plain text path; reports a missing permission early
            return False


def _format(path: str, asked: str | None, name: str, *, pipe: bool) -> str | None:
    if asked is not None:
        found = asked.lower().removeprefix(".")
    else:
        stem = os.path.basename(path).lower().removesuffix(".gz")  # noqa: PTH119 - a plain text path
        found = os.path.splitext(stem)[1].removeprefix(".")  # noqa: PTH122 - a plain text path
    found = _SAME_AS.get(found, found)
    if found in FORMATS:
        return found
    if asked is None and pipe:
        return None
    ending = f"the format {printable(found, 20)!r}" if found else "no ending that tells its format"
    raise ConfigurationError(f"{name}: {ending}; known are {', '.join(FORMATS)}: rename the file, or say --format")


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise ConfigurationError("there is no standard input to read from")
    try:
        # A separate reader: a daemon thread that waits for a pipe must not hold the lock of sys.stdin.buffer when the
        # interpreter ends.
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except (OSError, ValueError, AttributeError):  # stdin is not a file: in tests and notebooks
        return cast("BinaryIO", sys.stdin.buffer)


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ConfigurationError(f"{name}: there is no such file") from None
    except PermissionError:
        raise ConfigurationError(f"{name}: you may not read it") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{name} cannot be read: {printable(str(error), 200)}") from None


def _count(counter: Counter[str], key: str, times: int) -> None:
    if key in counter or len(counter) < _KINDS_OF_NOTES:
        counter[key] += times
