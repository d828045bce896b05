"""Compares the files of a folder with its journal, and names those that are missing or altered.

Nothing is changed, and nothing outside the folder is opened, whatever a record says. A page of records is in memory at
a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import attrs

from imagen_async._cancellation import unbroken
from imagen_async.batch.folder import INNER_NAME
from imagen_async.batch.journal import queries, read, transitions
from imagen_async.exceptions import StoreError, printable
from imagen_async.stores.folders import mismatch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from imagen_async.batch.journal import Journal, RecordedImage

__all__ = ["Damage", "Problem", "Verification", "withdraw_damaged"]

_PAGE = 256
_THREADS = 4
_READ_SIZE = 512 * 1024
# Without O_NONBLOCK, opening a pipe would wait for ever. Not every system has every flag.
_READING = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))


class Problem(StrEnum):
    """What can be wrong with a recorded image."""

    MISSING = "missing"
    """No file has its name."""
    ALTERED = "altered"
    """The file has another size or content, is a symbolic link or behind one, or is not a plain file."""
    OUTSIDE = "outside"
    """Its record names a place outside the folder, which was not opened."""
    UNREADABLE = "unreadable"
    """The system does not allow to read it: it may be unchanged."""


@attrs.frozen(kw_only=True)
class Damage:
    """An image whose file is not what the journal says.

    Attributes:
        problem: What is wrong.
        file_name: The file, from the folder, as the record has it.
        key: The job's key.
        id: The job's name in the input, or None.
        line: The job's place in the input.
        index: The image's index.
        detail: What was found instead.
    """

    problem: Problem
    file_name: str
    key: bytes
    id: str | None
    line: int
    index: int
    detail: str


class Verification:
    """Compares every recorded image's file with its record, by size and SHA-256; iterate it once to run it.

    A run may use the folder meanwhile: images that it records are compared as well, until the last page is read.

    Args:
        folder: The output folder.
        threads: How many files are read concurrently.

    Attributes:
        images: Images compared so far.
        bytes: Bytes read so far.
        damaged: How many of them are damaged, by problem.

    Example:
        >>> import tempfile
        >>> from imagen_async import Batch, ImagenClient
        >>> from imagen_async.sandbox import SandboxGateway
        >>> async def main(folder):
        ...     async with SandboxGateway(images="tiny") as gateway:
        ...         async with ImagenClient(gateway.api_key, gateway.base_url) as client:
        ...             async with Batch(client, ["A red fox", "A blue whale"], output=folder) as batch:
        ...                 return [outcome.images[0].path async for outcome in batch]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = asyncio.run(main(folder))
        ...     os.remove(paths[0])
        ...     [str(damage.problem) for damage in Verification(folder)]
        ['missing']
    """

    def __init__(self, folder: str | os.PathLike[str], *, threads: int = _THREADS) -> None:
        self._folder = Path(folder)
        self._threads = threads
        self.images = 0
        self.bytes = 0
        self.damaged = dict.fromkeys(Problem, 0)

    def __iter__(self) -> Iterator[Damage]:
        """Iterate over the damage, in the order in which the images were recorded.

        Raises:
            JournalError: There is no journal, or it is damaged, foreign or of another version.
        """
        return chain.from_iterable(self.pages())

    def pages(self) -> Generator[list[Damage], None, None]:
        """Iterate over the damage in each page of some hundred images, as `__iter__`; a page may have none."""
        last = 0
        with ThreadPoolExecutor(self._threads, thread_name_prefix="imagen-verify") as threads:
            while page := read(self._folder / INNER_NAME, queries.images_after, last, _PAGE):
                last = page[-1].seq
                damage: list[Damage] = []
                for size, found in threads.map(self._compared, page):
                    self.images += 1
                    self.bytes += size
                    if found is not None:
                        self.damaged[found.problem] += 1
                        damage.append(found)
                yield damage

    def _compared(self, image: RecordedImage) -> tuple[int, Damage | None]:
        name = image.record.get("file_name")
        damage = partial(Damage, file_name=str(name), key=image.key, id=image.id, line=image.line, index=image.index)
        if not isinstance(name, str) or not _is_inside(name):
            return 0, damage(problem=Problem.OUTSIDE, detail="its record names a place outside the folder")
        try:
            found = _linked(self._folder, name)
            read, found = (0, found) if found else _compare(self._folder / name, image.record)
        except (FileNotFoundError, NotADirectoryError):
            return 0, damage(problem=Problem.MISSING, detail="there is no such file")
        except OSError as error:
            return 0, damage(problem=Problem.UNREADABLE, detail=error.strerror or str(error))
        return read, None if found is None else damage(problem=Problem.ALTERED, detail=found)


def _is_inside(name: str) -> bool:
    # Records have forward slashes on every system. A drive or a backslash has a meaning on Windows only.
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and not set(name) & {"\\", ":", "\0"}


def _linked(folder: Path, name: str) -> str | None:
    """Return what the file or one of its folders is instead of a real one, or None.

    Raises:
        OSError: The file does not exist, or cannot be examined.
    """
    path = folder / name
    if found := mismatch(path, "file"):
        return f"it is {found}"
    folders = list(path.parents)[: len(PurePosixPath(name).parts) - 1]
    return next((f"its folder is {found}" for each in folders if (found := mismatch(each, "folder"))), None)


def _compare(path: Path, record: Mapping[str, Any]) -> tuple[int, str | None]:
    """Read a file unless its size is wrong; return how many bytes were read, and what is wrong or None."""
    file = os.open(path, _READING)
    try:
        size = os.fstat(file).st_size
        if size != record.get("bytes"):
            return 0, f"it has {size} bytes, and had {record.get('bytes')}"
        digest, read = hashlib.sha256(), 0
        while span := os.read(file, _READ_SIZE):
            digest.update(span)
            read += len(span)
    finally:
        os.close(file)
    return read, None if digest.hexdigest() == record.get("sha256") else "its content has changed"


async def withdraw_damaged(journal: Journal, folder: Path) -> int:
    """Withdraw images whose files are missing or altered, so that a run requests them again; files stay as they are.

    Args:
        journal: Open, with nothing in flight.
        folder: The output folder.

    Returns:
        How many images.

    Raises:
        StoreError: A file cannot be read: it may be unchanged, and is not bought again.
        JournalError: The journal broke.
    """
    withdrawn = 0
    pages = Verification(folder).pages()
    try:
        while (page := await unbroken(asyncio.to_thread(next, pages, None))) is not None:
            for damage in page:
                if damage.problem is Problem.UNREADABLE:
                    path = str(folder / damage.file_name)
                    raise StoreError(f"{printable(path)} cannot be checked: {damage.detail}", path=path)
            await journal.perform(transitions.withdraw, [(damage.key, damage.index) for damage in page])
            withdrawn += len(page)
    finally:
        pages.close()
    return withdrawn
