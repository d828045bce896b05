from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs
import pytest

from imagen_async import events
from imagen_async.events import Event, Listeners, Paused, Throttled
from tests.clients import client_of, outcomes_of

if TYPE_CHECKING:
    from imagen_async.sandbox.pytest_plugin import SandboxFactory
    from tests.clock import FakeClock

PAUSED = Paused(at=1.0, seconds=2.0)


def test_a_callback_that_raises_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []

    def fail(_: Event) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, logger="imagen_async"):
        Listeners([fail, heard.append]).tell(PAUSED)
    assert heard == [PAUSED]
    assert "a callback failed on Paused" in caplog.text


@pytest.mark.parametrize("name", [name for name in events.__all__ if name != "Listeners"])
def test_events_are_frozen_values_with_a_time(name: str) -> None:
    kind = getattr(events, name)
    assert issubclass(kind, Event)
    assert "at" in {field.name for field in attrs.fields(kind)}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        PAUSED.at = 3.0  # type: ignore[misc] # the point of the test


async def test_callbacks_receive_pauses_and_lowered_limits(
    imagen_sandbox_factory: SandboxFactory, clock: FakeClock
) -> None:
    gateway = await imagen_sandbox_factory(rpm=5, retry_after=30.0)
    heard: list[Event] = []
    async with client_of(gateway, clock, callbacks=[heard.append], max_concurrency=4) as client:
        gateway_takes = [outcome.ok for outcome in await outcomes_of(client, (f"fox {n}" for n in range(5)))]
        before = len(heard)
        refused = [type(outcome.error).__name__ for outcome in await outcomes_of(client, ["one too many"])]
    assert gateway_takes == [True] * 5
    assert not any(isinstance(event, Paused | Throttled) for event in heard[:before])
    paused = [event for event in heard if isinstance(event, Paused)]
    assert paused[0].seconds == pytest.approx(30.0)
    assert any(isinstance(event, Throttled) for event in heard)
    # The sandbox's minute is real and the client's is not, so the client retries until its time is over.
    assert refused == ["RateLimitError"]
