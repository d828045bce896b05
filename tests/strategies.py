"""Hypothesis strategies for what comes from outside: bodies of answers, and ways to cut them into chunks."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from typing import Any

import attrs
from hypothesis import strategies as st

__all__ = ["Said", "chunkings", "cut", "damaged", "plain_json", "said", "spelled_bodies"]


def plain_json(max_leaves: int = 8) -> st.SearchStrategy[Any]:
    """Any JSON value, with strings full of quotes, backslashes and other alphabets."""
    text = st.text(st.characters(codec="utf-8") | st.sampled_from('"\\/{}[]:,'), max_size=12)
    leaves = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | text | st.just("b64_json") | st.just("url")
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=max_leaves,
    )


@st.composite
def _dressed(draw: st.DrawFn, data: bytes) -> str:
    """The base64 of `data` in one of the dresses that gateways were seen to use."""
    text = base64.b64encode(data).decode()
    if draw(st.booleans()):
        text = text.replace("+", "-").replace("/", "_")
    if draw(st.booleans()):
        text = text.rstrip("=")
    if draw(st.booleans()):
        width = draw(st.integers(1, 20))
        text = draw(st.sampled_from(["\n", "\r\n", " ", "\t"])).join(
            text[i : i + width] for i in range(0, len(text), width)
        )
    if draw(st.integers(0, 3)) == 0:
        text = (
            draw(st.sampled_from(["data:image/png;base64,", "DATA:;base64,", " data:image/jpeg;charset=x;base64,"]))
            + text
        )
    return text


@st.composite
def _spelled_string(draw: st.DrawFn, text: str) -> str:
    """A JSON string literal of `text`: escapes where JSON needs them, and some where it does not."""
    style = draw(st.sampled_from(["plain", "slashes", "some", "raw-newlines"]))
    literal = json.dumps(text, ensure_ascii=draw(st.booleans()))
    if style == "slashes":
        return literal.replace("/", "\\/")
    if style == "raw-newlines":
        return literal.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")
    if style == "some" and "\\" not in literal:
        escaped = draw(st.sets(st.sampled_from(sorted(set(text) or {"x"})), max_size=3))
        return "".join(f"\\u{ord(c):04x}" if c in escaped else c for c in literal)
    return literal


@st.composite
def _image_item(draw: st.DrawFn) -> str:
    data = draw(st.binary(min_size=1, max_size=60))
    kind = draw(st.sampled_from(["b64", "b64", "b64", "url", "null", "both-null", "none", "empty", "link-beside"]))
    extra = {f"x{k}": v for k, v in draw(st.dictionaries(st.text(max_size=4), plain_json(3), max_size=2)).items()}
    pairs = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in extra.items()]
    text = draw(_spelled_string(draw(_dressed(data))))
    key = draw(st.sampled_from(['"b64_json"', '"b64_json"', '"b64\\u005fjson"']))
    if kind == "b64":
        pairs.append(f"{key} : {text}")
    elif kind == "url":
        url = draw(_spelled_string("data:image/png;base64," + base64.b64encode(data).decode()))
        pairs.append(f'"url":{url}')
    elif kind == "null":
        pairs.append(f"{key}:null")
    elif kind == "both-null":
        pairs.append('"b64_json":null,"url":null')
    elif kind == "empty":
        pairs.append('"b64_json":""')
    elif kind == "link-beside":
        pairs += [f"{key}:{text}", '"url": "https://example.org/x.png?data:"']
    return "{" + ", ".join(draw(st.permutations(pairs))) + "}"


@st.composite
def spelled_bodies(draw: st.DrawFn) -> bytes:
    """The bytes of a 200: JSON in any key order, with unknown keys, odd wrappings, and things before and after it."""
    items = draw(st.lists(_image_item(), max_size=4))
    space = draw(st.sampled_from(["", " ", "\n", "\r\n\t"]))
    pairs = [f'"data"{space}:{space}[{(space + "," + space).join(items)}]', f'"created": {draw(st.integers(0, 2**31))}']
    pairs += [
        f"{json.dumps('y' + key)}:{json.dumps(value, ensure_ascii=draw(st.booleans()))}"
        for key, value in draw(st.dictionaries(st.text(max_size=5), plain_json(), max_size=3)).items()
    ]
    before = draw(st.sampled_from(["", "", "\ufeff", "\n \n", ": PROCESSING\n\n: PROCESSING\n", "\ufeff: x\n"]))
    body = (
        before + "{" + f"{space},".join(draw(st.permutations(pairs))) + "}" + draw(st.sampled_from(["", "\n", " \r\n"]))
    )
    return body.encode("utf-8", "surrogatepass")


@attrs.frozen
class Said:
    """A good answer.

    Attributes:
        body: Its bytes.
        pictures: The images in it.
        ends: Behind which byte the text of each of them ends.
    """

    body: bytes
    pictures: tuple[bytes, ...]
    ends: tuple[int, ...]


@st.composite
def said(draw: st.DrawFn, pictures: st.SearchStrategy[bytes], *, most: int = 4) -> Said:
    """An answer with up to `most` images in odd spellings, and with filtered ones and previews between them."""
    space = st.sampled_from(["", " ", "\n"])
    beside = st.sampled_from(["", '"x":"]}\\"[{", ', '"seed":12,', '"preview":{"b64_json":"!?"},'])
    before = st.sampled_from(
        ["", '"created":7,', '"previews":[{"b64_json":"AAAA"},{"url":"data:,"}],', '"x":[[{"y":[]}]],']
    )
    filtered = st.sampled_from(["", "", "null,", "{},", '{"raiFilteredReason":"no"},', '{"b64_json":""},'])
    text = draw(st.sampled_from(["", "\ufeff", ": PROCESSING\n\n", " \n"])) + "{" + draw(before) + '"data":['
    chosen, ends = draw(st.lists(pictures, min_size=1, max_size=most)), []
    for number, picture in enumerate(chosen):
        key = draw(st.sampled_from(['"b64_json"', '"b64_json"', '"b64\\u005fjson"']))
        literal = draw(_spelled_string(draw(_dressed(picture))))
        text += ("," if number else "") + draw(filtered) + "{" + draw(beside) + key + ":" + draw(space) + literal
        ends.append(len(text.encode()))
        text += (
            draw(space)
            + draw(st.sampled_from(["", ',"y":"\\u00e9]"', ',"url":"https://example.org/"']))
            + "}"
            + draw(space)
        )
    text += "]" + draw(st.sampled_from(["", ',"usage":{"n":1}', ',"data2":[{"b64_json":"AAAA"}]'])) + "}"
    return Said(text.encode(), tuple(chosen), tuple(ends))


@st.composite
def damaged(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    """A body with bytes cut out, overwritten, inserted or doubled."""
    body = bytearray(draw(bodies))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        length = draw(st.integers(0, 6))
        how = draw(st.sampled_from(["cut", "end", "overwrite", "insert", "double"]))
        patch = draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"\\", b"}", b"{", b"=", b'"b64_json":"', b"\x00", b","])
        )
        if how == "cut":
            del body[at : at + length]
        elif how == "end":
            del body[at:]
        elif how == "overwrite":
            body[at : at + len(patch)] = patch
        elif how == "insert":
            body[at:at] = patch
        else:
            body[at:at] = body[at : at + 4 * length]
    return bytes(body)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """Cut `body` at `places`."""
    ends = [0, *sorted({place % (len(body) + 1) for place in places}), len(body)]
    return [body[start:end] for start, end in pairwise(ends)]


chunkings = st.lists(st.integers(0, 4000), max_size=12)
