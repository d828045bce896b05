"""Loaders that are not ours take the output folder as it is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import ImageRequest
from imagen_async.batch import Row
from imagen_async.sandbox import read_stamp
from tests.batch.running import FOX, OWL, WHALE, metadata, run

if TYPE_CHECKING:
    from imagen_async.sandbox.pytest_plugin import SandboxFactory

pytestmark = pytest.mark.peers


def row(request: ImageRequest, line: int, mood: str, other: str) -> Row:
    """A row with columns that loaders give a meaning of their own."""
    carried = {"mood": mood, "split": other, "file_name": other, "image": other, "source_file_name": other}
    return Row(request, line, {**carried, "label": other, "deep": {"name": other}})


ROWS = [
    row(ImageRequest(FOX, n=6, id="test"), 1, "calm", "train"),
    row(ImageRequest(OWL, id="train/validation"), 2, "=1+1", ""),
    row(ImageRequest(WHALE, output_format="jpeg"), 3, "a\nb", "../../x"),
    row(ImageRequest("blocked"), 4, "", "test"),
]


@pytest.fixture
async def folder(imagen_sandbox_factory: SandboxFactory, tmp_path: Path) -> Path:
    """A folder of PNG and JPEG files, with a failure, made in two runs."""
    gateway = await imagen_sandbox_factory(faults={"504": 0.3}, seed=3)
    out = tmp_path / "out"
    await run(gateway, ROWS[:2], out, asking={"attempts": 30})
    await run(gateway, ROWS[:3], out, asking={"attempts": 30})
    blocking = await imagen_sandbox_factory(faults={"400-blocked": 1.0})
    await run(blocking, ROWS, out)
    assert (out / "errors.jsonl").exists()
    return out


def expected() -> list[tuple[str, int]]:
    return sorted([*((FOX, index) for index in range(6)), (OWL, 0), (WHALE, 0)])


def test_datasets_loads_it_as_an_imagefolder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets: Any = pytest.importorskip("datasets")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]  # no file of ours was taken for another split
    rows = loaded["train"].cast_column("image", datasets.Image(decode=False))
    assert sorted((row["prompt"], row["index"]) for row in rows) == expected()
    told = {line["sha256"]: line for line in metadata(folder)}
    for row in rows:
        assert row["file_name_of_row"] == row["image_of_row"] == row["source_file_name_of_row"] == row["label"]
        data = row["image"]["bytes"] or Path(row["image"]["path"]).read_bytes()
        assert read_stamp(data)["prompt"] == row["prompt"]
        assert len(data) == row["bytes"] == told[row["sha256"]]["bytes"]
    assert {row["mood"] for row in rows} == {"calm", "=1+1", "a\nb"}
    decoded = loaded["train"][0]
    assert decoded["image"].size == (decoded["width"], decoded["height"])


def test_duckdb_reads_the_metadata_and_the_errors(folder: Path) -> None:
    duckdb: Any = pytest.importorskip("duckdb")
    with duckdb.connect() as database:
        told = database.read_json(str(folder / "metadata.jsonl"))
        assert told.select("prompt", "index").order("ALL").fetchall() == expected()
        assert told.sum("bytes").fetchall() == [(sum(line["bytes"] for line in metadata(folder)),)]
        failed = database.read_json(str(folder / "errors.jsonl")).filter("status = 'failed'")
        assert failed.select("prompt").fetchall() == [("blocked",)]


def test_polars_reads_the_metadata(folder: Path) -> None:
    polars: Any = pytest.importorskip("polars")
    frame = polars.read_ndjson(folder / "metadata.jsonl")
    assert sorted(zip(frame["prompt"], frame["index"], strict=True)) == expected()
    assert sorted(set(frame["mood"])) == ["=1+1", "a\nb", "calm"]
    assert frame.schema["bytes"] == polars.Int64


def test_pillow_opens_every_file_under_its_ending(folder: Path) -> None:
    from PIL import Image

    for line in metadata(folder):
        with Image.open(io.BytesIO((folder / line["file_name"]).read_bytes())) as image:
            image.load()
            assert image.size == (line["width"], line["height"])
            ending = {"PNG": ".png", "JPEG": ".jpg"}[str(image.format)]
            assert line["file_name"].endswith(ending)
