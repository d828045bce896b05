"""Whether the files of a folder are what its journal says: each is read, and what is missing or altered is named.

The rule it keeps: nothing is changed, and nothing outside the folder is opened, whatever a record says. Memory is
bounded by a page of records. What is done about damage is not decided here.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import attrs

from imagen_async._cancellation import unbroken
from imagen_async.batch.folder import INNER_NAME
from imagen_async.batch.journal import read_images, transitions
from imagen_async.exceptions import StoreError, printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from imagen_async.batch.journal import Journal, RecordedImage

__all__ = ["Damage", "Problem", "Verification", "withdraw_damaged"]

_PAGE = 256
_THREADS = 4
_READ_SIZE = 512 * 1024
# Without O_NONBLOCK, a pipe of that name would hold the thread for ever. Not every system has every flag.
_READING = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))


class Problem(StrEnum):
    """What can be wrong with a recorded image."""

    MISSING = "missing"
    """No file has its name."""
    ALTERED = "altered"
    """What has its name is of another size or content, is a symbolic link or behind one, or no plain file."""
    OUTSIDE = "outside"
    """Its record names no place inside the folder, and was not followed."""
    UNREADABLE = "unreadable"
    """The system does not let it be read: it may be as it was."""


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
        detail: What was found instead, in words.
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

    A run may go on in the folder meanwhile: what it records is read, too, up to where the last page is read.

    Args:
        folder: The output folder.
        threads: How many files are read at a time.

    Attributes:
        images: Images compared so far.
        bytes: What was read of them.
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
        for page in self.pages():
            yield from page

    def pages(self) -> Generator[list[Damage], None, None]:
        """Iterate likewise, with what was found in each page of some hundred images; it may be nothing.

        Raises:
            JournalError: As above.
        """
        last = 0
        with ThreadPoolExecutor(self._threads, thread_name_prefix="imagen-verify") as threads:
            while page := read_images(self._folder / INNER_NAME, after=last, limit=_PAGE):
                last = page[-1].seq
                yield [found for found in map(self._noted, threads.map(self._compared, page)) if found is not None]

    def _noted(self, compared: tuple[int, Damage | None]) -> Damage | None:
        read, damage = compared
        self.images += 1
        self.bytes += read
        if damage is not None:
            self.damaged[damage.problem] += 1
        return damage

    def _compared(self, image: RecordedImage) -> tuple[int, Damage | None]:
        name = image.record.get("file_name")
        told = partial(_damage, image, str(name))
        if not isinstance(name, str) or not _is_inside(name):
            return 0, told(Problem.OUTSIDE, "its record names no place inside the folder")
        try:
            _refuse_links(self._folder, name)
            read, found = _compare(self._folder / name, image.record)
        except (FileNotFoundError, NotADirectoryError):
            return 0, told(Problem.MISSING, "there is no such file")
        except _NotPlainError as error:
            return 0, told(Problem.ALTERED, str(error))
        except OSError as error:
            return 0, told(Problem.UNREADABLE, error.strerror or str(error))
        return read, None if found is None else told(Problem.ALTERED, found)


class _NotPlainError(Exception):
    """What has the name is a link, a folder, a pipe."""


def _damage(image: RecordedImage, name: str, problem: Problem, detail: str) -> Damage:
    return Damage(
        problem=problem, file_name=name, key=image.key, id=image.id, line=image.line, index=image.index, detail=detail
    )


def _is_inside(name: str) -> bool:
    # Records have forward slashes on every system; a drive or a back slash would mean something on Windows alone.
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and not set(name) & {"\\", ":", "\0"}


def _refuse_links(folder: Path, name: str) -> None:
    """Do nothing if every part of `name` is real; what a link leads to is not what the store wrote.

    Raises:
        _NotPlainError: One is a link, or the last no plain file.
        OSError: One is not there, or cannot be looked at.
    """
    path = folder / name
    modes = [place.lstat().st_mode for place in [*list(path.parents)[: len(PurePosixPath(name).parts) - 1], path]]
    if any(map(stat.S_ISLNK, modes)):
        raise _NotPlainError("a symbolic link is in its place")
    if not stat.S_ISREG(modes[-1]):
        raise _NotPlainError("it is no plain file")


def _compare(path: Path, record: Mapping[str, Any]) -> tuple[int, str | None]:
    """Read a file, unless its size tells enough; return how much was read, and what is wrong or None.

    Raises:
        OSError: It is not there, or cannot be read.
    """
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
    return read, None if digest.hexdigest() == record.get("sha256") else "its content is another"


async def withdraw_damaged(journal: Journal, folder: Path) -> int:
    """Take images whose files are missing or altered out of the journal's account, so that a run asks for them again.

    Files are left as they are; that the images were bought is not forgotten.

    Args:
        journal: Open, with nothing in flight.
        folder: The output folder.

    Returns:
        How many images.

    Raises:
        StoreError: A file cannot be read: it may be as it was, and is not bought again on suspicion.
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
