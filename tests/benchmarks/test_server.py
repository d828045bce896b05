from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks import server
from benchmarks.certificate import issued
from benchmarks.contenders import Task
from benchmarks.contenders.floor import opened
from benchmarks.picture import SMALLEST, png
from benchmarks.server import Gate, Gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

IMAGE = png(30_000)


@contextmanager
def served(gateway: Gateway) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=gateway.serve, args=(listener,), daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        serving.join()


def asked(url: str, prompts: list[str], out: Path, *, n: int = 1) -> int:
    async def ask() -> int:
        async with opened(Task(url=url, concurrency=1, n=n)) as run:
            return await run(prompts, out)

    return asyncio.run(ask())


def test_a_gate_opens_for_all_when_the_last_request_arrives() -> None:
    gate = Gate(3)
    with ThreadPoolExecutor(3) as threads:
        first = [threads.submit(gate.wait) for _ in range(2)]
        assert not any(each.done() for each in first)
        threads.submit(gate.wait).result()
        assert [each.result() for each in first] == [None, None]
    assert gate.held == 3
    gate.wait()


def test_a_gate_reports_that_it_opened_before_all_requests_arrived() -> None:
    gate = Gate(3, patience=0.0)
    gate.wait()
    assert gate.held == 1


def test_the_floor_writes_each_image_as_it_was_served(tmp_path: Path) -> None:
    with served(Gateway(image=IMAGE, n=2)) as url:
        assert asked(url, ["a", "b"], tmp_path, n=2) == 4
    assert [path.read_bytes() == IMAGE for path in tmp_path.iterdir()] == 4 * [True]


def test_a_large_response_arrives_complete(tmp_path: Path) -> None:
    image = png(1_500_000)
    with served(Gateway(image=image, n=2)) as url:
        asked(url, ["a"], tmp_path, n=2)
    assert [path.read_bytes() == image for path in tmp_path.iterdir()] == [True, True]


def test_the_first_responses_are_small_and_pass_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SMALL_LATENCY", 0.0)
    gateway = Gateway(image=IMAGE, n=1, hold=1, small=2)
    with served(gateway) as url:
        asked(url, ["a", "b", "c"], tmp_path)
    sizes = sorted(path.stat().st_size for path in tmp_path.iterdir())
    assert (sizes, gateway.gate.held) == ([SMALLEST, SMALLEST, len(IMAGE)], 1)


def test_contenders_learn_of_the_certificate_from_one_variable(tmp_path: Path) -> None:
    certificate = issued(tmp_path)
    assert certificate.settings == {"SSL_CERT_FILE": str(certificate.authority)}
    assert b"PRIVATE KEY" in certificate.server.read_bytes()
    assert b"PRIVATE KEY" not in certificate.authority.read_bytes()
