"""Foreign text is plain text wherever it appears: on the terminal, in logs and in every file that a run writes."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from imagen_async.batch.plan import Plan
from imagen_async.catalog import CATALOG
from imagen_async.cli.console import error_text
from imagen_async.cli.figures import Figures
from imagen_async.cli.live import LiveDisplay
from imagen_async.cli.models import remote_text
from imagen_async.cli.summary import Ending, Reasons, plan_text, run_text
from imagen_async.events import Listeners, Paused
from imagen_async.exceptions import ImagenError, ProtocolError
from imagen_async.wire.decoder import Decoder
from imagen_async.wire.errors import gateway_error
from tests.batch.running import lines
from tests.canary_answers import good
from tests.cli.test_display import Clock, at_full_pace, drawn, progress
from tests.servers import Asked, answer, reply, serving_apart

if TYPE_CHECKING:
    import asyncio

    from imagen_async.batch import Summary
    from tests.cli.conftest import Invoke

ACTIVE = [
    "\x1b[31m",
    "\x1b[2J\x1b[H",
    "\x1b]8;;https://evil.example\x1b\\here\x1b]8;;\x1b\\",
    "\x1b]0;title\x07",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1bP1$r\x1b\\",
    "\x9b31m",
    "\x90evil\x9c",
    "\r",
    "\n",
    "\r\n",
    "\v",
    "\f",
    "\x85",
    "\u2028",
    "\u2029",
    "\b\b\b",
    "\x7f",
    "\0",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u200b",
    "\ufeff",
    "\U000e0041",
    "\ud800",
    "\udcff",
    "[red]",
    "[/]",
    "[link=https://evil.example]here[/link]",
    "\\[bold]",
    ":smile:",
    "{0} %s %n",
]
hostile = st.lists(st.sampled_from(ACTIVE) | st.text(max_size=8), max_size=8).map("".join)


def inert(text: str) -> bool:
    """Return whether a text has no effect on a terminal besides new lines."""
    return all(line.isprintable() for line in text.split("\n"))


# -- text from the gateway --------------------------------------------------------------------------------------------


@given(st.sampled_from([400, 401, 403, 404, 429, 500, 502, 503, 307]), hostile, hostile, hostile)
def test_an_error_from_the_gateway_is_one_line_of_printable_text(
    status: int, message: str, code: str, request_id: str
) -> None:
    fields = {"message": message, "code": code, "type": code, "param": message}
    for document in ({"error": fields}, {"error": message}, {"detail": [{"loc": [code], "msg": message}]}):
        body = json.dumps(document).encode()
        error = gateway_error(status, {"x-request-id": request_id}, body, now=0)
        assert str(error).isprintable()
        assert all(value.isprintable() for value in vars(error).values() if isinstance(value, str))
    assert str(gateway_error(status, {}, message.encode("utf-8", "surrogatepass"), now=0)).isprintable()


@given(hostile)
def test_a_problem_in_a_good_response_is_described_in_printable_text(text: str) -> None:
    bodies = [
        {"error": text},
        {"error": {"message": text}},
        {"data": text},
        {"data": [{"b64_json": text}]},
        {"data": [{"url": text}]},
    ]
    for body in (*(json.dumps(body).encode() for body in bodies), text.encode("utf-8", "surrogatepass")):
        decoder = Decoder()
        try:
            decoder.feed(body)
            parsed = decoder.close()
        except ProtocolError as error:
            assert str(error).isprintable()
        else:
            assert all(str(item.fault).isprintable() for item in parsed.items)


@given(hostile)
def test_the_reasons_of_the_safety_filter_are_printable(text: str) -> None:
    decoder = Decoder()
    decoder.feed(json.dumps({"data": [{"raiFilteredReason": text}], "raiMediaFilteredReasons": [text]}).encode())
    assert all(reason.isprintable() for reason in decoder.close().reasons)


# -- output of a command ----------------------------------------------------------------------------------------------


def summary() -> Summary:
    from imagen_async.batch import Summary

    counts = dict.fromkeys(("succeeded", "partial", "filtered", "failed", "in_doubt", "skipped"), 1)
    return Summary(
        **counts,
        jobs=6,
        images=2,
        bytes=1,
        attempts=7,
        cost_usd=1.0,
        elapsed_s=1.0,
        invalid=1,
        doubts=1,
        doubtful_usd=1.0,
    )


@given(hostile, hostile)
def test_the_summary_of_a_run_is_lines_of_printable_text(text: str, folder: str) -> None:
    reasons = Reasons()
    assert reasons.note(ImagenError(text)).isprintable()
    said = run_text(summary(), output=Path(folder), ending=Ending(error=ImagenError(text)), reasons=reasons)
    assert inert(said)
    assert len(said.splitlines()) == len(said.split("\n"))


@given(hostile)
def test_errors_plans_and_models_are_shown_in_lines_of_printable_text(text: str) -> None:
    assert error_text(ImagenError(text)).isprintable()
    assert inert(plan_text(Plan(rows=1, jobs=1, images=1, cost_usd=None, seconds=None, notes={text: 1})))
    assert remote_text([text, "x"], CATALOG).count("\n") == 1
    assert inert(remote_text([text, "x"], CATALOG))


@given(hostile)
def test_the_live_display_interprets_no_markup_and_no_control_characters(text: str) -> None:
    display = LiveDisplay(Figures(progress(), at_full_pace, Clock()), Console(file=io.StringIO(), width=400))
    display.trouble(text)
    display.note(text)
    shown = drawn(display)
    assert inert(shown)
    for markup in ("[red]", "[/]", "[link=https://evil.example]", ":smile:"):
        assert shown.count(markup) >= (2 if markup in text[:250] and len(text) < 250 and text.isprintable() else 0)


# -- end to end -------------------------------------------------------------------------------------------------------

EVERYTHING = "|".join(ACTIVE)
SENDABLE = EVERYTHING.encode("utf-8", "ignore").decode()
FORMULAS = [
    "=1+1",
    '=cmd|" /C calc"!A0',
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "<script>alert(1)</script>",
    "</script>",
    "<!--",
]
# What rich itself writes in the live display: colours, cursor up, erase line, cursor on and off.
OURS = re.compile(r"\x1b\[(?:[0-9;]*[mAK]|\?25[lh])")


def forged(status: int) -> bytes:
    """A response with hostile text in every field."""
    fields = dict.fromkeys(("message", "code", "type", "param"), EVERYTHING)
    header = "x-request-id: \x9b31m[red]\u202e\r\n".encode()
    body = json.dumps({"error": fields}).encode()
    return reply(body, status=status).replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n", 1)


@pytest.fixture
def key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    request.getfixturevalue("invoke")  # which removes the key from the environment
    monkeypatch.setenv("IMAGEN_API_KEY", "sk-" + "i9" * 24)


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("mode", ["plain", "live", "off"])
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_no_response_controls_the_terminal(
    invoke: Invoke, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    row = {"prompt": SENDABLE, "id": SENDABLE, SENDABLE: SENDABLE, "model": "\x1b]0;[red]m"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with serving_apart(answer(forged(status), close=True)) as server:
        where = ("--base-url", server.base_url, "--on-ambiguous", "fail")
        ran = invoke("run", "rows.jsonl", "-o", "o\u202eut", "--progress", mode, *where)
        single = invoke("generate", SENDABLE.replace("\0", ""), "--base-url", server.base_url)
        models = invoke("models", "--remote", "--base-url", server.base_url)
    stated = invoke("status", "o\u202eut")
    for each in (ran, single, models, stated):
        assert inert(OURS.sub("", each.err.replace("\r", "")) if mode == "live" else each.err)
        assert inert(each.out)
    assert len(server.asked) >= 3
    assert all("\n" not in record.getMessage() for record in caplog.records if record.name.startswith("imagen"))


@pytest.mark.usefixtures("key")
def test_model_ids_from_the_gateway_cannot_control_the_terminal(invoke: Invoke) -> None:
    listed = json.dumps({"object": "list", "data": [{"id": EVERYTHING}, {"id": "plain"}]}).encode()
    with serving_apart(answer(reply(listed), close=True)) as server:
        ran = invoke("models", "--remote", "--base-url", server.base_url)
        as_json = invoke("models", "--remote", "--json", "--base-url", server.base_url)
    assert ran.status == as_json.status == 0
    assert inert(ran.out)
    assert len(ran.out.split("\n")) == 3
    assert inert(as_json.out)
    assert as_json.json["models"][0]["id"] == EVERYTHING


@pytest.mark.parametrize("name", ["\x1b[31mrows.csv", "\u202egnp.jsonl", "a\nb.txt", "[red]rows[bold].jsonl"])
def test_names_of_files_and_columns_cannot_control_the_terminal(invoke: Invoke, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("prompt,n,\x1b]0;mine\x07\n\x1b[2J,\x1b[31m9,x\n", newline="")
    for command in (
        ("run", name, "-o", "out", "--sandbox"),
        ("run", name, "-o", "out", "--dry-run"),
        ("run", name, "-o", f"{name}/out", "--sandbox", "--sandbox-tiny", "--skip-invalid"),
        ("status", name),
        ("generate", "a fox", "-o", f"{name}/x.png", "--sandbox"),
        ("run", "nothing.txt", "-o", "out", "--catalog", name),
        ("models", "--api-key-file", name, "--remote"),
    ):
        ran = invoke(*command)
        assert inert(ran.err)
        assert inert(ran.out)


@pytest.mark.parametrize("bad", [text for text in (*ACTIVE, *FORMULAS) if "\0" not in text])
def test_quoted_arguments_cannot_control_the_terminal(invoke: Invoke, bad: str) -> None:
    for command in (("run", "x.txt", "-o", "out", "--rpm", bad), (f"x{bad}",), ("generate", "x", "--style", f"s{bad}")):
        ran = invoke(*command)
        assert ran.status == 2
        assert inert(ran.err)


def test_a_callback_that_fails_on_hostile_text_is_one_message_of_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> None:
        raise RuntimeError(EVERYTHING)

    Listeners([fail]).tell(Paused(at=0.0, seconds=1.0))
    (record,) = caplog.records
    assert record.getMessage().isprintable()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_with_another_encoding_stops_no_paid_run(tmp_path: Path, encoding: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEN_")}
    environment["PYTHONIOENCODING"] = encoding
    command = [
        sys.executable,
        "-m",
        "imagen_async",
        "generate",
        "a fox",
        "-o",
        "狐狸.png",
        "--sandbox",
        "--sandbox-tiny",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0
    assert done.stdout.decode(encoding).strip() in {"狐狸.png", r"\u72d0\u72f8.png"}
    assert (tmp_path / "狐狸.png").exists()


# -- the files of a run -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("key")
def test_a_run_writes_json_and_images_and_its_journal_and_nothing_that_a_spreadsheet_or_a_browser_would_run(
    invoke: Invoke, tmp_path: Path
) -> None:
    """Fails when a run writes another kind of file: add here how formulas and markup are made inert in it."""
    rows = [{"prompt": text, "id": text, "note": text, text: text} for text in FORMULAS]
    rows += [{"prompt": f"fail {text}"} for text in FORMULAS] + [{"prompt": ""}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    good_response = json.loads(good())
    good_response["data"][0]["revised_prompt"] = FORMULAS[-1]

    async def respond(asked: Asked, writer: asyncio.StreamWriter) -> None:
        refused = str(asked.json["prompt"]).startswith("fail")
        body = json.dumps({"error": {"message": "=1+1 <script>", "code": "@x"}} if refused else good_response).encode()
        writer.write(reply(body, status=400 if refused else 200))
        await writer.drain()

    with serving_apart(respond) as server:
        ran = invoke("run", "rows.jsonl", "-o", "out", "--skip-invalid", "--base-url", server.base_url)
    assert ran.status == 1
    output = tmp_path / "out"
    suffixes = {path.suffix for path in output.rglob("*") if path.is_file()}
    assert suffixes == {".jsonl", ".png", ".sqlite"}
    for name in ("metadata.jsonl", "errors.jsonl", "invalid.jsonl"):
        for raw in (output / name).read_text("utf-8").splitlines():
            # No line, and no cell if it is read as CSV, begins with what a spreadsheet takes for a formula.
            assert raw.startswith('{"')
            assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in next(csv.reader([raw])))
    assert {line["prompt"] for line in lines(output / "metadata.jsonl")} == set(FORMULAS)
    assert len(lines(output / "errors.jsonl")) == len(FORMULAS)


@given(hostile)
def test_a_line_of_our_files_is_one_line_for_every_reader_and_nothing_to_a_terminal(text: str) -> None:
    from imagen_async.batch.journal import json_line

    line = json_line({"prompt": text, text: [text, {text: text}]})
    assert len(line.splitlines()) == 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", line)
