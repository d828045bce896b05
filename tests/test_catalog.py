from __future__ import annotations

import tomllib
from typing import Any

import attrs
import pytest

from imagen_async.catalog import ASPECT_RATIOS, CATALOG, DEFAULT_MODEL, OUTPUT_FORMATS, STYLES, Catalog, Model
from imagen_async.exceptions import ConfigurationError
from imagen_async.request import ImageRequest, check_request

FAST = "imagen-3.0-fast-generate-001"


def test_the_catalog_holds_the_six_documented_models() -> None:
    limits = {model.id: model.prompt_tokens for model in CATALOG.values()}
    assert limits == {
        "imagen-3.0-generate-001": 480,
        "imagen-3.0-generate-002": 480,
        "imagen-3.0-fast-generate-001": 480,
        "imagegeneration@002": 128,
        "imagegeneration@005": 128,
        "imagegeneration@006": 128,
    }
    assert DEFAULT_MODEL in CATALOG
    assert {model.id for model in CATALOG.values() if model.styles} == {"imagegeneration@002"}
    assert {model.id: model.price_usd for model in CATALOG.values() if model.price_usd != 0.04} == {FAST: 0.02}


def test_the_ratios_have_the_documented_sizes() -> None:
    assert dict(ASPECT_RATIOS) == {
        "1:1": (1024, 1024),
        "9:16": (768, 1408),
        "16:9": (1408, 768),
        "3:4": (896, 1280),
        "4:3": (1280, 896),
    }


def test_a_user_s_own_model_brings_its_own_limits() -> None:
    mine = CATALOG.extended(Model(id="my-finetune", prompt_tokens=2, max_n=8, price_usd=0.01))
    assert check_request(ImageRequest("a fox", model="my-finetune", n=8), mine).problems == ()
    problems = check_request(ImageRequest("a red fox", model="my-finetune", n=9), mine).problems
    assert len(problems) == 2
    assert "my-finetune" not in CATALOG
    assert len(CATALOG) == 6


def test_a_model_replaces_another_one_of_the_same_id() -> None:
    mine = CATALOG.extended(Model(id=DEFAULT_MODEL, prompt_tokens=1))
    assert mine[DEFAULT_MODEL].price_usd is None
    assert len(mine) == len(CATALOG)


def test_a_toml_file_extends_the_catalog() -> None:
    tables = tomllib.loads(
        """
        ["imagen-3.0-generate-002"]
        price_usd = 0.03

        ["wide-1"]
        prompt_tokens = 77
        max_n = 2
        output_formats = ["jpeg"]
        styles = ["sketch"]
        price_usd = 1
        aspect_ratios = { "21:9" = [2100, 900] }
        """
    )
    mine = CATALOG.extended_from(tables)
    assert mine["imagen-3.0-generate-002"] == attrs.evolve(CATALOG["imagen-3.0-generate-002"], price_usd=0.03)
    assert mine["wide-1"] == Model(
        id="wide-1",
        prompt_tokens=77,
        max_n=2,
        output_formats=("jpeg",),
        styles=("sketch",),
        price_usd=1,
        aspect_ratios={"21:9": (2100, 900)},
    )
    request = ImageRequest("a fox", model="wide-1", aspect_ratio="21:9", output_format="jpeg", style="sketch")
    assert request.validate(mine) == ()


@pytest.mark.parametrize(
    "table",
    [
        None,
        "480",
        ["prompt_tokens"],
        {"prompt_token": 480},
        {"id": "another"},
        {"prompt_tokens": "480"},
        {"prompt_tokens": 4.5},
        {"prompt_tokens": True},
        {"prompt_tokens": 0},
        {"max_n": None},
        {"max_n": "4"},
        {"max_n": 0},
        {"price_usd": "0.04"},
        {"price_usd": -1},
        {"price_usd": float("nan")},
        {"price_usd": float("inf")},
        {"styles": "sketch"},
        {"styles": [1]},
        {"styles": 7},
        {"output_formats": "png"},
        {"aspect_ratios": ["1:1"]},
        {"aspect_ratios": {"1:1": 1024}},
        {"aspect_ratios": {"1:1": [1024]}},
        {"aspect_ratios": {"1:1": ["wide", "high"]}},
    ],
)
def test_an_invalid_table_is_refused_by_its_name(table: Any) -> None:
    with pytest.raises(ConfigurationError, match="'my-model'"):
        CATALOG.extended_from({"my-model": table})


def test_a_model_and_its_tables_cannot_be_changed() -> None:
    model = CATALOG[DEFAULT_MODEL]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        model.max_n = 9  # type: ignore[misc] # the point of the test
    with pytest.raises(TypeError):
        model.aspect_ratios["2:1"] = (2, 1)  # type: ignore[index] # the point of the test
    with pytest.raises(TypeError):
        CATALOG["mine"] = model  # type: ignore[index] # the point of the test


def test_a_catalog_is_a_mapping_by_id() -> None:
    catalog = Catalog((Model(id="a"), Model(id="b")))
    assert list(catalog) == ["a", "b"]
    assert repr(catalog) == "Catalog(a, b)"
    assert catalog.get("c") is None
    assert catalog["a"].output_formats == OUTPUT_FORMATS
    assert set(STYLES) & set(catalog["a"].styles) == set()
