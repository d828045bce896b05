"""File names for any id at all: safe everywhere, unique everywhere, and plain where the id is plain.

The rule: an id that is a plain lower-case word is its own name; every other one becomes ``<slug>~<hash>``. A plain
name holds no ``~``, so the two kinds never meet, and all names are lower-case ASCII, so no file system's idea of
upper case or of Unicode can make two of them one. Pure: nothing here touches a disk.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

__all__ = ["safe_name", "shard"]

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NOT_SLUG = re.compile(r"[^a-z0-9_-]+")
_NOT_LETTERS = re.compile(r"[^a-z]+")
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)}
)

_SPLIT_WORDS = frozenset(
    {"train", "training", "validation", "valid", "dev", "val", "test", "testing", "eval", "evaluation"}
)
"""What Hugging Face `datasets` takes for a split (`data_files.SPLIT_KEYWORDS`) where it stands between any of
``-._ 0-9`` in a file's path: one such file, and the loader leaves out every other file of the folder."""

_SLUG_LENGTH = 40
_HASH_LENGTH = 32


def safe_name(id: str) -> str:  # noqa: A002 - an id is called id everywhere else, too
    """Name a file after `id`, without an extension; at most 73 characters of ``a-z 0-9 _ - ~``.

    Example:
        >>> safe_name("red-fox_7")
        'red-fox_7'
        >>> safe_name("../Red Fox")
        'red-fox~2cf32f2120bbfccecfa1bc3d63da404a'
    """
    if _PLAIN.fullmatch(id) and id not in _WINDOWS_DEVICES and not _names_a_split(id):
        return id
    return f"{_slug(id)}~{_digest(id)[:_HASH_LENGTH]}"


def shard(id: str) -> str:  # noqa: A002 - as above
    """Name the folder that `id` goes to, two hex digits: a folder of millions of files is slow on many systems.

    Example:
        >>> shard("red-fox_7")
        'bf'
    """
    return _digest(id)[:2]


def _digest(id: str) -> str:  # noqa: A002 - as above
    # A lone surrogate is not valid UTF-8, but it can come out of JSON, so it must be hashed like any other.
    return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()


def _slug(id: str) -> str:  # noqa: A002 - as above
    # Only the beginning can show in the slug: an id of megabytes is not normalised whole.
    ascii_part = unicodedata.normalize("NFKD", id[: 4 * _SLUG_LENGTH]).encode("ascii", "ignore").decode("ascii")
    slug = _NOT_SLUG.sub("-", ascii_part.lower()).strip("-_")[:_SLUG_LENGTH].strip("-_")
    return "id" if not slug or _names_a_split(slug) else slug


def _names_a_split(name: str) -> bool:
    return not _SPLIT_WORDS.isdisjoint(_NOT_LETTERS.split(name))
