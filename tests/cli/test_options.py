from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagen_async.catalog import CATALOG
from imagen_async.cli.options import (
    RequestOptions,
    read_catalog,
    read_key,
    refuse_option,
)
from imagen_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_hyphen_is_a_path_and_a_misspelled_option_is_not() -> None:
    refuse_option(str, "-")
    refuse_option(str, "out")
    with pytest.raises(ValueError, match="no such option"):
        refuse_option(str, "--json")


def test_only_the_fields_that_were_given_become_defaults() -> None:
    assert RequestOptions(n=2, style="sketch").given() == {"n": 2, "style": "sketch"}


def test_a_catalog_file_adds_models_and_corrects_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('["my-finetune-1.0"]\nprice_usd = 0.01\n["imagen-3.0-generate-002"]\nprice_usd = 0.03\n')
    catalog = read_catalog(path)
    assert catalog["my-finetune-1.0"].price_usd == 0.01
    assert catalog["imagen-3.0-generate-002"].price_usd == 0.03
    assert catalog["imagen-3.0-generate-002"].prompt_tokens == 480
    assert read_catalog(None) is CATALOG


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"not toml", "is not TOML"),
        (b"\xff = 1", "is not TOML"),
        (b"[imagen-3.0-fast]\nprice_usd = 1", "needs quotes"),
        (b"[mine]\ncolour = 1", "has no field 'colour'"),
        (b'[mine]\naspect_ratios = "square"', "mine"),
    ],
)
def test_an_invalid_catalog_file_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_catalog(path)
    assert "mine.toml" in caught.value.message


def test_a_missing_catalog_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_catalog(tmp_path / "none.toml")


def test_the_key_comes_from_the_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEN_API_KEY", "sk-environment")
    assert read_key(None) == "sk-environment"
    path = tmp_path / "key"
    path.write_text("  sk-file\n")
    assert read_key(path) == "sk-file"


def test_without_a_key_the_three_alternatives_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGEN_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=r"IMAGEN_API_KEY.*--api-key-file.*--sandbox"):
        read_key(None)


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "is empty"), (b" \n", "is empty"), (b"sk-\xff\xfe", "not allowed in a key")]
)
def test_a_key_file_without_a_key_is_reported_without_its_content(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_key(path)
    assert "sk-" not in caught.value.message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_missing_key_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_key(tmp_path / "none")
