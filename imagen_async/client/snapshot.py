"""A snapshot of a client: what it holds at this moment, for debugging and for tests."""

from __future__ import annotations

import attrs

__all__ = ["ClientSnapshot"]


@attrs.frozen(kw_only=True)
class ClientSnapshot:
    """What a client holds. All zeros, and not probing: the client is idle.

    Attributes:
        in_flight: Requests in flight.
        waiting: Jobs that wait for a permit.
        shared_in_flight: Requests in flight of all clients of the key, where the pacer counts them.
        shared_waiting: Clients of the key with a job that waits for a permit.
        timers: Timers of the limiter.
        probing: Whether a probe is in flight to find out whether the gateway is back.
        reading: Bodies in the gate.
        backlog_bytes: Bytes of complete bodies that wait to be written.
        spilled_bytes: Bytes of images that their store has not accepted.
    """

    in_flight: int
    waiting: int
    shared_in_flight: int
    shared_waiting: int
    timers: int
    probing: bool
    reading: int
    backlog_bytes: int
    spilled_bytes: int
