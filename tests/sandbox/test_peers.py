"""Third-party clients accept the sandbox: openai-python, and curl with the contract's own call."""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from imagen_async.sandbox import SandboxGateway, read_stamp, running_sandbox

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peers

MODEL = "imagen-3.0-generate-001"
PROMPT = "A cute baby sea otter"


@pytest.fixture
def openai() -> Any:
    return pytest.importorskip("openai")


def client(openai: Any, gateway: SandboxGateway, **options: Any) -> Any:
    options = {"api_key": gateway.api_key, "max_retries": 0, "timeout": 30, **options}
    return openai.OpenAI(base_url=gateway.base_url, **options)


@pytest.mark.parametrize("n", [1, 4])
def test_openai_generates_images(openai: Any, n: int) -> None:
    with running_sandbox() as gateway, client(openai, gateway) as peer:
        response = peer.images.generate(model=MODEL, prompt=PROMPT, n=n, response_format="b64_json")
    stamps = [read_stamp(base64.b64decode(item.b64_json, validate=True)) for item in response.data]
    assert [(stamp["prompt"], stamp["index"]) for stamp in stamps] == [(PROMPT, index) for index in range(n)]
    assert response.created > 1_700_000_000


def test_openai_passes_the_contracts_own_fields(openai: Any) -> None:
    with running_sandbox() as gateway, client(openai, gateway) as peer:
        fields = {"aspect_ratio": "16:9", "output_format": "jpeg"}
        response = peer.images.generate(model=MODEL, prompt=PROMPT, extra_body=fields)
    image = Image.open(io.BytesIO(base64.b64decode(response.data[0].b64_json)))
    assert (image.format, image.size) == ("JPEG", (1408, 768))


def test_openai_lists_models(openai: Any) -> None:
    with running_sandbox() as gateway, client(openai, gateway) as peer:
        assert MODEL in [model.id for model in peer.models.list()]


@pytest.mark.parametrize(
    ("error", "fields", "options"),
    [
        ("AuthenticationError", {}, {"api_key": "sk-wrong"}),
        ("BadRequestError", {"n": 9}, {}),
        ("NotFoundError", {"model": "imagen-9"}, {}),
    ],
)
def test_openai_reads_refusals_as_its_own_errors(openai: Any, error: str, fields: Any, options: Any) -> None:
    with (
        running_sandbox(images="tiny") as gateway,
        client(openai, gateway, **options) as peer,
        pytest.raises(getattr(openai, error)) as caught,
    ):
        peer.images.generate(**{"model": MODEL, "prompt": PROMPT, **fields})
    assert caught.value.request_id == gateway.ledger.entries[0].request_id
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("fault", "error"),
    [("429", "RateLimitError"), ("403", "PermissionDeniedError"), ("500", "InternalServerError")],
)
def test_openai_reads_faults_as_its_own_errors(openai: Any, fault: str, error: str) -> None:
    with (
        running_sandbox(images="tiny", faults={fault: 1.0}) as gateway,
        client(openai, gateway) as peer,
        pytest.raises(getattr(openai, error)),
    ):
        peer.images.generate(model=MODEL, prompt=PROMPT)


def test_openai_honours_our_retry_after(openai: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    slept: list[float] = []
    with (
        running_sandbox(images="tiny", faults={"429": 1.0}, faults_per_body=2, retry_after=7) as gateway,
        client(openai, gateway, max_retries=3) as peer,
    ):
        monkeypatch.setattr(time, "sleep", slept.append)
        peer.images.generate(model=MODEL, prompt=PROMPT)
    assert slept == [7, 7]
    assert [entry.status for entry in gateway.ledger] == [429, 429, 200]


def test_openai_raises_a_connection_error_when_the_connection_breaks(openai: Any) -> None:
    with (
        running_sandbox(images="tiny", faults={"disconnect": 1.0}) as gateway,
        client(openai, gateway) as peer,
        pytest.raises(openai.APIConnectionError),
    ):
        peer.images.generate(model=MODEL, prompt=PROMPT)


@pytest.mark.parametrize("tool", ["jq", "python"])
def test_curl_with_the_contracts_own_call_makes_an_image(tool: str, tmp_path: Path) -> None:
    for program in ("bash", "curl", "base64", "jq" if tool == "jq" else "python3"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    pick = {
        "jq": "jq -r '.data[0].b64_json' | base64 -d",
        "python": "python3 -c 'import base64, json, sys;"
        ' sys.stdout.buffer.write(base64.b64decode(json.load(sys.stdin)["data"][0]["b64_json"]))\'',
    }[tool]
    script = (
        'set -eo pipefail; curl --silent --show-error --fail "$IMAGEN_BASE_URL/images/generations"'
        ' -H "Content-Type: application/json" -H "Accept: application/json" -H "Authorization: Bearer $IMAGEN_API_KEY"'
        f' -d \'{{"model": "{MODEL}", "prompt": "{PROMPT}"}}\' | {pick} > otter.png'
    )
    with running_sandbox() as gateway:
        environment = {
            "PATH": os.environ["PATH"],
            "IMAGEN_BASE_URL": gateway.base_url,
            "IMAGEN_API_KEY": gateway.api_key,
        }
        subprocess.run(["bash", "-c", script], check=True, cwd=tmp_path, env=environment)  # noqa: S603, S607 - a fixed script
    with Image.open(tmp_path / "otter.png") as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (1024, 1024))
    assert read_stamp((tmp_path / "otter.png").read_bytes())["prompt"] == PROMPT
