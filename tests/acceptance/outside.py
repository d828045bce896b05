"""Reads what a run left, without the library's own readers where that matters."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from imagen_async.batch import Row, open_source
from imagen_async.sandbox import read_stamp
from imagen_async.wire.image import Facts, Inspector

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Verdict", "check_images", "facts_of", "metadata", "strays", "wanted_images"]


class Verdict:
    """Prints each finding and remembers whether all held."""

    def __init__(self) -> None:
        self.held = True

    def say(self, text: str) -> None:
        """Print a figure."""
        sys.stdout.write(f"{text}\n")

    def check(self, promise: str, *, holds: bool, detail: object = "") -> None:
        """Print a promise and whether it holds."""
        self.held &= holds
        self.say(f"{'holds' if holds else 'BROKEN'}  {promise}{f': {detail}' if detail != '' else ''}")

    @property
    def exit_status(self) -> int:
        """0 if every promise held."""
        return 0 if self.held else 1


def wanted_images(prompts: Path) -> Counter[str]:
    """Count the images that each prompt of a file asks for."""
    wanted: Counter[str] = Counter()
    for row in open_source(prompts).rows():
        if isinstance(row, Row):
            wanted[row.request.prompt] += row.request.n
    return wanted


def metadata(output: Path) -> list[dict[str, Any]]:
    """Read the lines of ``metadata.jsonl``."""
    with (output / "metadata.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def strays(output: Path, lines: list[dict[str, Any]]) -> list[str]:
    """Name the files under the output folder that no line of metadata accounts for."""
    known = {line["file_name"] for line in lines}
    known |= {"metadata.jsonl", "errors.jsonl"}
    files = (path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    return sorted(name for name in files if name not in known and not name.startswith(".imagen/journal"))


def check_images(verdict: Verdict, output: Path, lines: list[dict[str, Any]], prompts: Counter[str]) -> None:
    """Compare every file with its prompt, byte for byte of what the sandbox stamped into it."""
    wrong = [line["file_name"] for line in lines if not _is_its_own(output / line["file_name"], line)]
    verdict.check("every file is whole and is its own prompt's image", holds=not wrong, detail=wrong[:5] or len(lines))
    got = Counter(line["prompt"] for line in lines)
    verdict.check("every prompt has its images, and none has more", holds=got == prompts, detail=sum(got.values()))
    left = [name for name in strays(output, lines) if name != ".imagen/lock.sqlite"]
    verdict.check("no stray file is left", holds=not left, detail=left[:5])


def _is_its_own(path: Path, line: dict[str, Any]) -> bool:
    data = path.read_bytes()
    size = facts_of(data).size
    return bool(read_stamp(data)["prompt"] == line["prompt"] and size == line["bytes"] == len(data))


def facts_of(data: bytes) -> Facts:
    """Decide whether an image is complete.

    Raises:
        ProtocolError: It is not whole, or none.
    """
    inspector = Inspector()
    inspector.feed(data)
    return inspector.finish()
