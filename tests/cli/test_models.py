from __future__ import annotations

from typing import TYPE_CHECKING

from imagen_async.catalog import ASPECT_RATIOS, CATALOG
from imagen_async.cli.models import remote_text
from imagen_async.sandbox import running_sandbox

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Invoke


def test_the_table_names_every_model_with_its_limits_sizes_and_price(invoke: Invoke) -> None:
    ran = invoke("models")
    assert (ran.status, ran.err) == (0, "")
    rows = {line.split()[0]: line for line in ran.out.splitlines() if line.split()}
    for model in CATALOG.values():
        assert str(model.prompt_tokens) in rows[model.id]
        assert f"{model.price_usd:.2f}" in rows[model.id]
    for ratio, (width, height) in ASPECT_RATIOS.items():
        assert rows[ratio].endswith(f"{width} × {height}")
    assert "watercolor" in ran.out


def test_the_table_is_also_json(invoke: Invoke) -> None:
    ran = invoke("models", "--json")
    assert [model["id"] for model in ran.json["models"]] == list(CATALOG)
    assert ran.json["models"][0]["aspect_ratios"]["16:9"] == [1408, 768]


def test_a_catalog_file_is_shown_with_question_marks_for_unknown_values(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('["\\u001b[31mmine"]\nmax_n = 2\n', encoding="utf-8")
    ran = invoke("models", "--catalog", "mine.toml")
    row = next(line for line in ran.out.splitlines() if "mine" in line)
    assert row.split() == [r"\x1b[31mmine", "?", "1–2", "?", "png,", "jpeg", "–"]


def test_asking_the_gateway_tests_the_key_and_costs_nothing(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_sandbox(models=("imagen-3.0-generate-001", "imagen-9"), images="tiny") as gateway:
        monkeypatch.setenv("IMAGEN_API_KEY", gateway.api_key)
        monkeypatch.setenv("IMAGEN_BASE_URL", gateway.base_url)
        ran = invoke("models", "--remote")
        assert ran.status == 0
        assert ran.out.splitlines() == [
            "imagen-3.0-generate-001",
            "imagen-9  (not in the catalog: limits unknown)",
        ]
        as_json = invoke("models", "--remote", "--json").json
        assert as_json == {
            "models": [{"id": "imagen-3.0-generate-001", "known": True}, {"id": "imagen-9", "known": False}]
        }
        monkeypatch.setenv("IMAGEN_API_KEY", "sk-" + "wrong000" * 6)
        ran = invoke("models", "--remote")
        assert (ran.status, ran.out) == (3, "")
        assert "HTTP 401" in ran.err
        assert "wrong000" not in ran.err
        assert gateway.requests == 0


def test_names_from_a_gateway_cannot_control_the_terminal() -> None:
    assert remote_text(["a\x1b[2J\nb"], CATALOG).isprintable()
