from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from imagen_async.cli.console import error_text, write_message
from imagen_async.exceptions import ImagenError, InvalidInputError

if TYPE_CHECKING:
    import pytest


@given(st.text())
def test_no_error_can_write_a_control_character(text: str) -> None:
    assert error_text(ImagenError(text)).isprintable()


@given(st.text(), st.text())
def test_bad_input_has_one_line_for_each_row(source: str, mistake: str) -> None:
    error = InvalidInputError(source, [(3, (mistake, "n must be a whole number")), (9, (mistake,))], 5)
    head, third, ninth, more = error_text(error).split("\n")
    assert all(line.isprintable() for line in (head, third, ninth, more))
    assert third.startswith("  line 3: ")
    assert third.endswith("n must be a whole number")
    assert ninth.startswith("  line 9: ")
    assert more == "  … and 3 more"


def test_a_stderr_without_a_reader_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    write_message("anything")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    write_message("anything")
