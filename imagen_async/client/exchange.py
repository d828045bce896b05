"""One request and its answer: out over the transport, and in through a receiver to the store.

What was kept is noted on the job, also if the answer then breaks. It knows nothing of slots, retries and money.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from imagen_async._cancellation import unbroken
from imagen_async.exceptions import ProtocolError, StoreError, TransportError
from imagen_async.receiver.gate import Gate, Turn
from imagen_async.receiver.receiver import Caps, Receiver
from imagen_async.wire.errors import gateway_error, request_id
from imagen_async.wire.families.imagen import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagen_async.client.job import Job
    from imagen_async.receiver.spill import Spill
    from imagen_async.receiver.threads import WriterThreads
    from imagen_async.transport.transport import Response, Transport

__all__ = ["Exchange"]

_ERROR_BODY = 64 * 1024
"""Bytes of an error's body that are worth reading."""
_ERROR_SECONDS = 5.0
"""Seconds that they may take."""


class Exchange:
    """Sends requests over one transport and keeps what comes.

    Args:
        transport: Sends.
        writers: Threads for the heavy work.
        caps: What no answer may exceed.
        overflow: Room in memory for what a store does not take.
        max_reading: Most bodies that are read at once, slow ones aside.
        wall_clock: Gives seconds since the epoch.
    """

    def __init__(
        self,
        transport: Transport,
        writers: WriterThreads,
        *,
        caps: Caps,
        overflow: Spill,
        max_reading: int,
        wall_clock: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._writers = writers
        self._caps = caps
        self._overflow = overflow
        self._turns = Gate(max_reading, keepers=lambda: writers.count)
        self._wall_clock = wall_clock

    async def run(self, job: Job, *, on_trouble: Callable[[StoreError], object]) -> None:
        """Ask for the images that a job misses, and note on it what came.

        Args:
            job: The job.
            on_trouble: Called as soon as the store fails, while its images are still being tried to be kept.

        Raises:
            TransportError: The request could not be sent, or its answer was lost.
            GatewayError: The answer is an error.
            ProtocolError: The answer cannot be used, or not all of it.
            StoreError: An image cannot be kept.
        """
        headers = {"Idempotency-Key": job.ask.idempotency_key}
        async with self._transport.post(GENERATIONS, job.ask.body, headers) as answering:
            if answering.status != 200:  # noqa: PLR2004 - the contract's one good status
                # The body has no name here, which a traceback with locals would show: some gateways repeat the key.
                raise gateway_error(answering.status, answering.headers, await _head(answering), now=self._wall_clock())
            # A body that came with its headers is in memory already: there is nothing to take turns at.
            turn = self._turns.turn()
            if answering.here:
                await self._receive(job, answering, turn, on_trouble)
                return
            if self._turns.taken:
                # What waits has its headers only: a body that nobody reads costs a socket buffer, not an image.
                answering.hold()
            async with turn:
                await self._receive(job, answering, turn, on_trouble)

    async def _receive(
        self, job: Job, answering: Response, turn: Turn, on_trouble: Callable[[StoreError], object]
    ) -> None:
        def trouble(error: StoreError) -> None:
            turn.kept()  # what waits for a store that fails is counted elsewhere, and may wait for long
            on_trouble(error)

        receiver = Receiver(
            job.store,
            self._writers,
            job_id=job.image_id,
            indices=job.missing,
            wish=job.request.output_format,
            caps=self._caps,
            sha256=job.sha256,
            mask=answering.mask,
            overflow=self._overflow,
            on_trouble=trouble,
        )
        job.request_id = request_id(answering.headers)
        try:
            fault = await self._take(job, receiver, answering, turn)
        except (StoreError, asyncio.CancelledError):
            # What has arrived whole is paid for; so is what was just being kept of a body that broke.
            await unbroken(_salvage(job, receiver, patient=False))
            raise
        finally:
            turn.kept()
            await receiver.discard()
        if fault is not None:
            _judge(job, fault)

    async def _take(
        self, job: Job, receiver: Receiver, answering: Response, turn: Turn
    ) -> TransportError | ProtocolError | None:
        """Read an answer; of one that breaks keep what had arrived whole."""
        try:
            return await self._read(job, receiver, answering, turn)
        except (TransportError, ProtocolError) as error:
            await _salvage(job, receiver)
            return _explained(error, answering.packed)

    async def _read(
        self, job: Job, receiver: Receiver, answering: Response, turn: Turn
    ) -> TransportError | ProtocolError | None:
        def take(chunk: bytes | bytearray, size: int) -> bool:
            return receiver.take(chunk, size, together=turn.moved(size))

        while await answering.pump(take):
            turn.rest()
            await receiver.hand_over()
            turn.wait()
        await turn.hand_over(receiver.waiting)
        received = await receiver.close()
        job.created = received.answer.created
        job.reasons = tuple(dict.fromkeys((*job.reasons, *received.answer.reasons)))
        job.keep(received.images)
        return received.fault


async def _salvage(job: Job, receiver: Receiver, *, patient: bool = True) -> None:
    job.keep(await receiver.salvage(patient=patient))


async def _head(answering: Response) -> bytes:
    """Read as much of an error's body as comes in time: its headers may tell everybody to stay away."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_ERROR_SECONDS):
            return await answering.head(_ERROR_BODY)
    return b""


def _explained(error: TransportError | ProtocolError, packed: str | None) -> TransportError | ProtocolError:
    """Blame the header of a body that is no JSON because nobody has unpacked it."""
    if packed is None or not isinstance(error, ProtocolError) or error.check != "json":
        return error
    told = f"nothing here unpacks what the header Content-Encoding: {packed} names; {error.message}"
    return ProtocolError("content-encoding", told, offset=error.offset)


def _judge(job: Job, fault: TransportError | ProtocolError) -> None:
    """Raise a fault that cost an image, and note one that cost none.

    Raises:
        TransportError: Likewise.
        ProtocolError: Likewise.
    """
    if isinstance(fault, ProtocolError):
        fault.request_id = fault.request_id or job.request_id
    if job.missing:
        raise fault
    job.notes = (*job.notes, f"all images came, although the answer was broken: {fault}")
