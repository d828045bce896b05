"""The ledger: totals, files, torn lines."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import ConfigurationError
from imagen_async.sandbox.ledger import Ledger, LedgerEntry, read_ledger

if TYPE_CHECKING:
    from pathlib import Path


def entry(number: int, **fields: Any) -> LedgerEntry:
    plain = LedgerEntry(ordinal=number, at=1.5, request_id=f"r{number}", prompt="A red fox", n=2, status=200)
    return attrs.evolve(plain, **fields)


def test_an_entry_replaces_the_one_with_its_request_id_and_totals_follow() -> None:
    ledger = Ledger()
    ledger.record(entry(1, billed=2, fault="slow"))
    ledger.record(entry(1, billed=2, sent=2, fault="slow"))
    ledger.record(entry(2, status=None, fault="disconnect", billed=1))
    assert [e.sent for e in ledger] == [2, 0]
    assert (ledger.requests, ledger.billed_images, ledger.sent_images, len(ledger)) == (2, 3, 2, 2)
    assert ledger.statuses == {200: 1, None: 1}
    assert ledger.faults == {"slow": 1, "disconnect": 1}


def test_bills_can_be_asked_for_by_prompt() -> None:
    ledger = Ledger()
    ledger.record(entry(1, billed=2))
    ledger.record(entry(2, billed=1, prompt="An otter"))
    ledger.record(entry(3, billed=4))
    assert ledger.billed_for("A red fox") == 6
    assert ledger.billed_for("Nobody's") == 0
    assert [e.ordinal for e in ledger.for_prompt("A red fox")] == [1, 3]


def test_only_the_newest_entries_are_held_and_totals_count_all() -> None:
    ledger = Ledger(keep=3)
    for number in range(10):
        ledger.record(entry(number, billed=1))
    assert [e.ordinal for e in ledger] == [7, 8, 9]
    assert (ledger.requests, ledger.billed_images) == (10, 10)


def test_successive_ledgers_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for number in (1, 2):
        ledger = Ledger(path)
        ledger.record(entry(number, billed=1))
        ledger.record(entry(number, billed=1, sent=1))
        ledger.close()
    again = read_ledger(path)
    assert [(e.ordinal, e.billed, e.sent) for e in again] == [(1, 1, 1), (2, 1, 1)]
    assert again.billed_images == 2


def test_a_torn_line_costs_only_itself_even_if_another_gateway_appends(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.record(entry(1))
    ledger.record(entry(2))
    ledger.close()
    path.write_bytes(path.read_bytes()[:-9])
    assert [e.ordinal for e in read_ledger(path)] == [1]
    ledger = Ledger(path)
    ledger.record(entry(3))
    ledger.close()
    assert [e.ordinal for e in read_ledger(path)] == [1, 3]


def test_recorded_entries_survive_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    script = (
        "import os, pathlib, signal, sys\n"
        "from imagen_async.sandbox.ledger import Ledger, LedgerEntry\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1]))\n"
        "ledger.record(LedgerEntry(ordinal=1, at=0.0, request_id='r', billed=3))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(path)], check=False)  # noqa: S603 - our own interpreter
    assert ended.returncode == -9
    assert read_ledger(path).billed_images == 3


def test_a_reader_ignores_unknown_fields(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(json.dumps({**attrs.asdict(entry(1)), "weather": "fine"}) + "\n")
    assert read_ledger(path).entries == (entry(1),)


@given(prompt=st.text(), key=st.none() | st.text(), number=st.integers(0, 9))
def test_entries_survive_a_round_trip_through_a_line(prompt: str, key: str | None, number: int) -> None:
    from imagen_async.sandbox.ledger import _parsed

    before = entry(number, prompt=prompt, idempotency_key=key)
    line = json.dumps(attrs.asdict(before)).encode()
    assert b"\n" not in line
    assert _parsed(line) == before


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_any_start_of_a_line_is_torn(cut: int) -> None:
    from imagen_async.sandbox.ledger import _parsed

    assert _parsed(json.dumps(attrs.asdict(entry(1))).encode()[:cut]) is None


def test_a_path_that_cannot_be_opened_is_an_error_for_writer_and_reader(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ledger cannot be opened"):
        Ledger(tmp_path)
    with pytest.raises(ConfigurationError, match="ledger cannot be read"):
        read_ledger(tmp_path / "nothing")
