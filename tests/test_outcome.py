from __future__ import annotations

import pickle

import attrs
import pytest

from imagen_async.exceptions import Attempt, FailureClass, FilteredError
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.request import ImageRequest

IMAGE = Image(
    index=0, format="png", width=2, height=3, size=5, sha256="ab", data=b"bytes", details={"revised_prompt": "a fox"}
)
ATTEMPT = Attempt(number=1, at=1.0, elapsed_s=2.0, failure=FailureClass.AMBIGUOUS, error="cut off")


@pytest.mark.parametrize("status", Status)
def test_only_what_succeeded_now_or_before_leaves_nothing_to_do(status: Status) -> None:
    outcome = Outcome(request=ImageRequest("a fox"), status=status)
    assert outcome.ok is (status in {Status.SUCCEEDED, Status.SKIPPED})


def test_an_outcome_comes_through_a_pickle() -> None:
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


def test_outcomes_images_and_attempts_are_values() -> None:
    for value in (IMAGE, ATTEMPT, Outcome(request=ImageRequest("a"), status=Status.FAILED)):
        assert hash(value) == hash(attrs.evolve(value))
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.notes = ()  # type: ignore[union-attr,misc] # the point of the test


def test_the_words_that_journals_and_metadata_hold_do_not_change() -> None:
    assert [str(status) for status in Status] == ["succeeded", "partial", "filtered", "failed", "in_doubt", "skipped"]
    assert [str(failure) for failure in FailureClass] == ["never_sent", "refused", "ambiguous", "rejected", "fatal"]
