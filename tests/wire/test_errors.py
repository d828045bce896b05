from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import (
    AuthenticationError,
    ConnectError,
    DisconnectedError,
    EndpointNotFoundError,
    FailureClass,
    GatewayError,
    ImagenError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectedError,
    RejectedError,
    StoreError,
    TimeoutExceededError,
)
from imagen_async.wire.errors import failure_class, gateway_error
from imagen_async.wire.response import request_id
from tests.strategies import plain_json


def error_for(status: int, document: Any = None, headers: dict[str, str] | None = None) -> GatewayError | ProtocolError:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return gateway_error(status, headers or {}, body, now=0)


def made(status: int, document: Any = None, headers: dict[str, str] | None = None) -> GatewayError:
    error = error_for(status, document, headers)
    assert isinstance(error, GatewayError)
    return error


@pytest.mark.parametrize(
    ("status", "kind", "means"),
    [
        (400, RejectedError, FailureClass.REJECTED),
        (404, RejectedError, FailureClass.REJECTED),
        (413, RejectedError, FailureClass.REJECTED),
        (422, RejectedError, FailureClass.REJECTED),
        (409, RejectedError, FailureClass.REJECTED),
        (302, RedirectedError, FailureClass.FATAL),
        (204, ProtocolError, FailureClass.AMBIGUOUS),
        (401, AuthenticationError, FailureClass.FATAL),
        (402, PermissionDeniedError, FailureClass.FATAL),
        (403, PermissionDeniedError, FailureClass.FATAL),
        (429, RateLimitError, FailureClass.REFUSED),
        (408, OverloadedError, FailureClass.AMBIGUOUS),
        (500, OverloadedError, FailureClass.AMBIGUOUS),
        (502, OverloadedError, FailureClass.AMBIGUOUS),
        (503, OverloadedError, FailureClass.AMBIGUOUS),
        (504, OverloadedError, FailureClass.AMBIGUOUS),
        (524, OverloadedError, FailureClass.AMBIGUOUS),
    ],
)
def test_the_status_decides_the_class(status: int, kind: type[ImagenError], means: FailureClass) -> None:
    error = error_for(status, {"error": {"message": "看起来很糟", "code": "x"}})
    assert type(error) is kind
    assert failure_class(error) is means


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("body", [{"error": {"message": "Invalid URL"}}, b"<html><h1>Not Found</h1></html>", b""])
def test_without_a_success_a_404_or_405_means_a_wrong_url(status: int, body: Any) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = gateway_error(status, {}, raw, now=0, unproven_url="https://gateway.example/images/generations")
    assert type(error) is EndpointNotFoundError
    assert failure_class(error) is FailureClass.FATAL
    assert "no POST at https://gateway.example/images/generations: check the base URL" in error.message


def test_no_such_model_does_not_mean_a_wrong_url() -> None:
    body = b'{"error":{"code":"model_not_found"}}'
    assert type(gateway_error(404, {}, body, now=0, unproven_url="https://gateway.example")) is ModelNotFoundError


def test_other_statuses_do_not_mean_a_wrong_url() -> None:
    assert type(gateway_error(400, {}, b"", now=0, unproven_url="https://gateway.example")) is RejectedError


def test_a_503_with_retry_after_is_a_refusal() -> None:
    assert failure_class(made(503, {}, {"Retry-After": "3"})) is FailureClass.REFUSED


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_an_unknown_model_is_fatal_with_any_status(status: int) -> None:
    error = made(status, {"error": {"message": "无可用渠道", "code": "model_not_found"}})
    assert type(error) is ModelNotFoundError
    assert failure_class(error) is FailureClass.FATAL


def test_a_used_up_quota_is_fatal_even_with_status_429() -> None:
    assert type(made(429, {"error": {"code": "insufficient_quota"}})) is PermissionDeniedError


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "m", "type": "t", "param": None, "code": ""}}, "m"),
        ({"error": "text"}, "text"),
        ({"message": "m"}, "m"),
        ({"msg": "m"}, "m"),
        ({"err": "m"}, "m"),
        ({"error_msg": "m"}, "m"),
        ({"detail": "d"}, "d"),
        ({"detail": [{"loc": ["body", "n"], "msg": "too big"}, "x"]}, "body.n: too big; x"),
        ({"error": {"message": json.dumps({"error": {"message": "inner", "code": 7}})}}, "inner"),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        (b"", "the gateway responded with status 502 and no message"),
        (b"\xff\xfe", "��"),
    ],
)
def test_every_shape_of_body_gives_its_message(body: Any, message: str) -> None:
    assert made(502, body).message == message


