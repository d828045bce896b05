from __future__ import annotations

import json
from pathlib import PurePath, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.parts import Part, split
from imagen_async.batch.records import error_record, image_record, recorded_image
from imagen_async.batch.sources.rows import Row
from imagen_async.exceptions import (
    ConnectError,
    DisconnectedError,
    ImagenError,
    JournalError,
    OverloadedError,
    ProtocolError,
    TimeoutExceededError,
)
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.request import ImageRequest
from tests.strategies import plain_json

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = [
    "file_name", "prompt", "id", "index", "line", "model", "aspect_ratio", "output_format", "style", "format", "width",
    "height", "bytes", "sha256", "created", "request_id", "revised_prompt", "notes",
]  # fmt: skip

REQUEST = ImageRequest(
    "A red fox", n=6, id="fox", model="imagegeneration@002", aspect_ratio="16:9", output_format="jpeg", style="sketch"
)
IMAGE = Image(
    index=5,
    format="png",
    width=1408,
    height=768,
    size=1234,
    sha256="ab" * 32,
    path="out/images/3f/fox-5.png",
    details={"revised_prompt": "A very red fox", "other": 1},
    notes=("the gateway sent png where jpeg was asked",),
)


def part(metadata: Mapping[str, Any] = MappingProxyType({})) -> Part:
    return list(split(Row(REQUEST, line=3, metadata=metadata)))[-1]


def outcome(**fields: Any) -> Outcome:
    return Outcome(**{"request": part().request, "status": Status.SUCCEEDED, **fields})


def test_the_record_of_an_image_has_its_keys_in_a_fixed_order() -> None:
    told = outcome(created=1_800_000_000, request_id="abc", notes=("a note",))
    record = image_record(part({"mood": "calm"}), IMAGE, folder="out", outcome=told)
    assert record == {
        "file_name": "images/3f/fox-5.png",
        "prompt": "A red fox",
        "id": "fox",
        "index": 5,
        "line": 3,
        "model": "imagegeneration@002",
        "aspect_ratio": "16:9",
        "output_format": "jpeg",
        "style": "sketch",
        "format": "png",
        "width": 1408,
        "height": 768,
        "bytes": 1234,
        "sha256": "ab" * 32,
        "created": 1_800_000_000,
        "request_id": "abc",
        "revised_prompt": "A very red fox",
        "notes": "a note; the gateway sent png where jpeg was asked",
        "mood": "calm",
    }
    assert list(record) == [*FIELDS, "mood"]


def test_an_adopted_image_has_the_same_keys() -> None:
    image = Image(index=0, format="png", width=1, height=1, size=1, sha256="", path="out/images/3f/fox-0.png")
    record = image_record(part(), image, folder="out", outcome=None)
    assert list(record) == FIELDS
    assert [record[name] for name in ("created", "request_id", "revised_prompt", "notes")] == [None] * 4


@pytest.mark.parametrize("revised", [None, 7, ["A fox"], {"text": "A fox"}])
def test_a_revised_prompt_that_is_not_text_is_left_out(revised: object) -> None:
    image = attrs.evolve(IMAGE, details={"revised_prompt": revised})
    assert image_record(part(), image, folder="out", outcome=None)["revised_prompt"] is None


def test_a_column_whose_name_is_taken_gets_another_name() -> None:
    carried: dict[str, Any] = {"Width": 7, "width_of_row": 8, "sha256": "mine", "Mood": "a", "mood": "b"}
    record = image_record(part(carried), IMAGE, folder="out", outcome=None)
    assert list(record.items())[len(FIELDS) :] == [
        ("Width_of_row", 7),
        ("width_of_row_of_row", 8),
        ("sha256_of_row", "mine"),
        ("Mood", "a"),
        ("mood_of_row", "b"),
    ]
    assert (record["width"], record["sha256"]) == (1408, "ab" * 32)


@pytest.mark.parametrize("name", ["file_name", "image", "source_file_name", "file_names", "File_Name", "my_file_names"])
def test_a_column_that_a_loader_would_take_for_a_path_gets_another_name(name: str) -> None:
    record = image_record(part({name: "mine.png"}), IMAGE, folder="out", outcome=None)
    assert list(record) == [*FIELDS, f"{name}_of_row"]
    assert (record["file_name"], record[f"{name}_of_row"]) == ("images/3f/fox-5.png", "mine.png")


