"""JSON as text: arrays split and strings rewritten while every byte that is not touched stays as the server sent it.

Parsed and dumped again, a task would lose what the server really said: numbers beyond 2^63, 1e400, NaN, duplicate
keys, lone surrogate escapes, the order of keys. So nothing here goes through parsed values, and nothing recurses:
depth of nesting and length of strings are bounded by memory alone.
"""

import json
import re

import msgspec

# Possessive quantifiers, so that a string of megabytes costs neither backtracking nor stack. A string that the text
# ends in counts as a token too: cut payloads hold secrets like whole ones.
STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_BARE = rb'[^\s"{}\[\]:,]++'


class Kind:
    """What a token is: the number of the last group that took part in its match."""

    STRING = 1
    KEY = 2
    OPEN = 3
    CLOSE = 4
    BARE = 5
    COMMA = 6


#: Tokens of JSON text by `Match.lastindex` (see Kind). A key is a string with its colon; group 1 holds the string.
TOKEN = re.compile(rb"(?s)(%b)(\s*+:)?|([{\[])|([}\]])|(%b)" % (STRING, _BARE))
_TOKEN_OR_COMMA = re.compile(rb"%b|(,)" % TOKEN.pattern)

_ESCAPE = re.compile(r"(?s)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\u([0-9a-f]{4})|\\(.)", re.IGNORECASE)
_SHORT_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_CLOSER = {b"{": b"}", b"[": b"]"}
_BYTES_A_COMMA = 8  # tasks have a comma in some 30 bytes
_WHITESPACE = b" \t\r\n"


class NotAnArray(ValueError):
    """A body that is no whole JSON array. The reason never quotes the body: it may hold secrets."""


def split_array(body: bytes, most: int) -> list[bytes]:
    """The elements of a JSON array, each as its own bytes in the body. Raises NotAnArray for one of more than `most`.

    What msgspec will not read (NaN, lone surrogates, nesting beyond a thousand) a tolerant scan splits: a task we
    cannot parse is still a task to keep. So does it what may hold so many tiny elements that their list would take many
    times the body's memory: it stops at one too many.
    """
    if body.count(b",") > max(most, len(body) // _BYTES_A_COMMA):
        return _scan_array(body, most)
    try:
        raws = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return _scan_array(body, most)
    if len(raws) > most:
        raise _too_many(most)
    return [bytes(raw) for raw in raws]


def _too_many(most: int) -> NotAnArray:
    return NotAnArray(f"more than {most:,} elements")


def _scan_array(body: bytes, most: int) -> list[bytes]:
    """Split by brackets, strings and commas alone; what is inside an element is not judged beyond its balance."""
    if not body.lstrip(_WHITESPACE).startswith(b"["):
        raise NotAnArray("the body is empty" if not body.strip(_WHITESPACE) else "the body does not begin an array")
    elements: list[bytes] = []
    open_brackets = bytearray()  # as they will be closed
    values = commas = begin = end = 0  # of the outermost array: values since its last comma, and where the value lies
    for token in _TOKEN_OR_COMMA.finditer(body):
        kind = token.lastindex
        if len(open_brackets) == 1 and kind in (Kind.STRING, Kind.KEY, Kind.OPEN, Kind.BARE):
            values += 1
            begin, end = token.span()
        if kind == Kind.OPEN:
            open_brackets += _CLOSER[token[0]]
        elif kind == Kind.CLOSE:
            if open_brackets[-1:] != token[0]:
                raise NotAnArray("brackets do not match")
            del open_brackets[-1]
            if len(open_brackets) == 1:
                end = token.end()
            elif not open_brackets:
                if body[token.end() :].strip(_WHITESPACE):
                    raise NotAnArray("something follows the array")
                if values or commas:
                    elements.append(_only_value(body, values, begin, end))
                return elements
        elif kind == Kind.COMMA and len(open_brackets) == 1:
            elements.append(_only_value(body, values, begin, end))
            values, commas = 0, commas + 1
            if commas >= most:
                raise _too_many(most)
    raise NotAnArray("the body ends inside the array")


def _only_value(body: bytes, values: int, begin: int, end: int) -> bytes:
    if values != 1:
        raise NotAnArray("a value is missing" if not values else "a comma is missing")
    return body[begin:end]


def decode_string(token: bytes) -> str:
    """What a string token says, without its quotes. Lone surrogates and invalid UTF-8 survive, as surrogates."""
    text = token[1:-1] if len(token) > 1 and token.endswith(b'"') else token[1:]
    decoded = text.decode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_unescaped, decoded) if "\\" in decoded else decoded


def _unescaped(escape: re.Match[str]) -> str:
    high, low, unit, short = escape.groups()
    if high:
        return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF))
    return chr(int(unit, 16)) if unit else _SHORT_ESCAPES.get(short, short)


def encode_string(text: str, like: bytes) -> bytes:
    """A string token that says `text`; ASCII where the token it replaces (`like`) was.

    Surrogates leave as they came: as raw bytes where `like` was no valid UTF-8, as escapes otherwise.
    """
    if like.isascii():
        return json.dumps(text).encode()
    quoted = json.dumps(text, ensure_ascii=False)
    try:
        like.decode()
    except UnicodeDecodeError:
        quoted = re.sub("[\ud800-\udc7f\udd00-\udfff]", _as_escape, quoted)
        return quoted.encode("utf-8", "surrogateescape")
    return _SURROGATE.sub(_as_escape, quoted).encode()


def _as_escape(surrogate: re.Match[str]) -> str:
    return f"\\u{ord(surrogate[0]):04x}"
