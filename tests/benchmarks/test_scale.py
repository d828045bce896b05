"""The benchmark of a long batch: its gateway's responses, and the comparisons in its table."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale_run import Sample, Told
from benchmarks.scale_server import Conversation, answer, tiny_png
from benchmarks.scale_table import Command, Results, as_markdown, costs, growth, speeds
from imagen_async.wire.image import Inspector

REQUESTS = (
    b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n" + b"\r\n\r\nGET / HT",
    b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /v1/images/generations HTTP/1.1\r\ncontent-length:2\r\nHost: x\r\n\r\n{}",
    b"POST /v1/images/generations HTTP/1.1\r\nContent-Length: 300\r\n\r\n" + 300 * b"x",
)


class Wire(asyncio.WriteTransport):
    """Counts the responses."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert bytes(data) == b"canned"
        self.answers += 1


def sample(jobs: int, seconds: float, peak_rss: int) -> Sample:
    return Sample(
        jobs=jobs, seconds=seconds, cpu_seconds=seconds, peak_rss=peak_rss, descriptors=40, journal=700 * jobs
    )


def told(samples: list[Sample]) -> Told:
    return Told(
        statuses={"succeeded": 200}, first_s=1.0, seconds=21.0, cpu_seconds=10.0, peak_rss=60_000_000, samples=samples
    )


def test_the_response_holds_one_complete_image() -> None:
    head, _, body = answer().partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    [entry] = json.loads(body)["data"]
    image = b64decode(entry["b64_json"])
    assert image == tiny_png()
    inspector = Inspector()
    inspector.feed(image)
    facts = inspector.finish()
    assert (facts.format, facts.width, facts.height, facts.size) == ("png", 18, 18, len(image))


@given(st.lists(st.sampled_from(REQUESTS), max_size=6), st.data())
def test_each_request_is_answered_once_however_it_is_cut(requests: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    wire, conversation = Wire(), Conversation(b"canned")
    conversation.connection_made(wire)
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        conversation.data_received(stream[start:end])
    assert wire.answers == len(requests)


def test_the_first_and_the_last_tenth_are_compared() -> None:
    samples = [sample(10 * number, float(number), 50_000_000 + number) for number in range(1, 21)]
    samples[-1] = sample(200, 24.0, 50_000_000)
    assert growth(samples) == (50_000_002, 50_000_019)
    assert speeds(samples) == pytest.approx((10.0, 20 / 6))
    assert costs(samples) == pytest.approx((0.1, 6 / 20))


def test_few_samples_are_compared_one_by_one() -> None:
    samples = [sample(10, 1.0, 5), sample(20, 3.0, 7)]
    assert growth(samples) == (5, 7)
    assert speeds(samples) == pytest.approx((10.0, 5.0))
    assert speeds(samples[:1]) == pytest.approx((10.0, 10.0))


def test_the_table_has_a_line_for_each_figure_that_there_is() -> None:
    samples = [sample(10 * number, float(number), 50_000_000) for number in range(1, 21)]
    status = Command(seconds=0.5, peak_rss=40_000_000, said="{}")
    text = as_markdown(Results(rows=200, batch=told(samples), status=status))
    assert "| memory at any time | ≤ 150.0 MB | 60.0 MB |" in text
    assert "| jobs/s in the last 20 ÷ in the first | ≥ 0.9 | 1.00 (10 ÷ 10) |" in text
    assert "| `imagen-async status` | ≤ 2 s, ≤ 150.0 MB | 0.5 s, 40.0 MB |" in text
    assert "kill -9" not in text
    assert len(as_markdown(Results(rows=200)).splitlines()) == 2
