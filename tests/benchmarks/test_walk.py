"""The trace of one prompt covers the whole walk, from `stream` to the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.picture import SMALLEST
from benchmarks.processes import served
from benchmarks.walk import Walk, walked

if TYPE_CHECKING:
    from pathlib import Path

MOST_FUNCTIONS, MOST_MODULES = 148, 31
"""In the event loop's thread, see `benchmarks.walk`. Lower both when the walk becomes shorter."""


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    folder: Path = tmp_path_factory.mktemp("walk")
    with served("benchmarks.server", "--size", str(SMALLEST)) as server:
        return walked(server.url, folder)


def test_the_walk_begins_at_stream_and_reaches_the_store_in_another_thread(walk: Walk) -> None:
    first, *others = walk.steps
    assert (first.name, first.depth, first.in_loop) == ("ImagenClient.stream", 0, True)
    assert {step.in_loop for step in others if step.module.startswith("stores/")} == {True, False}
    assert {step.module.partition("/")[0] for step in others} >= {"client", "limiter", "transport", "receiver", "wire"}


def test_the_walk_is_no_longer_than_it_was(walk: Walk) -> None:
    functions, modules = walk.counts(all_threads=False)
    assert functions <= MOST_FUNCTIONS, "functions in the loop's thread"
    assert modules <= MOST_MODULES, "modules in the loop's thread"


def test_other_threads_only_add_to_the_walk(walk: Walk) -> None:
    in_loop, everywhere = walk.counts(all_threads=False), walk.counts(all_threads=True)
    assert everywhere[0] > in_loop[0]
    assert everywhere[1] >= in_loop[1]
