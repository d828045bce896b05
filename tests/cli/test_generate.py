from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from imagen_async import ImagenClient
from imagen_async.cli.generate import _interruption
from imagen_async.sandbox import read_stamp, running_sandbox
from tests.cli.child import child, ran_raw

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Invoke

SANDBOX = ("--sandbox", "--sandbox-tiny")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


PNG, JPEG, WEBP = b"\x89PNG", b"\xff\xd8\xff", b"RIFF"


def test_an_image_lands_in_the_current_folder_under_a_readable_name(invoke: Invoke, tmp_path: Path) -> None:
    ran = invoke("generate", "A red fox, at dawn", *SANDBOX)
    assert (ran.status, ran.out, ran.err) == (0, "a-red-fox-at-dawn.png\n", "")
    data = (tmp_path / "a-red-fox-at-dawn.png").read_bytes()
    assert data.startswith(PNG)
    assert read_stamp(data)["prompt"] == "A red fox, at dawn"


def test_nothing_is_overwritten(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_bytes(b"mine")
    assert invoke("generate", "fox", *SANDBOX).out == "fox~2.png\n"
    assert (tmp_path / "fox.png").read_bytes() == b"mine"


def test_several_images_are_numbered_a_path_a_line(invoke: Invoke, tmp_path: Path) -> None:
    ran = invoke("generate", "fox", "-n", "3", "-o", "new/foxes/", *SANDBOX)
    assert ran.out.splitlines() == [f"new/foxes/fox-{number}.png" for number in (1, 2, 3)]
    assert sorted(names(tmp_path / "new" / "foxes")) == ["fox-1.png", "fox-2.png", "fox-3.png"]


def test_a_named_file_is_written_and_its_extension_asks_for_the_format(invoke: Invoke, tmp_path: Path) -> None:
    ran = invoke("generate", "A red fox", "-o", "deep/my fox.jpg", *SANDBOX)
    assert (ran.status, ran.out, ran.err) == (0, "deep/my fox.jpg\n", "")
    assert (tmp_path / "deep" / "my fox.jpg").read_bytes().startswith(JPEG)


def test_the_extension_follows_the_bytes_and_that_is_reported(invoke: Invoke, tmp_path: Path) -> None:
    ran = invoke("generate", "A red fox", "-o", "fox.png", *SANDBOX, "--sandbox-fault", "webp=1")
    assert (ran.status, ran.out) == (0, "fox.webp\n")
    assert "note: the image is a WEBP, so its name ends in .webp, not .png" in ran.err
    assert (tmp_path / "fox.webp").read_bytes().startswith(WEBP)
    assert not (tmp_path / "fox.png").exists()


def test_an_existing_file_is_refused_before_anything_is_sent(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_bytes(b"mine")
    ran = invoke("generate", "A red fox", "-o", "fox.png", *SANDBOX, "--sandbox-ledger", "ledger.jsonl")
    assert ran.status == 2
    assert "fox.png already exists" in ran.err
    assert (tmp_path / "fox.png").read_bytes() == b"mine"
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_hyphen_writes_the_bytes_and_nothing_else_to_stdout(tmp_path: Path) -> None:
    done = ran_raw("generate", "A red fox", "-o", "-", *SANDBOX, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(PNG)
    assert done.stdout.endswith(b"IEND\xaeB`\x82")
    assert names(tmp_path) == []


def test_a_hyphen_takes_one_image(invoke: Invoke) -> None:
    ran = invoke("generate", "fox", "-o", "-", "-n", "2", *SANDBOX)
    assert (ran.status, ran.out) == (2, "")


def test_image_bytes_are_not_written_to_a_terminal(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    ran = invoke("generate", "fox", "-o", "-", *SANDBOX)
    assert (ran.status, ran.out) == (2, "")
    assert "terminal" in ran.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-n", "5"), "n must be 1 to 4"),
        (("--aspect-ratio", "2:1"), "aspect_ratio '2:1'"),
        (("--style", "sketch"), "style is not supported by"),
        (("-o", "file/fox.png"), "cannot be made"),
    ],
)
def test_a_mistake_costs_nothing_and_leaves_nothing(
    invoke: Invoke, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "file").touch()
    ran = invoke("generate", "fox", *options, *SANDBOX, "--sandbox-ledger", "ledger.jsonl")
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err
    assert names(tmp_path) == ["file"]


def test_a_prompt_may_begin_with_a_hyphen_after_a_double_hyphen(invoke: Invoke) -> None:
    assert invoke("generate", *SANDBOX, "--", "-fox").out == "fox.png\n"


def test_an_unknown_model_is_noted(invoke: Invoke) -> None:
    ran = invoke("generate", "fox", "--model", "imagen-9", *SANDBOX)
    assert ran.status == 3
    assert "imagen-9" in ran.err


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        ("400-blocked", 1, "HTTP 400"),
        ("filtered", 1, "safety filter"),
        ("401", 3, "HTTP 401"),
    ],
)
def test_an_error_is_one_line_without_a_traceback(invoke: Invoke, fault: str, status: int, message: str) -> None:
    ran = invoke("generate", "fox\x1b[2J", *SANDBOX, "--sandbox-fault", f"{fault}=1")
    assert (ran.status, ran.out) == (status, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert ran.err.strip().isprintable()


def test_fewer_images_than_asked_are_status_one_and_reported(invoke: Invoke) -> None:
    ran = invoke("generate", "fox", "-n", "4", *SANDBOX, "--sandbox-fault", "short=1")
    assert ran.status == 1
    assert 1 <= len(ran.out.splitlines()) <= 3
    assert "of 4 images: the safety filter removed the rest" in ran.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_and_warns_of_a_bill(tmp_path: Path, number: signal.Signals, status: int) -> None:
    arrived = threading.Event()

    async def work_forever(_: float) -> None:
        arrived.set()
        await asyncio.Event().wait()

    with running_sandbox(latency=1.0, sleep=work_forever, images="tiny") as gateway:
        (tmp_path / "key").write_text(gateway.api_key)
        where = ("--base-url", gateway.base_url, "--api-key-file", "key")
        with child("generate", "fox", *where, folder=tmp_path) as process:
            arrived.wait()
            process.send_signal(number)
            _, err = process.communicate()
            assert process.returncode == status
    assert "it may have been billed" in err
    assert names(tmp_path) == ["key"]


def test_a_received_image_is_written_despite_a_signal(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ImagenClient.close

    async def close(self: ImagenClient) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            await real(self)

    with monkeypatch.context() as slow:
        slow.setattr(ImagenClient, "close", close)
        ran = invoke("generate", "A red fox", *SANDBOX)
    assert (ran.status, ran.out, ran.err) == (0, "a-red-fox.png\n", "")
    assert names(tmp_path) == ["a-red-fox.png"]


async def test_the_third_signal_exits_immediately_with_the_status_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)

    async def stubborn() -> None:
        interruption = _interruption()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            interruption.arrived(number)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()

    await asyncio.create_task(stubborn())
    assert left == [143]