@pytest.mark.parametrize("loc", [5, None, "body", {"a": 1}, True, [["body"], 7]])
def test_the_location_of_a_problem_may_have_any_type(loc: Any) -> None:
    assert made(422, {"detail": [{"loc": loc, "msg": "too big"}]}).message.endswith("too big")


def test_a_message_is_bounded_however_many_complaints_there_are() -> None:
    assert len(made(422, {"detail": ["no"] * 20_000}).message) <= 500


def test_a_page_of_angle_brackets_takes_linear_time() -> None:
    # Where each of them was followed to the end of the page, this took minutes.
    assert made(502, b"<" * 2**20).message.startswith("<<<")


def test_an_error_nested_to_any_depth_is_a_typed_error() -> None:
    for depth in range(900, 1100):
        nested = "[" * depth + "]" * depth
        for body in ('{"detail":%s}', '{"detail":[{"msg":%s}]}', '{"detail":[{"loc":[%s]}]}', '{"message":%s}'):
            assert made(500, (body % nested).encode()).message


def test_fields_are_kept_whatever_their_type() -> None:
    error = made(400, {"error": {"message": "m", "type": "t", "param": "n", "code": 42}})
    assert (error.kind, error.param, error.code) == ("t", "n", "42")


def test_googles_error_gives_its_status_and_delay() -> None:
    details = [{"retryDelay": "11.8s"}]
    error = made(429, {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": details}})
    assert (error.kind, error.code, error.retry_after) == ("RESOURCE_EXHAUSTED", "429", 11.8)


@pytest.mark.parametrize("name", ["x-request-id", "X-Oneapi-Request-Id", "x-litellm-call-id"])
def test_the_request_id_is_read_from_any_of_its_headers(name: str) -> None:
    assert request_id({name: "abc"}) == "abc"
    assert made(500, {}, {name: "abc"}).request_id == "abc"


def test_the_request_id_is_read_from_the_end_of_the_message() -> None:
    assert made(500, {"error": {"message": "bad (request id: 2026x)"}}).request_id == "2026x"


def test_what_a_server_writes_is_inert() -> None:
    error = made(
        400, {"error": {"message": "\x1b]8;;http://x\x07\r\nINFO ok", "code": "\x1b[2J"}}, {"x-request-id": "\x1b[1m"}
    )
    assert str(error).isprintable()


@given(
    st.integers(100, 999).filter(lambda status: status != 200),
    st.dictionaries(st.sampled_from(["Retry-After", "retry-after-ms", "x-should-retry", "x-request-id"]), st.text()),
    st.binary(max_size=200) | plain_json().map(lambda v: json.dumps(v).encode()),
)
def test_any_response_is_a_typed_error_with_a_failure_class(status: int, headers: dict[str, str], body: bytes) -> None:
    error = gateway_error(status, headers, body, now=0)
    assert failure_class(error) is not None
    assert str(error).isprintable()


@given(plain_json(), st.sampled_from(["error", "detail", "message", "msg"]))
def test_any_json_in_any_place_is_a_typed_error(value: Any, key: str) -> None:
    assert made(500, {key: value}).message
    assert made(500, {"error": {key: value, "code": value}}).message


def test_transport_failures_are_classed_by_what_left() -> None:
    assert failure_class(ConnectError("x")) is FailureClass.NEVER_SENT
    assert failure_class(DisconnectedError("x", sent=True)) is FailureClass.AMBIGUOUS
    assert failure_class(TimeoutExceededError("read", 1, sent=True)) is FailureClass.AMBIGUOUS
    assert failure_class(ProtocolError("json", "x")) is FailureClass.AMBIGUOUS
    assert failure_class(StoreError("x")) is None
