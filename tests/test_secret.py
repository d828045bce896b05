from __future__ import annotations

import copy
import pickle
import pprint
import traceback

import pytest

from imagen_async.secret import Secret

KEY = "sk-" + "q7" * 24


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(KEY)),
        f"{Secret(KEY)!r}",
        "%r" % Secret(KEY),  # noqa: UP031 - the old way shows values as well
        repr({"Authorization": Secret("Bearer " + KEY)}),
        repr([(Secret(KEY),)]),
        pprint.pformat({"headers": {"Authorization": Secret(KEY)}}),
        ascii(Secret(KEY)),
    ],
)
def test_a_secret_is_masked_wherever_values_are_shown(shown: str) -> None:
    assert KEY not in shown
    assert "***" in shown


def test_a_traceback_with_locals_does_not_show_it() -> None:
    key = Secret(KEY)
    headers = {"Authorization": Secret("Bearer " + key)}
    shown = ""
    try:
        headers.clear(7)  # type: ignore[call-arg] # fails, and that is its use here
    except TypeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "headers" in shown
    assert "key = '***'" in shown
    assert KEY not in shown
    assert headers


def test_a_secret_is_the_text_that_it_is_made_of() -> None:
    assert Secret(KEY) == KEY
    assert hash(Secret(KEY)) == hash(KEY)
    assert str(Secret(KEY)) == f"{Secret(KEY)}" == KEY
    assert not Secret("")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps({"key": Secret(KEY)}, protocol)


def test_a_secret_is_not_copied_into_something_that_shows_it() -> None:
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(KEY))
