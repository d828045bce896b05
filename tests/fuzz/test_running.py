from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fuzz.corpus import CORPUS
from tests.fuzz.running import Report, dictionary, read_log
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = """\
INFO: seed corpus: files: 41 min: 1b max: 748b total: 9612b rss: 58Mb
#42\tINITED cov: 381 ft: 1116 corp: 38/5292b exec/s: 0 rss: 58Mb
#10931\tDONE   cov: 419 ft: 1968 corp: 226/53Kb lim: 748 exec/s: 179 rss: 58Mb
stat::number_of_executed_units: 10931
"""


def _doing(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function like another one, whose result is changed."""
    return lambda real: lambda *args, **options: change(real(*args, **options))


BREAKS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "decoder": ("imagen_async.wire.base64.pybase64.b64decode", _doing(lambda data: data[:-1])),
    "receiver": ("imagen_async.receiver.receiver.ImageSink.finish", lambda _: lambda me: setattr(me, "whole", True)),
    "skeleton": ("tests.fuzz.targets.skeleton.completed", _doing(lambda text: text.replace("}", "", 1))),
    "image": ("imagen_async.wire.image_formats._check_chunk", lambda _: lambda *_: None),
    "errors": ("imagen_async.wire.response.printable", lambda _: lambda text, _limit=0: text),
    "retry_after": ("imagen_async.wire.retry_after._bounded", lambda _: lambda seconds: seconds),
    "lines": ("imagen_async.batch.sources.readers._without_end", lambda _: lambda text: text),
    "tables": ("imagen_async.batch.sources.readers.row_of_cells", lambda real: lambda cells, *rest, **options: real(
        [cell.lower() for cell in cells], *rest, **options)),
    "sources": ("imagen_async.batch.sources.source.requests_of", lambda _: lambda *_: 1 / 0),
    "parquet": ("imagen_async.batch.sources.parquet.printable", lambda _: lambda *_: "\n"),
}  # fmt: skip
"""By target, something that it is there to see, and how that goes wrong."""


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_detects_the_defect_that_it_is_for(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"tests.fuzz.targets.{target}")
    where, change = BREAKS[target]
    name, attribute = where.rpartition(".")[::2]
    monkeypatch.setattr(where, change(getattr(_found(name), attribute)))
    with pytest.raises(Exception):  # noqa: B017, PT011 - of any kind: that is what a fuzzer reports
        for path in sorted((CORPUS / target).iterdir()):
            module.check(path.read_bytes())


def _found(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        room, _, thing = name.rpartition(".")
        return getattr(_found(room), thing)


def test_a_log_gives_the_number_of_runs_and_of_edges_at_its_end() -> None:
    assert read_log(LOG) == (10931, 419)
    assert read_log("Traceback: no module named atheris") == (0, 0)


def test_a_report_says_how_to_reproduce_a_finding() -> None:
    report = Report("decoder", 7, 3, (Path("fuzz-out/decoder/crash-1"),), clean=False)
    assert "NOT CLEAN" in str(report)
    assert "python -m tests.fuzz replay decoder fuzz-out/decoder/crash-1" in str(report)


def test_any_bytes_can_be_a_word_of_a_dictionary() -> None:
    assert dictionary([b'"a"', b"\xff\n"]) == '"\\x22\\x61\\x22"\n"\\xff\\x0a"\n'


def test_a_finding_is_reproduced_without_a_fuzzer(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"Retry-After: 7")
    command = [sys.executable, "-m", "tests.fuzz", "replay", "retry_after", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert done.stdout.endswith("read as promised\n")


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) < 200 * 1024
