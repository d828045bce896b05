from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagen_async.exceptions import ProtocolError
from imagen_async.wire.skeleton import completed, read_begun, read_whole
from tests.profiles import times
from tests.strategies import plain_json
from tests.wire.oracles import begins


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A document with `data` somewhere in it, spelled in one of JSON's ways."""
    others = draw(st.dictionaries(st.text(max_size=4).filter(lambda key: key != "data"), plain_json(), max_size=3))
    pairs = draw(st.permutations([("data", draw(st.lists(plain_json(), max_size=3))), *others.items()]))
    return json.dumps(
        dict(pairs), indent=draw(st.sampled_from([None, 1])), ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (" , ", " : ")])),
    )  # fmt: skip


@given(documents(), st.integers(0, 2000))
@times(2)
@example('{"data":[1,-2.5e3,true,NaN]}', 10)
@example('{"data":[{"a":"\\u00e9\\"]"}]}', 18)
def test_a_document_cut_anywhere_is_completed_to_one_whose_data_is_its_beginning(text: str, place: int) -> None:
    part = json.loads(completed(text[: place % (len(text) + 1)]))
    assert begins(part, json.loads(text))


@given(documents())
def test_each_further_character_completes_to_as_much_or_more(text: str) -> None:
    parts = [json.loads(completed(text[:end])) for end in range(len(text) + 1)]
    assert all(begins(part, more) for part, more in pairwise(parts))
    assert parts[-1] == json.loads(text)


@given(st.text() | st.lists(st.sampled_from([*'{}[]",:\\ 1-.eu0', '"data"', "true", "NaN"])).map("".join))
@times(8)
@example("[" * 2000)
@example('{"a":' + "9" * 5000 + "}")
@example('{"a":"' + "\\u00e9" * 5000)
def test_any_text_is_completed_to_valid_json(text: str) -> None:
    made = completed(text)
    if len(text) < 2000:
        json.loads(made, strict=False)
    assert len(made) <= 2 * len(text) + len("null") + 1


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("", "null"),
        ("12 ", "12"),
        ("oops", "null"),
        ('{"data":[', '{"data":[]}'),
        ('{"data":[{"a":"x"},', '{"data":[{"a":"x"}]}'),
        ('{"data":[{"a":"x"}, {', '{"data":[{"a":"x"}, {}]}'),
        ('{"data":[{"a":"x","b', '{"data":[{"a":"x"}]}'),
        ('{"data":[{"a":"x","b"', '{"data":[{"a":"x","b":null}]}'),
        ('{"data":[{"a":"x","b":', '{"data":[{"a":"x","b":null}]}'),
        ('{"data":[{"a":"x","b":"y', '{"data":[{"a":"x","b":null}]}'),
        ('{"data":[{"a":"x","b":12', '{"data":[{"a":"x","b":null}]}'),
        ('{"data":[{"a":"x","b":1.', '{"data":[{"a":"x","b":null}]}'),
        ('{"data":[{"a":"x","b":tru', '{"data":[{"a":"x","b":null}]}'),
        ('{"data":["]}\\"[{', '{"data":[]}'),
        ('{"data":["]}\\"[{"', '{"data":["]}\\"[{"]}'),
        ('{"data":[1 ]} trailing', '{"data":[1 ]}'),
        ('{"data":[1 }]', '{"data":[1]}'),
        ('{"data":[1 ]]', '{"data":[1 ]}'),
        ('{"data":[1 , oops, 2 ]}', '{"data":[1]}'),
        ('{"data":["a\\q"]}', '{"data":[]}'),
        ('{"data":[,1]}', '{"data":[]}'),
        ('{"data" [1]}', '{"data":null}'),
    ],
)
def test_everything_before_the_cut_or_the_first_fault_is_kept(text: str, made: str) -> None:
    assert completed(text) == made


def test_a_document_is_read_up_to_its_first_byte_that_is_not_text() -> None:
    assert read_begun(b'{"data":[{"a":"x"}],"b":"\xff","c":1}') == {"data": [{"a": "x"}], "b": None}
    assert read_begun('{"data":["é'.encode()[:-1]) == {"data": []}


@pytest.mark.parametrize(
    "text",
    [
        '{"data":[{"b64_json":"x","b64_json":"y"}]}',
        '{"data":[{"b64_json":"x","b64_json"',
        '{"data":[{"b64_json":"x"}],"data":[',
        '{"data":[{"b64_json":"x"}],"d\\u0061ta"',
        '{"data":[{"url":"x","b64_json":"y","url":"https',
    ],
)
def test_a_key_that_decides_about_images_must_not_occur_twice(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_begun(text.encode())
    assert caught.value.check == "duplicate-key"


@pytest.mark.parametrize("text", ["", "[1]", "12", "oops"])
def test_text_that_does_not_begin_an_object_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_begun(text.encode())
    assert caught.value.check == "json"


@given(documents())
def test_a_whole_document_gives_the_same_read_whole_or_completed(text: str) -> None:
    assert read_begun(text.encode()) == read_whole(text.encode(), int) == json.loads(text)
