"""Where `generate` puts its images: names that people read, and no file ever overwritten.

A place is settled before anything is sent, so that a folder that cannot be written costs nothing; the name's ending is
settled by the bytes, when they are there.
"""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from imagen_async.exceptions import ConfigurationError, StoreError, printable
from imagen_async.stores.folders import link_words
from imagen_async.wire.image import EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Place", "place_for", "slug", "write_image"]

_ENDINGS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_SLUG_LENGTH = 60
_WINDOWS_DEVICES = re.compile(r"con|prn|aux|nul|com\d|lpt\d")


@attrs.frozen
class Place:
    """Where images go.

    Attributes:
        folder: An existing folder.
        stem: The name without a number and an ending.
        ending: The ending that was asked for, such as ``.jpeg``, or None.
    """

    folder: Path
    stem: str
    ending: str | None = None

    @property
    def format(self) -> str | None:
        """The image format that the ending asks for, if it asks for one."""
        return _ENDINGS.get((self.ending or "").lower())

    def path(self, index: int, *, n: int, format: str) -> Path:  # noqa: A002 - the field's word
        """Name an image.

        Args:
            index: Its number among its siblings, from 0.
            n: How many were asked for; one alone has no number.
            format: What the bytes are.
        """
        number = f"-{index + 1}" if n > 1 else ""
        ending = self.ending if self.ending and self.format == format else EXTENSIONS[format]
        return self.folder / f"{self.stem}{number}{ending}"


def slug(prompt: str) -> str:
    """Name a file after a prompt, for people to read; safe on any system, and not unique.

    Example:
        >>> slug("A red fox, at dawn"), slug("../../etc/passwd"), slug("狐狸")
        ('a-red-fox-at-dawn', 'etc-passwd', 'image')
    """
    start = unicodedata.normalize("NFKD", prompt[: 4 * _SLUG_LENGTH]).encode("ascii", "ignore").decode("ascii")
    text = _NOT_SLUG.sub("-", start.lower()).strip("-")[:_SLUG_LENGTH].strip("-") or "image"
    return f"{text}-image" if _WINDOWS_DEVICES.fullmatch(text) else text


def place_for(output: str | None, prompt: str, *, n: int) -> Place:
    """Settle where images go, and make the folder.

    Args:
        output: A file, a folder (one that is there, or ends in a slash), or None for the current folder.
        prompt: Names the files in a folder.
        n: How many images are asked for.

    Raises:
        ConfigurationError: The file is there already, the folder is a symbolic link, or cannot be made or written.
    """
    text = "." if output is None else output
    if "\0" in text or not text:
        raise ConfigurationError("--output is not a path that a file can have")
    path = Path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        if words := link_words(path):
            raise ConfigurationError(words)
        place = Place(path, slug(prompt))
    else:
        ending = path.suffix if path.suffix.lower() in _ENDINGS else ""
        place = Place(path.parent, path.name.removesuffix(ending), ending or None)
        _refuse_existing(place, path, n=n)
    _make_writable(place.folder)
    return place


def _refuse_existing(place: Place, path: Path, *, n: int) -> None:
    expected = [place.path(index, n=n, format=place.format or "png") for index in range(n)]
    for file in (path, *expected) if n == 1 else expected:
        if os.path.lexists(file):
            raise ConfigurationError(f"{printable(str(file))} is there already: choose another name, or remove it")


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the folder {printable(str(folder))} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"the folder {printable(str(folder))} cannot be written")


def write_image(path: Path, data: bytes) -> Path:
    """Write a file that appears whole or not at all, under `path` or, where that is taken, with ``~2`` in its name.

    Returns:
        Where it is.

    Raises:
        StoreError: It cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".imagen-", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(data)
                file.flush()
                temporary.chmod(0o644)  # temporary files are private; images are not
                return _published(temporary, path)
            finally:
                with suppress(OSError):
                    temporary.unlink()
    except OSError as error:
        reason = printable(error.strerror or str(error))
        raise StoreError(f"{printable(str(path))} cannot be written: {reason}", path=str(path)) from error


def _published(temporary: Path, path: Path) -> Path:
    for name in _candidates(path):
        try:
            os.link(temporary, name)
        except FileExistsError:
            continue
        except OSError:
            if os.path.lexists(name):
                continue
            # No hard links here: look and rename, as there is nothing better.
            temporary.rename(name)
        return name
    raise AssertionError  # pragma: no cover - there are endless candidates


def _candidates(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}~{number}{path.suffix}")
