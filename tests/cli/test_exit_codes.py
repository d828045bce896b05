from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagen_async import exceptions
from imagen_async.cli.exit_codes import Exit, after_error

if TYPE_CHECKING:
    from imagen_async.exceptions import ImagenError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.ConfigurationError("x"), Exit.USAGE),
        (exceptions.InvalidInputError("x", [], 1), Exit.USAGE),
        (exceptions.InvalidRequestError(["x"]), Exit.USAGE),
        (exceptions.MissingExtraError("x", "cli"), Exit.USAGE),
        (exceptions.AuthenticationError("x", status=401), Exit.STOPPED),
        (exceptions.PermissionDeniedError("x", status=403), Exit.STOPPED),
        (exceptions.ModelNotFoundError("x", status=503), Exit.STOPPED),
        (exceptions.LimitReachedError("x"), Exit.STOPPED),
        (exceptions.StoreError("x"), Exit.STOPPED),
        (exceptions.JournalError("x"), Exit.STOPPED),
        (exceptions.JournalLockedError("x"), Exit.STOPPED),
        (exceptions.RejectedError("x", status=400), Exit.INCOMPLETE),
        (exceptions.ConnectError("x"), Exit.INCOMPLETE),
        (exceptions.ProtocolError("json", "x"), Exit.INCOMPLETE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_the_status_that_the_table_promises(error: ImagenError, expected: Exit) -> None:
    assert after_error(error) is expected


def test_any_error_that_stops_a_run_after_a_request_is_an_early_stop() -> None:
    for error in (exceptions.InvalidInputError("x", [], 1), exceptions.StoreError("x"), exceptions.ConnectError("x")):
        assert after_error(error, sent=True) is Exit.STOPPED
