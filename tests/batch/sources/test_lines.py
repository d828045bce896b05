from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.sources.lines import LINE_LIMIT, Line, read_lines
from imagen_async.exceptions import InvalidInputError


def read(data: bytes) -> list[Line]:
    return list(read_lines(io.BytesIO(data), "t.txt"))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), max_size=20)), st.booleans())
def test_the_lines_put_together_are_the_file(texts: list[str], bom: bool) -> None:  # noqa: FBT001 - drawn
    whole = "".join(text + "\n" for text in texts)
    if whole.startswith("\ufeff"):
        bom = True  # the text brings one of its own
        whole = whole[1:]
    lines = read((b"\xef\xbb\xbf" if bom else b"") + whole.encode())
    if whole or not bom:
        assert "".join(line.text for line in lines) == whole
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert not any(line.faults for line in lines)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise_but_those_of_another_format(data: bytes) -> None:
    try:
        lines = read(data)
    except InvalidInputError:
        assert data[:1] in b"\xff\xfe\x00\x1fPP"
    else:
        assert len(lines) == len(data.removesuffix(b"\n").split(b"\n")) * bool(data)


def test_a_byte_that_is_not_utf_8_is_named_and_costs_its_line_only() -> None:
    first, bad, last = read("gut\nGrün\nfein\n".encode("latin-1"))
    assert (first.faults, last.faults, last.text) == ((), (), "fein\n")
    assert bad.faults == ("byte 0xfc at position 3 of the line is not UTF-8: save the file as UTF-8",)


def test_a_nul_byte_is_a_fault() -> None:
    assert "NUL" in read(b"A red\0fox\n")[0].faults[0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_unicode_is_one_clear_error(encoding: str) -> None:
    with pytest.raises(InvalidInputError, match="save it as UTF-8"):
        read("A red fox\n".encode(encoding))


@pytest.mark.parametrize(("magic", "said"), [(b"\x1f\x8b\x08", "gz"), (b"PK\x03\x04", "zip"), (b"PAR1", "parquet")])
def test_a_file_of_another_format_says_what_it_is(magic: bytes, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        read(magic + b"\x15\x04\n")


def test_a_line_may_be_as_long_as_the_limit_and_no_longer() -> None:
    fits = b"x" * (LINE_LIMIT - 1) + b"\n"
    long, more, end = read(b"x" + fits + fits + b"end")
    assert long.faults == ("the line is longer than 1,048,576 bytes",)
    assert (long.cut, len(long.text) < 1000) == (True, True)
    assert (more.faults, len(more.text), end.number, end.text) == ((), LINE_LIMIT, 3, "end")


def test_a_line_without_end_is_never_held_whole() -> None:
    class Endless:
        left = 50

        def readline(self, size: int, /) -> bytes:
            assert size <= LINE_LIMIT + 1
            self.left -= 1
            return b"x" * size if self.left > 0 else b""

    (line,) = read_lines(Endless(), "t.txt")
    assert line.faults
