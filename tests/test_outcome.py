from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import attrs
import pytest

from imagen_async.exceptions import Attempt, FailureClass, FilteredError, StoreError
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.request import ImageRequest

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = Image(
    index=0, format="png", width=2, height=3, size=5, sha256="ab", data=b"bytes", details={"revised_prompt": "a fox"}
)
ATTEMPT = Attempt(number=1, at=1.0, elapsed_s=2.0, failure=FailureClass.AMBIGUOUS, error="cut off")


@pytest.mark.parametrize("status", Status)
def test_an_outcome_is_ok_if_its_job_succeeded_now_or_before(status: Status) -> None:
    outcome = Outcome(request=ImageRequest("a fox"), status=status)
    assert outcome.ok is (status in {Status.SUCCEEDED, Status.SKIPPED})


def test_an_outcome_can_be_pickled() -> None:
    outcome = Outcome(
        request=ImageRequest("a fox", extra={"seed": 7}),
        status=Status.FILTERED,
        images=(IMAGE,),
        error=FilteredError("none", status=200, request_id="r"),
        attempts=(ATTEMPT,),
        notes=("odd",),
    )
    twin = pickle.loads(pickle.dumps(outcome))  # noqa: S301 - our own bytes
    assert attrs.evolve(twin, error=None) == attrs.evolve(outcome, error=None)
    assert str(twin.error) == str(outcome.error)


def test_an_image_shows_its_facts_and_not_its_bytes() -> None:
    assert "bytes" not in repr(IMAGE)
    assert "width=2" in repr(IMAGE)


def test_an_image_in_memory_is_read_and_saved_under_any_name(tmp_path: Path) -> None:
    assert IMAGE.read() == b"bytes"
    file = IMAGE.save(str(tmp_path / "new" / "folders" / "fox.jpg"))
    assert file == tmp_path / "new" / "folders" / "fox.jpg"
    assert file.read_bytes() == b"bytes"


def test_an_image_in_a_file_is_read_and_saved_again(tmp_path: Path) -> None:
    (tmp_path / "kept.png").write_bytes(b"bytes")
    image = attrs.evolve(IMAGE, data=None, path=str(tmp_path / "kept.png"))
    assert image.read() == b"bytes"
    assert image.save(tmp_path / "copy.png").read_bytes() == b"bytes"
    assert image.save(tmp_path / "kept.png").read_bytes() == b"bytes"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.png", "kept.png"]


def test_a_saved_image_replaces_the_file_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_text("an older fox")
    assert IMAGE.save(tmp_path / "fox.png").read_bytes() == b"bytes"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (None, "image 0 is kept neither in memory nor in a file; read it from its store"),
        ("s3://foxes/0.png", "s3://foxes/0.png cannot be read: "),
        ("\x1b\0", "cannot be read: "),
    ],
)
def test_an_image_of_another_store_says_that_it_cannot_be_read(path: str | None, problem: str, tmp_path: Path) -> None:
    image = attrs.evolve(IMAGE, data=None, path=path)
    for attempt in (image.read, lambda: image.save(tmp_path / "fox.png")):
        with pytest.raises(StoreError, match=problem) as caught:
            attempt()
        assert caught.value.path == path
        assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "file/fox.png", "folder", "\0"])
def test_an_image_that_cannot_be_saved_is_a_store_error_and_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        IMAGE.save(name)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "folder"]


def test_outcomes_images_and_attempts_are_values() -> None:
    for value in (IMAGE, ATTEMPT, Outcome(request=ImageRequest("a"), status=Status.FAILED)):
        assert hash(value) == hash(attrs.evolve(value))
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.notes = ()  # type: ignore[union-attr,misc] # the point of the test


def test_the_values_in_journals_and_metadata_do_not_change() -> None:
    assert [str(status) for status in Status] == ["succeeded", "partial", "filtered", "failed", "in_doubt", "skipped"]
    assert [str(failure) for failure in FailureClass] == ["never_sent", "refused", "ambiguous", "rejected", "fatal"]
