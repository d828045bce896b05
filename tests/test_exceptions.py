from __future__ import annotations

import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import imagen_async
from imagen_async import exceptions
from imagen_async.exceptions import (
    Attempt,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    DisconnectedError,
    EndpointNotFoundError,
    FailureClass,
    FilteredError,
    GatewayError,
    ImagenError,
    InvalidInputError,
    InvalidRequestError,
    JournalError,
    JournalLockedError,
    LimitReachedError,
    MissingExtraError,
    ModelNotFoundError,
    OutageError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectedError,
    RejectedError,
    StoreError,
    TimeoutExceededError,
    TransportError,
    UsageError,
    printable,
)

ATTEMPT = Attempt(number=1, at=1.5, elapsed_s=0.5, failure=FailureClass.REFUSED, error="busy", request_id="r-1")

ERRORS: list[ImagenError] = [
    ImagenError("something"),
    UsageError("something"),
    InvalidRequestError(["n must be 1 to 4, not 7", "prompt is empty"]),
    InvalidInputError("prompts.csv", [(3, ("prompt is empty",)), (9, ("n is odd", "style is not text"))], total=40),
    ConfigurationError("no key"),
    MissingExtraError("the sandbox", "sandbox"),
    TransportError("broken", sent=True),
    ConnectError("refused"),
    DisconnectedError("cut", sent=True),
    DisconnectedError("cut", sent=True, offset=7),
    TimeoutExceededError("read", 300.0, sent=True),
    *(
        kind(
            "no",
            status=418,
            code="c",
            kind="k",
            param="n",
            request_id="r",
            retry_after=1.5,
            should_retry=False,
            support_codes=("1",),
        )
        for kind in (
            GatewayError,
            RejectedError,
            EndpointNotFoundError,
            AuthenticationError,
            PermissionDeniedError,
            ModelNotFoundError,
            RedirectedError,
            RateLimitError,
            OverloadedError,
            FilteredError,
        )
    ),
    ProtocolError("base64", "a foreign character", offset=17, item=2, request_id="r"),
    StoreError("disk full", path="out/x.png"),
    JournalError("cannot be read"),
    JournalLockedError("in use"),
    LimitReachedError("5 images"),
    OutageError("no answer"),
]


def test_the_samples_are_of_every_class() -> None:
    kinds = {getattr(exceptions, name) for name in exceptions.__all__ if name.endswith("Error")}
    assert {type(error) for error in ERRORS} == kinds


def name_of(error: ImagenError) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", ERRORS, ids=name_of)
def test_an_error_can_be_pickled_with_its_message_and_facts(error: ImagenError) -> None:
    error = copy.copy(error)
    error.attempts = (ATTEMPT,)
    error.add_note("seen at noon")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
        assert type(twin) is type(error)
        assert (str(twin), twin.args, vars(twin)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("error", ERRORS, ids=name_of)
def test_a_copy_of_an_error_has_attempts_of_its_own(error: ImagenError) -> None:
    twin = copy.copy(error)
    twin.attempts = (ATTEMPT,)
    assert str(twin) == str(error)
    assert error.attempts == ()


@pytest.mark.parametrize("error", ERRORS, ids=name_of)
def test_one_except_clause_is_enough_for_every_error(error: ImagenError) -> None:
    assert isinstance(error, imagen_async.ImagenError)
    assert name_of(error) in imagen_async.__all__


@pytest.mark.parametrize("error", ERRORS, ids=name_of)
def test_the_message_is_the_error_without_its_facts(error: ImagenError) -> None:
    assert error.message
    assert error.message in str(error)


def test_the_tree_in_the_module_s_docstring_is_the_tree() -> None:
    rows = re.findall(r"^    ([│ ├└─]*)(\w+Error)\b", str(exceptions.__doc__), re.MULTILINE)
    above: list[type] = []
    for indent, name in rows:
        kind = getattr(exceptions, name)
        del above[len(indent) // 4 :]
        if above:
            assert kind.__bases__[0] is above[-1]
        above.append(kind)
    assert {name for _, name in rows} == {name for name in exceptions.__all__ if name.endswith("Error")}


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InvalidRequestError(["x"]), ValueError),
        (MissingExtraError("Parquet", "parquet"), ImportError),
        (ConnectError("refused"), ConnectionError),
        (TimeoutExceededError("read", 300.0, sent=True), TimeoutError),
    ],
    ids=type,
)
def test_an_error_is_also_the_built_in_one_that_callers_know(error: ImagenError, builtin: type[Exception]) -> None:
    assert isinstance(error, builtin)
    assert isinstance(pickle.loads(pickle.dumps(error)), builtin)  # noqa: S301 - our own bytes


def test_only_errors_of_connecting_and_waiting_are_os_errors() -> None:
    assert {type(error) for error in ERRORS if isinstance(error, OSError)} == {ConnectError, TimeoutExceededError}


def test_a_missing_extra_says_how_to_install_it() -> None:
    assert "pip install 'imagen-async[parquet]'" in str(MissingExtraError("Parquet", "parquet"))


def test_no_connection_means_nothing_was_sent() -> None:
    assert ConnectError("refused").sent is False


def test_an_invalid_request_names_every_problem() -> None:
    assert str(InvalidRequestError(["a", "b"])) == "invalid request: a; b"


def test_an_invalid_input_names_its_first_rows_and_counts_the_others() -> None:
    text = str(InvalidInputError("in.csv", [(2, ("a", "b")), (5, ("c",))], total=7))
    assert text.splitlines() == [
        "in.csv: 7 rows are invalid, nothing was sent for them",
        "  line 2: a; b",
        "  line 5: c",
        "  … and 5 more",
    ]
    assert "more" not in str(InvalidInputError("in.csv", [(2, ("a",))], total=1))


def test_a_gateway_error_shows_the_facts_it_has_and_no_others() -> None:
    assert str(RejectedError("no", status=400)) == "no (HTTP 400)"
    full = RejectedError("no", status=400, code="7", kind="bad", param="n", request_id="r-9")
    assert str(full) == "no (HTTP 400, code 7, type bad, param n, request id r-9)"


def test_a_protocol_error_shows_check_item_and_byte() -> None:
    assert str(ProtocolError("base64", "odd", offset=0, item=0)) == "base64: odd in item 0 at byte 0"
    assert str(ProtocolError("json", "odd")) == "json: odd"


def test_a_transport_error_shows_the_byte_of_a_response_that_has_begun() -> None:
    assert str(DisconnectedError("cut", sent=True)) == "cut"
    assert str(DisconnectedError("cut", sent=True, offset=0)) == "cut, at byte 0 of the response"
    assert str(TimeoutExceededError("read", 1, sent=True, offset=9)).endswith("expired, at byte 9 of the response")


@pytest.mark.parametrize("phase", ["connect", "read", "total"])
def test_a_timeout_error_names_the_timeout_and_its_seconds(phase: str) -> None:
    error = TimeoutExceededError(phase, 0.5, sent=False)
    assert f"the {phase} timeout of 0.5 s" in str(error)
    assert (error.phase, error.seconds, error.sent) == (phase, 0.5, False)


@given(st.text(st.characters() | st.sampled_from("\x1b\r\n\u202e\ud800\u2066\x7f\x9b\u200b"), max_size=600))
def test_printable_text_contains_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    if text.isprintable() and len(text) <= 500:
        assert shown == text


@given(st.text(st.characters(categories=["L", "N"]), min_size=11, max_size=30))
def test_printable_text_is_cut_at_its_limit(text: str) -> None:
    assert printable(text, 10) == text[:9] + "…"
