from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from imagen_async.stores.names import safe_name, shard

DATASETS_SPLITS = re.compile(
    r"(?:^|[-._ 0-9])(?:train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?:[-._ 0-9]|$)"
)
"""The patterns of `datasets.data_files.DEFAULT_PATTERNS_SPLIT_IN_FILENAME` and `…_IN_DIR_NAME`, as one."""

surrogates = st.characters(categories=["Cs"])
lookalikes = st.sampled_from("aA\u00e5A\u030aKk\u212a\ufb01fi\u00dfSs\u1e9e\u0130i\u0131.-_~ \x00/\\:01\u00b9")
ids = (
    st.text()
    | st.text(st.characters() | surrogates)
    | st.text(lookalikes, max_size=8)
    | st.text("abAB01-_~", max_size=70)
    | st.sampled_from(["train", "Val", "con", "CON", "lpt9", "com¹"])
)


def folded(name: str) -> set[str]:
    return {unicodedata.normalize(form, name.casefold()) for form in ("NFC", "NFD", "NFKC", "NFKD")}


@given(ids, ids)
@example("a", "A")
@example("é", "e\u0301")
@example("\ud83d\ude00", "😀")
@example("ﬁ", "fi")
@example("\ud800", "\udfff")
@example("\ud800", "?")
@example("", "id")
@example("con", "CON")
def test_two_ids_never_share_a_name_on_any_file_system(one: str, other: str) -> None:
    assume(one != other)
    assert folded(safe_name(one)).isdisjoint(folded(safe_name(other)))


@given(ids, ids, st.integers(0, 20), st.integers(0, 20))
@example("a-0", "a", 1, 0)
@example("a", "a-0", 10, 1)
def test_the_index_keeps_names_apart(one: str, other: str, i: int, j: int) -> None:
    assume((one, i) != (other, j))
    assert f"{safe_name(one)}-{i}" != f"{safe_name(other)}-{j}"


@given(ids)
@example("x" * 300)
@example("../x")
@example("a" * 39 + "ß" * 300)
def test_a_name_fits_any_file_system(id_: str) -> None:
    name = safe_name(id_)
    assert re.fullmatch(r"[a-z0-9][a-z0-9_~-]*", name)
    assert len(f"{name}-{2**63}~{2**31}.webp") <= 120


@given(ids)
def test_a_shard_is_two_hex_digits(id_: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{2}", shard(id_))


@pytest.mark.parametrize("id_", ["a", "red-fox_7", "0", "latest", "x" * 64, "trainer", "a-contest"])
def test_a_plain_id_is_its_own_name(id_: str) -> None:
    assert safe_name(id_) == id_


@pytest.mark.parametrize(
    "id_",
    [
        "",
        "A",
        "a\n",
        "../x",
        "con",
        "nul",
        "com0",
        "lpt9",
        "a\0b",
        "a.",
        "a ",
        "-a",
        "_a",
        "x" * 65,
        "é",
        "\ud800",
        "a~b",
    ],
)
def test_any_other_id_gets_a_hash(id_: str) -> None:
    assert re.fullmatch(r"[a-z0-9_-]+~[0-9a-f]{32}", safe_name(id_))


@pytest.mark.parametrize("id_", ["CON", "Nul", "AUX", "com1", "LPT0"])
def test_a_windows_device_is_never_a_name(id_: str) -> None:
    assert safe_name(id_) != id_.lower()
    assert safe_name(id_).startswith(f"{id_.lower()}~")


def test_a_long_id_keeps_a_readable_beginning() -> None:
    assert safe_name("A Red Fox, jumping over the lazy dog and far away").startswith(
        "a-red-fox-jumping-over-the-lazy-dog-and~"
    )


words = st.sampled_from(
    ["train", "Training", "validation", "valid", "dev", "VAL", "test", "testing", "eval", "evaluation"]
)
around = st.text("-_. 0123~/a", max_size=4)


@given(st.tuples(around, words, around).map("".join), st.integers(0, 9999))
@example("train", 0)
@example("a-test_1", 0)
@example("my dev", 3)
@example("x" * 34 + "-trainer", 0)
def test_no_name_makes_a_loader_infer_a_split(id_: str, index: int) -> None:
    for path in (f"{safe_name(id_)}-{index}.png", f"{safe_name(id_)}-{index}~2.png", shard(id_)):
        assert not DATASETS_SPLITS.search(path)


@pytest.mark.peers
def test_the_words_for_splits_are_those_of_datasets() -> None:
    data_files = pytest.importorskip("datasets.data_files")
    for keywords in data_files.SPLIT_KEYWORDS.values():
        for keyword in keywords:
            assert safe_name(keyword).startswith("id~")
    assert set(data_files.NON_WORDS_CHARS).isdisjoint("abcdefghijklmnopqrstuvwxyz~")
