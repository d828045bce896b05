"""The canary key in settings that do not fit, in stops of all kinds, in batches and on the command line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from imagen_async import Batch, ConfigurationError, ImagenClient, ImagenError, ImageRequest, RetryPolicy
from imagen_async.cli.app import launch
from imagen_async.cli.options import read_key
from tests.canary import CANARY, PASSWORD, Sightings, of_error, of_folder, of_value, watched
from tests.canary_answers import ANSWERS, good
from tests.clock import FakeClock, LoopClock, until
from tests.servers import Asked, Server, answer, reply, serving, serving_apart
from tests.spying import SpyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

GATEWAY = "https://gateway.example/v1"
PROXY = f"http://fox:{PASSWORD}@127.0.0.1:1"
ONCE = RetryPolicy(max_attempts=1, max_elapsed=1.0)


def client(key: str | None = CANARY, url: str | None = GATEWAY, **options: Any) -> ImagenClient:
    """A client with whatever else may hold a secret."""
    options = {"proxy": PROXY, "headers": {"X-Api-Key": CANARY}, **options}
    return ImagenClient(key, url, **options)


# -- settings ---------------------------------------------------------------------------------------------------------

BAD_SETTINGS: dict[str, Callable[[], object]] = {
    "a line end behind the key": lambda: client(CANARY + "\n"),
    "a line end and a header": lambda: client(CANARY + "\r\nX-Mine: 1"),
    "a space before the key": lambda: client(" " + CANARY),
    "two keys": lambda: client(f"{CANARY} {CANARY}"),
    "a NUL": lambda: client(CANARY + "\0"),
    "a letter that is not ASCII": lambda: client("ö" + CANARY),
    "a byte-order mark": lambda: client("\ufeff" + CANARY),
    "the key as URL": lambda: client(CANARY, CANARY),
    "key and URL in the wrong order": lambda: client(GATEWAY, CANARY),
    "the key as user": lambda: client(url=f"https://{CANARY}@gateway.example"),
    "the key as password": lambda: client(url=f"https://fox:{CANARY}@gateway.example"),
    "the key in the path": lambda: client(url=f"{GATEWAY}/{CANARY}/x"),
    "the key in the query": lambda: client(url=f"{GATEWAY}?key={CANARY}"),
    "the key in the fragment": lambda: client(url=f"{GATEWAY}#{CANARY}"),
    "half the key in the path": lambda: client(url=f"{GATEWAY}/{CANARY[9:30]}"),
    "the key as host, over http": lambda: client(url=f"http://{CANARY}/v1"),
    "the key and another scheme": lambda: client(url=f"ftp://gateway.example/{CANARY}"),
    "the key in what is no URL": lambda: client(url=f"https://[::1/{CANARY}"),
    "the key and a port that is none": lambda: client(url=f"https://gateway.example:99999/{CANARY}"),
    "a line end in a header": lambda: client(headers={"X-Api-Key": f"{CANARY}\n"}),
    "a line end in a header's name": lambda: client(headers={f"X-{CANARY}\n": "1"}),
    "a proxy that could read the key": lambda: client(
        url="http://localhost/v1", proxy=f"http://fox:{PASSWORD}@proxy.example"
    ),
    "the proxy's password alone": lambda: client(proxy=PASSWORD),
    "a proxy of another scheme": lambda: client(proxy=f"socks5://fox:{PASSWORD}@proxy.example"),
    "a proxy that is no URL": lambda: client(proxy=f"http://fox:{PASSWORD}@[::1"),
    "a proxy's port that is none": lambda: client(proxy=f"http://fox:{PASSWORD}@proxy.example:99999"),
    "no slots": lambda: client(max_concurrency=0),
    "no reading": lambda: client(max_reading=0),
    "no writers": lambda: client(writers=0),
    "a rate below nothing": lambda: client(rpm=-1),
    "no images a minute": lambda: client(images_per_minute=0),
    "text in the place of many": lambda: client().stream("a fox"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_setting_that_does_not_fit_is_refused_without_a_word_of_the_key(name: str) -> None:
    sightings = Sightings()
    with watched(sightings), pytest.raises(ConfigurationError) as caught:
        BAD_SETTINGS[name]()
    sightings.look_at_all(of_error(caught.value))
    assert sightings.seen == []


@pytest.mark.parametrize("name", ["IMAGEN_API_KEY", "IMAGEN_BASE_URL"])
def test_a_variable_that_does_not_fit_is_refused_without_a_word_of_the_key(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sightings = Sightings()
    monkeypatch.setenv("IMAGEN_API_KEY", CANARY)
    monkeypatch.setenv(name, CANARY + "\n")
    with watched(sightings), pytest.raises(ConfigurationError) as caught:
        client(None, None)
    sightings.look_at_all(of_error(caught.value))
    assert sightings.seen == []


async def test_a_request_that_does_not_fit_shows_no_key() -> None:
    sightings = Sightings()
    async with client() as asking:
        sightings.look_at_all(of_value(asking, "client"))
        for wrong in (
            asking.generate(""),
            asking.generate("a fox", n=9),
            asking.generate("a fox", colour="red"),  # type: ignore[call-arg] # the point of the test
            asking.generate(ImageRequest("a fox"), n=2),
        ):
            with watched(sightings), pytest.raises(ImagenError) as caught:
                await wrong
            sightings.look_at_all(of_error(caught.value))
    with pytest.raises(ConfigurationError) as caught:
        await asking.generate("a fox")
    sightings.look_at_all(of_error(caught.value))
    assert sightings.seen == []


KEY_FILES: dict[str, bytes] = {
    "two lines": f"{CANARY}\n{CANARY}\n".encode(),
    "a word behind it": f"{CANARY} # mine\n".encode(),
    "a letter that is not ASCII": f"{CANARY}ö".encode(),
    "a byte-order mark": f"\ufeff{CANARY}".encode(),
    "UTF-16": CANARY.encode("utf-16"),
    "a NUL": f"{CANARY}\0".encode(),
    "a vertical tab": f"{CANARY}\v{CANARY}".encode(),
    "quotes and a space": f'"{CANARY}" '.encode() * 2,
    "an assignment": f"export IMAGEN_API_KEY= {CANARY}\n".encode(),
    "only white space": b" \r\n\t\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", KEY_FILES)
def test_a_key_file_that_does_not_fit_is_refused_without_a_word_of_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY_FILES[name])
    sightings = Sightings()
    with watched(sightings), pytest.raises(ConfigurationError) as caught:
        ImagenClient(read_key(tmp_path / "key"), GATEWAY)
    sightings.look_at_all(of_error(caught.value))
    assert sightings.seen == []


@pytest.mark.parametrize("path", [".", "missing", f"{CANARY}", f"missing/{CANARY}", f"{CANARY}\0", CANARY * 100])
def test_a_key_file_that_cannot_be_read_may_be_the_key_itself(path: str) -> None:
    sightings = Sightings()
    with watched(sightings), pytest.raises(ConfigurationError) as caught:
        read_key(Path(path))
    sightings.look("error", f"{caught.value} {caught.value!r} {caught.value.__context__!r}")
    assert sightings.seen == []


@pytest.mark.parametrize("text", [f"{CANARY}", f"{CANARY}\n", f"{CANARY}\r\n", f"\n  {CANARY}\t\r\n"])
def test_white_space_around_a_key_in_a_file_is_no_part_of_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(text.encode())
    assert read_key(tmp_path / "key") == CANARY


# -- stops ------------------------------------------------------------------------------------------------------------

TOLD = f'{{"error": {{"message": "{CANARY}"'.encode()
STALLS: dict[str, bytes] = {
    "before the answer": b"",
    "in the status line": f"HTTP/1.1 401 {CANARY}".encode(),
    "in the headers": f"HTTP/1.1 200 OK\r\nX-Seen: {CANARY}\r\n".encode(),
    "before the body": reply(b"", length=1000, headers=f"x-request-id: {CANARY}\r\n"),
    "in the body": reply(TOLD, length=1000),
    "in an error's body": reply(TOLD, status=400, length=1000),
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + TOLD,
    "behind an image": reply(good(key=CANARY)[:-1], length=1000),
}


@asynccontextmanager
async def stalled(name: str, **options: Any) -> AsyncIterator[tuple[ImagenClient, Server]]:
    """A client whose answer does not go on."""
    said: list[Asked] = []

    async def stall(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STALLS[name])
        await writer.drain()
        said.append(asked)

    async with serving(stall) as server, ImagenClient(CANARY, server.base_url, retry=ONCE, **options) as asking:
        yield asking, server


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
@pytest.mark.parametrize("name", STALLS)
async def test_a_wait_that_is_cut_off_shows_no_key(name: str, how: str, loop_clock: LoopClock) -> None:
    sightings = Sightings()

    async def bounded(asking: ImagenClient) -> None:
        async with asyncio.timeout(1.0 if how == "timed out" else None):
            await asking.generate("a fox")

    with watched(sightings):
        async with stalled(name) as (asking, server):
            task = asyncio.ensure_future(bounded(asking))
            await until(lambda: server.asked)
            for _ in range(20):  # what has come is read
                await asyncio.sleep(0.001)
            if how == "cancelled":
                task.cancel()
            else:
                await loop_clock.jump(2.0)
            with pytest.raises((asyncio.CancelledError, TimeoutError)) as caught:
                await task
            sightings.look_at_all(of_error(caught.value))
            sightings.look_at_all(of_value(asking, "client"))
    assert sightings.seen == []


@pytest.mark.parametrize("name", STALLS)
async def test_a_time_out_of_ours_shows_no_key(name: str, loop_clock: LoopClock) -> None:
    sightings = Sightings()
    with watched(sightings):
        async with stalled(name) as (asking, server):
            task = asyncio.ensure_future(asking.generate("a fox"))
            await until(lambda: server.asked)
            while not task.done():
                await asyncio.sleep(0.001)
                await loop_clock.jump(6.0 if "error" in name else 310.0)
            try:
                sightings.look_at_all(of_value(await task, "outcome"))
            except ImagenError as error:
                sightings.look_at_all(of_error(error))
    assert sightings.looked_at > 3
    assert sightings.seen == []


@pytest.mark.parametrize("fails", ["open", "write", "commit"])
@pytest.mark.parametrize("where", ["revised_prompt", "seen"])
async def test_a_store_that_fails_on_an_answer_that_repeats_the_key_shows_none(
    fails: str, where: str, clock: FakeClock
) -> None:
    sightings = Sightings()
    said = good(**{where: CANARY, "created": 1})
    with watched(sightings):
        async with (
            serving(answer(reply(said))) as server,
            ImagenClient(CANARY, server.base_url, retry=ONCE, _runtime=clock.runtime()) as asking,
        ):
            with pytest.raises(ImagenError) as caught:
                await asking.generate("a fox", store=SpyStore(fails=fails))
            sightings.look_at_all(of_error(caught.value))
    assert sightings.seen == []


async def test_a_callback_that_fails_on_everything_logs_no_key(clock: FakeClock) -> None:
    sightings = Sightings()

    def fail(event: object) -> None:
        raise RuntimeError(f"cannot take {event!r} {vars(event) if hasattr(event, '__dict__') else ''}")

    with watched(sightings):
        for name in ("401, message, x-request-id", *list(ANSWERS)[::25]):
            said = ANSWERS.get(name, reply(TOLD + b'"}}', status=401))
            async with (
                serving(answer(said, close=True)) as server,
                ImagenClient(CANARY, server.base_url, retry=ONCE, callbacks=[fail], _runtime=clock.runtime()) as asking,
                asking.stream(["a fox"]) as outcomes,
            ):
                try:
                    sightings.look_at_all([told async for each in outcomes for told in of_value(each, "outcome")])
                except ImagenError as error:
                    sightings.look_at_all(of_error(error))
    assert sightings.looked_at > 100
    assert sightings.seen == []


@pytest.mark.parametrize("name", list(ANSWERS)[::11])
async def test_a_session_and_hooks_of_the_caller_s_change_nothing(name: str, clock: FakeClock) -> None:
    sightings, config = Sightings(), aiohttp.TraceConfig()

    async def note(_: object, __: object, params: Any) -> None:
        # The answer that a hook is given is the answer itself, and the caller's own business.
        sightings.look("hook", repr(getattr(params, "headers", None)) if not hasattr(params, "response") else "")

    config.on_request_start.append(note)
    config.on_request_end.append(note)
    config.on_request_exception.append(note)
    with watched(sightings):
        async with (
            serving(answer(ANSWERS[name], close=True)) as server,
            aiohttp.ClientSession(trace_configs=[config], raise_for_status=True) as session,
            ImagenClient(CANARY, server.base_url, session=session, retry=ONCE, _runtime=clock.runtime()) as asking,
        ):
            try:
                sightings.look_at_all(of_value(await asking.generate("a fox"), "outcome"))
            except ImagenError as error:
                sightings.look_at_all(of_error(error))
    assert sightings.seen == []


PROXY_ANSWERS = {
    "refused": reply(f"no: Basic {PASSWORD}".encode(), status=407, headers=f"Proxy-Authenticate: {PASSWORD}\r\n"),
    "broken": f"HTTP/1.1 {PASSWORD}\r\n\r\n".encode(),
    "forbidden": f"HTTP/1.1 403 not for {PASSWORD}\r\nx-request-id: {PASSWORD}\r\nContent-Length: 0\r\n\r\n".encode(),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", PROXY_ANSWERS)
async def test_a_proxy_s_password_is_a_secret_as_well(name: str, scheme: str, clock: FakeClock) -> None:
    sightings = Sightings()
    with watched(sightings):
        async with serving(answer(PROXY_ANSWERS[name], close=True)) as server:
            proxy = f"http://fox:{PASSWORD}@127.0.0.1:{server.port}"
            async with ImagenClient(
                CANARY,
                f"{scheme}://gateway.invalid",
                proxy=proxy,
                allow_http=True,
                retry=ONCE,
                _runtime=clock.runtime(),
            ) as asking:
                with pytest.raises(ImagenError) as caught:
                    await asking.generate("a fox")
                sightings.look_at_all(of_error(caught.value))
                sightings.look_at_all(of_value(asking._transport, "transport"))
        assert server.asked[0].headers["Proxy-Authorization"].startswith("Basic ")
        assert ("Authorization" in server.asked[0].headers) == (scheme == "http")
    assert sightings.seen == []


# -- batches ----------------------------------------------------------------------------------------------------------

GROUPS = 12


@pytest.mark.parametrize("group", range(GROUPS))
async def test_nothing_that_a_batch_writes_holds_the_key(group: int, tmp_path: Path) -> None:
    said = dict(list(ANSWERS.items())[group::GROUPS])
    sightings = Sightings()

    async def say(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(said.get(asked.json["prompt"], reply(good())))
        await writer.drain()
        writer.close()

    with watched(sightings, debug=False):
        async with serving(say) as server:
            for name in said:
                await run_batch(server.base_url, name, tmp_path / "out", sightings)
    sightings.look_at_all(of_folder(tmp_path))
    assert (tmp_path / "out" / "errors.jsonl").stat().st_size > 1000
    assert (tmp_path / "out" / "metadata.jsonl").exists()
    assert sightings.seen == []


async def run_batch(url: str, prompt: str, output: Path, sightings: Sightings) -> None:
    async with (
        ImagenClient(CANARY, url, retry=ONCE, _runtime=FakeClock().runtime(lambda: 0.5)) as asking,
        Batch(asking, ["a fox", prompt], output=output, fsync=False) as batch,
    ):
        try:
            async for outcome in batch:
                sightings.look_at_all(of_value(outcome, "outcome"))
        except ImagenError as error:
            sightings.look_at_all(of_error(error))
        sightings.look_at_all(of_value(batch, "batch"))
        sightings.look_at_all(of_value(batch.summary, "summary"))


# -- the command line -------------------------------------------------------------------------------------------------


COMMANDS: dict[str, tuple[str, ...]] = {
    "generate": ("generate", "a fox", "-o", "images/"),
    "run": ("run", "prompts.txt", "-o", "out", "--on-ambiguous", "fail", "--json"),
    "live": ("run", "prompts.txt", "-o", "live", "--on-ambiguous", "fail", "--progress", "live"),
    "models": ("models", "--remote"),
}
SHOWN = [name for name in ANSWERS if not name.startswith(("429", "408", "5", "no HTTP, an upgrade"))][::23]


@pytest.mark.parametrize("given", ["a file", "a variable"])
@pytest.mark.parametrize("name", SHOWN)
def test_no_command_shows_the_key(
    name: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    key, options = tmp_path.parent / f"{tmp_path.name}.key", []
    if given == "a file":
        key.write_text(f"{CANARY}\n")
        options = ["--api-key-file", str(key)]
    else:
        monkeypatch.setenv("IMAGEN_API_KEY", CANARY)
    (tmp_path / "prompts.txt").write_text("a fox\n")
    sightings = Sightings()
    with watched(sightings), serving_apart(answer(ANSWERS[name], close=True)) as server:
        for command in COMMANDS.values():
            status = launch([*command, "--base-url", server.base_url, *options])
            assert status in {0, 1, 3}
        launch(["status", "out"])
        launch(["status", "out", "--json"])
    assert server.asked[0].headers["Authorization"] == f"Bearer {CANARY}"
    out, err = capfd.readouterr()
    assert out + err
    sightings.look("stdout", out)
    sightings.look("stderr", err)
    sightings.look_at_all(of_folder(tmp_path))
    assert sightings.seen == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "prompts.txt", "-o", "out", "--api-key", CANARY),
        ("run", "prompts.txt", "-o", "out", f"--api-key={CANARY}"),
        ("run", "prompts.txt", "-o", "out", "--key", CANARY),
        ("run", "prompts.txt", "-o", "out", CANARY),
        ("run", "prompts.txt", "-o", "out", "--rpm", CANARY),
        ("run", "prompts.txt", "-o", "out", "--concurrency", CANARY),
        ("run", "prompts.txt", "-o", "out", "--progress", CANARY),
        ("run", "prompts.txt", "-o", "out", "--catalog", CANARY),
        ("run", "prompts.txt", "-o", "out", "--base-url", CANARY),
        ("run", "prompts.txt", "-o", "out", "--base-url", f"https://x:{CANARY}@gateway.example"),
        ("run", "prompts.txt", "-o", "out", "--api-key-file", CANARY),
        ("run", "prompts.txt", "-o", "out", "--sandbox", "--api-key-file", CANARY),
        ("run", "prompts.txt", "-o", "out", "--sandbox", "--base-url", CANARY),
        ("run", CANARY, "-o", "out"),
        ("status", CANARY),
        ("models", CANARY),
        ("generate", "a fox", "--style", CANARY),
        ("generate", "a fox", "-n", CANARY),
        (CANARY,),
        ("--api-key", CANARY, "models"),
    ],
)
def test_a_key_that_was_typed_in_the_place_of_something_else_is_not_repeated(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGEN_API_KEY", CANARY)
    (tmp_path / "prompts.txt").write_text("a fox\n")
    sightings = Sightings()
    with watched(sightings):
        assert launch(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    sightings.look("stderr", err)
    assert err.startswith("imagen-async: ")
    assert sightings.seen == []
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize("given", ["a file", "a variable"])
def test_no_process_list_shows_the_key(given: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{CANARY}\n")
    (tmp_path / "prompts.txt").write_text("a fox\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEN_")}
    options = ["--api-key-file", "key"] if given == "a file" else []
    environment = kept if given == "a file" else {**kept, "IMAGEN_API_KEY": CANARY}
    sightings = Sightings()
    with serving_apart(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n")) as server:
        command = [
            sys.executable,
            "-m",
            "imagen_async",
            "run",
            "prompts.txt",
            "-o",
            "out",
            "--base-url",
            server.base_url,
        ]
        with subprocess.Popen(  # noqa: S603 - our own program
            [*command, *options], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            while not server.asked and process.poll() is None:
                pass
            for place in Path("/proc").glob("[0-9]*"):
                sightings.look_at_all(of_process(place))
            process.kill()
            out, _ = process.communicate()
            sightings.look("output", out.decode())
    assert server.asked
    assert sightings.looked_at > 3
    assert sightings.seen == []


def of_process(place: Path) -> Iterator[tuple[str, str]]:
    """What anybody on the machine sees of a process and its threads."""
    for path in (place / "cmdline", place / "comm", *place.glob("task/*/comm")):
        try:
            yield str(path), path.read_bytes().decode("latin-1")
        except OSError:
            continue  # it has ended
