"""Bodies lose their metadata and gain a wish for usage; every other byte stays in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cuts import unhurried
from hypothesis import given
from hypothesis import strategies as st

from costd.domain.proxied.body_edit import Edited, edit, must_ask_for_usage

META = b'{"prompt_key": "a}", "feature_tags": ["x", "]"], "version": 2}'
ASKED = b'{"include_usage":true}'


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b'{"a":1,"_aipromptcost":%s}' % META, b'{"a":1}'),
        (b'{"_aipromptcost":%s,"a":1}' % META, b'{"a":1}'),
        (b'{"a":1, "_aipromptcost" : %s , "b": 2}' % META, b'{"a":1, "b": 2}'),
        (b'{\n  "a": 1.0e5,\n  "_aipromptcost": %s\n}\n' % META, b'{\n  "a": 1.0e5\n}\n'),
        (b'{"_aipromptcost":%s}' % META, b"{}"),
        (b'{"_aipromptcost":null,"_aipromptcost":%s}' % META, b"{}"),
        (b'{"a":"\\u00e4\\"","_aipromptcost":1,"_aipromptcost":%s}' % META, b'{"a":"\\u00e4\\""}'),
        (b'{"_aipromptcost":1,"a":{"_aipromptcost":2},"_aipromptcost":%s}' % META, b'{"a":{"_aipromptcost":2}}'),
        (b'{"\\u005faipromptcost":%s,"a":1}' % META, b'{"a":1}'),
    ],
)
def test_metadata_is_taken_out(body: bytes, edited: bytes) -> None:
    assert edit(body, with_usage=False) == Edited(edited, META)


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b'{"stream":true}', b'{"stream":true,"stream_options":%s}' % ASKED),
        (b'{"stream": true\n}\n', b'{"stream": true\n,"stream_options":%s}\n' % ASKED),
        (b'{"stream_options":null,"a":1}', b'{"stream_options":%s,"a":1}' % ASKED),
        (b'{"stream_options":{},"a":1}', b'{"stream_options":%s,"a":1}' % ASKED),
        (b'{"stream_options":{ "x":[1] },"a":1}', b'{"stream_options":{ "x":[1] ,"include_usage":true},"a":1}'),
        (b'{"stream_options":{"include_usage": false}}', b'{"stream_options":{"include_usage": true}}'),
        (b'{"stream_options":{"include_usage": null,"x":1}}', b'{"stream_options":{"include_usage": true,"x":1}}'),
        (b'{"stream_options":7}', b'{"stream_options":7}'),
        (b'{"a":1,"_aipromptcost":2}', b'{"a":1,"stream_options":%s}' % ASKED),
        (b'{"_aipromptcost":2}', b'{"stream_options":%s}' % ASKED),
        (b"{}", b'{"stream_options":%s}' % ASKED),
    ],
)
def test_usage_is_asked_for(body: bytes, edited: bytes) -> None:
    assert edit(body, with_usage=True).body == edited


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'[{"_aipromptcost":1}]',
        b'"_aipromptcost"',
        b'{"_aipromptcost":1',
        b'{"_aipromptcost":1,}',
        b'{"_aipromptcost":1} x',
        b'{"_aipromptcost":1}x',
        b"{}x",
        b'{"_aipromptcost":}',
        b'{"_aipromptcost"}',
        b'{"_aipromptcost":"x}',
        b'{"_aipromptcost":{"x}',
        b'{"_aipromptcost":[1,2}',
        b"{'_aipromptcost':1}",
        b'{"a":1 "_aipromptcost":1}',
        b'\xef\xbb\xbf{"_aipromptcost":1}',
        b'--boundary\r\ncontent-disposition: form-data; name="_aipromptcost"',
    ],
)
def test_what_is_no_json_object_stays(body: bytes) -> None:
    for with_usage in (False, True):
        assert edit(body, with_usage=with_usage) == Edited(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from(["model", "stream", "stream_options", "_aipromptcost", "x"]) | st.text(), JSON)
STYLES = st.sampled_from(
    [{"separators": (",", ":")}, {"indent": 2}, {"ensure_ascii": False}, {"indent": "\t", "separators": (" ,", " : ")}]
)


@unhurried
@given(FIELDS, STYLES, st.booleans())
def test_any_object_means_the_same_but_for_two_members(fields: dict[str, Any], style: Any, with_usage: bool) -> None:
    body = json.dumps(fields, **style).encode("utf-8", "surrogatepass")
    edited = edit(body, with_usage=with_usage)
    expected = {name: value for name, value in fields.items() if name != "_aipromptcost"}
    options = expected.get("stream_options") or {}
    if with_usage and isinstance(options, dict) and expected.get("stream_options") not in (False, 0, "", []):
        expected["stream_options"] = options | {"include_usage": True}
    assert json.loads(edited.body) == expected
    assert list(json.loads(edited.body)) == list(expected)
    assert (edited.metadata is None) == ("_aipromptcost" not in fields)
    if edited.metadata is not None:
        assert json.loads(edited.metadata) == fields["_aipromptcost"]


@unhurried
@given(st.binary(max_size=60), st.integers(0, 60))
def test_garbage_never_raises(garbage: bytes, position: int) -> None:
    body = b'{"a": [1, {"b": "}"}], "_aipromptcost": {"x": 1}, "stream_options": {"y": null}}'
    edit(garbage, with_usage=True)
    edit(body[:position] + garbage + body[position:], with_usage=True)
    assert edit(body[:position], with_usage=True).body == body[:position]


def test_a_large_body_is_quick() -> None:
    body = b'{"input":[' + b"[1,2,3]," * 100_000 + b'[1]],"_aipromptcost":{},"text":"' + b"\\n" * 1_000_000 + b'"}'
    assert len(edit(body, with_usage=False).body) == len(body) - len(b'"_aipromptcost":{},')


def test_who_must_be_asked() -> None:
    streaming = {"stream": True}
    assert must_ask_for_usage("openai", streaming)
    assert must_ask_for_usage("openai", streaming | {"stream_options": {"include_usage": False}})
    assert not must_ask_for_usage("openai", streaming | {"stream_options": {"include_usage": True}})
    assert not must_ask_for_usage("mistral", streaming)
    assert not must_ask_for_usage("openai", {})
