"""Decides where `generate` puts its images, and writes them; no file is ever overwritten.

A place is checked before anything is sent, so that an unwritable folder costs nothing. The extension follows the bytes,
once they are there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import attrs

from imagen_async.exceptions import ConfigurationError, StoreError, printable
from imagen_async.stores.folders import link_words
from imagen_async.stores.names import WINDOWS_DEVICES, slug
from imagen_async.stores.publisher import Publisher
from imagen_async.wire.image import EXTENSIONS

__all__ = ["Place", "place_for", "prompt_name", "write_image"]

_ENDINGS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_LONGEST_NAME = 60


@attrs.frozen
class Place:
    """Where the images of one prompt go.

    Attributes:
        folder: An existing folder.
        stem: The file name without number and extension.
        ending: The extension that was asked for, such as ``.jpeg``, or None.
    """

    folder: Path
    stem: str
    ending: str | None = None

    @property
    def format(self) -> str | None:
        """The image format that the extension asks for, or None."""
        return _ENDINGS.get((self.ending or "").lower())

    def path(self, index: int, *, n: int, format: str) -> Path:  # noqa: A002 - the field's name in a request
        """Return the path of an image.

        Args:
            index: The image's number, from 0.
            n: Number of images asked for; a single image has no number in its name.
            format: Format of the bytes.
        """
        number = f"-{index + 1}" if n > 1 else ""
        ending = self.ending if self.ending and self.format == format else EXTENSIONS[format]
        return self.folder / f"{self.stem}{number}{ending}"


def prompt_name(prompt: str) -> str:
    """Return a readable file name for a prompt, without an extension; safe on every system, not unique.

    Example:
        >>> prompt_name("A red fox, at dawn"), prompt_name("../../etc/passwd"), prompt_name("狐狸")
        ('a-red-fox-at-dawn', 'etc-passwd', 'image')
    """
    text = slug(prompt, _LONGEST_NAME) or "image"
    return f"{text}-image" if text in WINDOWS_DEVICES else text


def place_for(output: str | None, prompt: str, *, n: int) -> Place:
    """Return where images go, and make the folder.

    Args:
        output: A file, a folder (an existing one, or a path that ends in a slash), or None for the current folder.
        prompt: Names the files in a folder.
        n: Number of images asked for.

    Raises:
        ConfigurationError: The file exists, the folder is a symbolic link, or it cannot be made or written.
    """
    text = "." if output is None else output
    if "\0" in text or not text:
        raise ConfigurationError("--output must be a path: it is empty or holds a NUL character")
    path = Path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        if words := link_words(path):
            raise ConfigurationError(words)
        place = Place(path, prompt_name(prompt))
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
            raise ConfigurationError(f"{printable(str(file))} already exists: choose another name, or remove it")


def _make_writable(folder: Path) -> None:
    shown = printable(str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the folder {shown} cannot be made: {error.strerror}; name another one") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"the folder {shown} cannot be written: change its permissions, or name another one")


def write_image(path: Path, data: bytes) -> Path:
    """Write a file that appears complete or not at all, at `path` or, if that is taken, with ``~2`` in its name.

    Returns:
        The file's path.

    Raises:
        StoreError: The file cannot be written.
    """
    temporary = path.with_name(f".imagen-{os.urandom(6).hex()}")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
            return Path(Publisher().publish(str(temporary), str(path.with_suffix("")), path.suffix))
        finally:
            with suppress(OSError):
                temporary.unlink()
    except OSError as error:
        reason = printable(error.strerror or str(error))
        raise StoreError(f"{printable(str(path))} cannot be written: {reason}", path=str(path)) from error
