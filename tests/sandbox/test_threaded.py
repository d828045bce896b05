"""The gateway in a thread, for code that is not asynchronous."""

from __future__ import annotations

import json
import threading
import urllib.request

import pytest

from imagen_async.exceptions import ConfigurationError
from imagen_async.sandbox import SandboxOptions, running_sandbox
from tests.sandbox.asking import BODY


def test_a_program_without_an_event_loop_can_send_requests() -> None:
    with running_sandbox(SandboxOptions(images="tiny"), seed=3) as gateway:
        assert gateway.options.seed == 3
        headers = {"Authorization": f"Bearer {gateway.api_key}", "Content-Type": "application/json"}
        url = gateway.base_url + "/images/generations"
        request = urllib.request.Request(url, json.dumps(BODY).encode(), headers)  # noqa: S310 - our own loopback URL
        with urllib.request.urlopen(request) as response:  # noqa: S310 - the sandbox's URL
            assert len(json.load(response)["data"]) == 1
    assert gateway.ledger.billed_images == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sandbox")]


def test_a_failure_to_start_reaches_the_caller() -> None:
    with (
        running_sandbox(images="tiny") as gateway,
        pytest.raises(ConfigurationError, match="cannot listen"),
        running_sandbox(port=int(gateway.base_url.split(":")[2].split("/")[0])),
    ):
        pytest.fail("the port is taken")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sandbox")]


def test_an_error_in_the_block_still_ends_the_thread() -> None:
    with pytest.raises(RuntimeError, match="mine"), running_sandbox(images="tiny"):
        raise RuntimeError("mine")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sandbox")]