@given(
    st.dictionaries(
        st.text(max_size=4) | st.sampled_from([*FIELDS, "Prompt", "prompt_of_row", "image", "İd"]), plain_json()
    )
)
def test_no_column_of_a_row_replaces_a_field_or_is_lost(carried: dict[str, Any]) -> None:
    record = image_record(part(carried), IMAGE, folder="out", outcome=None)
    assert list(record)[: len(FIELDS)] == FIELDS
    assert record["prompt"] == "A red fox"
    assert len(record) == len(FIELDS) + len(carried)
    assert len({name.casefold() for name in record}) == len(record)
    assert list(record.values())[len(FIELDS) :] == list(carried.values())


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        (PurePosixPath("out/images/3f/a-0.png"), PurePosixPath("out")),
        (PurePosixPath("images/3f/a-0.png"), PurePosixPath(".")),
        (PurePosixPath("/srv/out/images/3f/a-0.png"), PurePosixPath("/srv/out/")),
        (PurePosixPath("/images/3f/a-0.png"), PurePosixPath("/")),
    ],
)
def test_file_names_are_relative_to_the_output_folder(path: PurePath, folder: PurePath) -> None:
    record = image_record(part(), attrs.evolve(IMAGE, path=str(path)), folder=str(folder), outcome=None)
    assert record["file_name"] == "images/3f/a-0.png"


def test_a_record_becomes_its_image_again() -> None:
    record = image_record(part(), IMAGE, folder="out", outcome=None)
    again = recorded_image(json.loads(json.dumps(record)), index=5, folder=PurePosixPath("out"))
    assert again == Image(
        index=5,
        format="png",
        width=1408,
        height=768,
        size=1234,
        sha256="ab" * 32,
        path="out/images/3f/fox-5.png",
    )


def test_a_job_that_succeeded_has_no_error() -> None:
    assert error_record(part(), None, outcome()) is None
    assert error_record(part(), None, None) is None


def test_a_job_that_succeeded_after_a_doubt_is_listed_without_an_error() -> None:
    told = error_record(part(), None, outcome(images=(IMAGE,)), doubted=True)
    assert told is not None
    assert list(told) == ["prompt", "model", "n", "images"]


def test_a_partial_job_has_its_own_error_type() -> None:
    told = error_record(part(), None, outcome(status=Status.PARTIAL, images=(IMAGE,)))
    assert told is not None
    assert (told["type"], told["n"], told["images"]) == ("partial", 2, 1)


@pytest.mark.parametrize(
    ("error", "more"),
    [
        (
            OverloadedError("no", status=504, code="timeout", request_id="abc"),
            {"http_status": 504, "code": "timeout", "request_id": "abc"},
        ),
        (
            ProtocolError("base64", "bad", offset=7, request_id="abc"),
            {"check": "base64", "offset": 7, "request_id": "abc"},
        ),
        (ConnectError("no route"), {"sent": False}),
        (TimeoutExceededError("read", 300, sent=True), {"sent": True}),
        (DisconnectedError("cut", sent=True, offset=7), {"sent": True, "offset": 7}),
        (ImagenError("odd"), {}),
    ],
)
def test_an_error_is_recorded_with_the_attributes_of_its_type(error: ImagenError, more: dict[str, Any]) -> None:
    told = error_record(part(), error, outcome(status=Status.FAILED, error=error))
    known = {"prompt": "A red fox", "model": "imagegeneration@002", "n": 2, "images": 0}
    assert told == {**known, "type": type(error).__name__, "message": str(error), **more}


def test_foreign_text_in_an_error_is_escaped_and_bounded() -> None:
    told = error_record(part(), OverloadedError("\x1b[31m" + "x" * 9000, status=500), None)
    assert told is not None
    assert told["message"].startswith("\\x1b[31m")
    assert len(told["message"]) <= 2004


@pytest.mark.parametrize("lost", ["format", "width", "height", "bytes", "sha256", "file_name"])
def test_a_record_without_a_key_is_a_damaged_journal(lost: str) -> None:
    record = dict.fromkeys(["format", "sha256", "file_name"], "x") | dict.fromkeys(["width", "height", "bytes"], 1)
    del record[lost]
    with pytest.raises(JournalError, match=f"damaged.*{lost}"):
        recorded_image(record, index=0, folder=PurePath("out"))
