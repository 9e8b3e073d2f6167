"""JSON text: arrays split into their elements' own bytes, strings read and written without loss."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.livepeer.jsontext import TOKEN, NotAnArray, _scan_array, decode_string, encode_string, split_array

MOST = 10_000

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("body", "elements"),
    [
        (b"[]", []),
        (b" [ ] \n", []),
        (b'[ {"a" : 1} ,\n{"a":2 } ]', [b'{"a" : 1}', b'{"a":2 }']),
        (b'[null,1e400,"x",true,-0.0]', [b"null", b"1e400", b'"x"', b"true", b"-0.0"]),
        (b'[{"n":9223372036854775808,"n":1}]', [b'{"n":9223372036854775808,"n":1}']),
        (b'[{"a":NaN},[1,[2]],{}]', [b'{"a":NaN}', b"[1,[2]]", b"{}"]),
        (b'["\\ud800","],[",{"\\"":"}"}]', [b'"\\ud800"', b'"],["', b'{"\\"":"}"}']),
        (b'[{"a":"\xff"},NaN]', [b'{"a":"\xff"}', b"NaN"]),
        (b'[{"a":"\xff"}]', [b'{"a":"\xff"}']),
    ],
)
def test_elements_keep_their_own_bytes(body: bytes, elements: list[bytes]) -> None:
    assert split_array(body, MOST) == elements


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{}", b'{"errors":["sesame"]}', b"null", b'"sesame"', b'["sesame', b'["sesame\\', b'[{"sesame":1}',
        b"[1]]", b"[1", b"[1,", b"[1,]", b"[,1]", b"[,]", b"[1 2]", b"[{}{}]", b"[{]}", b"[NaN}", b"[1] sesame",
        b"<html>sesame",
    ],
)  # fmt: skip
def test_what_is_no_whole_array_is_refused_without_quoting_it(body: bytes) -> None:
    with pytest.raises(NotAnArray) as refusal:
        split_array(body, MOST)
    assert "sesame" not in str(refusal.value)


def test_depth_and_length_do_not_matter() -> None:
    deep = b"[" * 20_000 + b"]" * 20_000
    long = b'"' + b'\\"],[\\\\' * 200_000 + b'"'
    assert split_array(b"[%b,%b,NaN]" % (deep, long), MOST) == [deep, long, b"NaN"]


@pytest.mark.parametrize(
    "body", [b"[0,0,0,0]", b"[[],[],[],[],NaN]", b'[{"a":"b","c":"d"},{"a":"b","c":"d"},"e","f"]', b"[0,0,0,"]
)
def test_more_elements_than_wanted_are_refused(body: bytes) -> None:
    with pytest.raises(NotAnArray, match="more than 3 elements"):
        split_array(body, 3)
    assert len(split_array(b"[0,0,0]", 3)) == 3
    assert len(split_array(b"[0,0,NaN]", 3)) == 3


@given(st.lists(any_json), st.sampled_from([None, 1]))
def test_the_tolerant_scan_agrees_with_msgspec(values: list[object], indent: int | None) -> None:
    body = json.dumps(values, indent=indent).encode("utf-8", "surrogatepass")
    elements = _scan_array(body, MOST)
    assert [json.loads(element) for element in elements] == values
    try:
        assert elements == [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except msgspec.DecodeError:
        assert "\\ud" in body.decode()


@given(st.binary())
def test_no_bytes_crash_the_split(body: bytes) -> None:
    try:
        elements = split_array(body, MOST)
    except NotAnArray:
        elements = []
    assert all(element in body for element in elements)


@given(st.text(st.characters(codec=None)), st.booleans())
def test_strings_survive_reading_and_writing(text: str, ascii_only: bool) -> None:
    token = json.dumps(text, ensure_ascii=True if ascii_only else not text.isprintable()).encode("utf-8")
    assert decode_string(token) == json.loads(token)
    assert json.loads(encode_string(text, like=token)) == text
    assert encode_string(text, like=b'"a"').isascii()


def test_invalid_utf8_is_written_as_it_came() -> None:
    token = b'"\xff\xc3\xa9\\ud800\\n"'
    assert encode_string(decode_string(token), like=token) == token


@pytest.mark.parametrize("cut", [b'"abc', b'"', b'"abc\\', b'"a\\"b'])
def test_a_cut_string_is_a_token_all_the_same(cut: bytes) -> None:
    assert [match[0] for match in TOKEN.finditer(b"[1," + cut)] == [b"[", b"1", cut]
