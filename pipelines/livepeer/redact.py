"""Secrets leave a task here, between the socket and the first byte written.

A secret becomes `redacted-<12 hex>`, a keyed fingerprint: equal secrets stay equal, so an archive can still be joined
on them, and nothing can be had back without the key. Everything else keeps its bytes.

The rules stand in `secret_rules` and `secret_urls`.

Most tasks hold no secret. So the bytes are searched for MARKERS first: no rule can apply to a payload without one.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.livepeer.jsontext import STRING, TOKEN, Kind, decode_string, encode_string
from pipelines.livepeer.secret_rules import (
    FINGERPRINT,
    MARKERS,
    MASKED,
    SHAPES,
    WIDE,
    WIDE_MARKERS,
    Shape,
    names_secret,
)
from pipelines.livepeer.secret_urls import PARAMETER, SENTENCE_END, UrlRedactor, char, unquoted

_MASKED_VALUE = re.compile(rf"{FINGERPRINT}(?:[&#]|%(?:25)*26|%(?:25)*23|\\u00)")
_JSON_START = re.compile(r"\s*[{\[\"]")
_MOST_ROUNDS = 8
_CONSTANTS = frozenset({b"null", b"true", b"false"})

_FEW = 12  # payloads
#: What is put before each marker of a page.
_MARK = b"\0"
#: Text up to the first string that does not end in it.
_WHOLE_STRINGS = re.compile(rb'(?s)[^"]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"]*+)*+')
#: A string that is one URL, in which no character means anything but itself.
_PLAIN_URL = (
    rb'"((?:https?|s3|s3\+https?|gs|gcs|ipfs)://|w3s://(?=[A-Za-z0-9_+/=\-]+@/[A-Za-z0-9_/]*"))'
    rb"(?:((?<=w3s://)[A-Za-z0-9_+/=\-]++|[A-Za-z0-9_.~*+:\-]++)@)?"
    rb"([A-Za-z0-9_.\-]*+(?:/[A-Za-z0-9_.~/\-]*+(?:%20[A-Za-z0-9_.~/\-]*+)*+)?)"
    rb'(?:\?([A-Za-z0-9_.~*%+/=&\-]++))?(?<!\.)"'
)
#: A string (of a plain URL the groups 2 to 5 are the parts), and what makes it the name of what follows: the colon of a
#: key, or as in `{"name": "password", "value": "..."}`.
_STRING = re.compile(rb"(?s)(" + _PLAIN_URL + b"|" + STRING + rb')(\s*+(?:,\s*+"value"\s*+)?:)?')
#: What may be left in a plain URL for a shape to find, once user information and query values are gone. The last two
#: shapes need an assignment, and one in a query is to a value that is gone.
_TELLTALES = [marker for shape in SHAPES[:-2] for marker in shape.markers]
_TELLTALE = re.compile("|".join(WIDE_MARKERS.get(marker, re.escape(marker)) for marker in _TELLTALES).encode())
#: What is left of those without hexadecimal digits. Without them most URLs are like one that was judged before.
_HEX = b"0123456789ABCDEFabcdef"
_TRACES = [marker.encode().translate(None, _HEX) for marker in _TELLTALES]
_LOWER = bytes(range(256)).lower()

_Result = TypeVar("_Result")


class Redactor:
    """Replaces the secrets in tasks and in text; `literals` are secrets known to us, replaced wherever they stand."""

    def __init__(self, fingerprint_key: bytes, literals: Iterable[str] = ()) -> None:
        # The two hashes of HMAC-SHA256, which have taken in the key already.
        block = (sha256(fingerprint_key).digest() if len(fingerprint_key) > 64 else fingerprint_key).ljust(64, b"\0")
        self._inner, self._outer = (sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
        self._known = sorted({literal for literal in literals if literal}, key=len, reverse=True)
        spellings = (spelling.encode() for literal in self._known for spelling in _spellings(literal))
        markers = sorted({re.escape(marker.lower()) for marker in (*MARKERS, *spellings)})
        self._marker = re.compile(b"|".join((*markers, WIDE.pattern.encode())))
        # A fingerprint of before is matched as well, and kept: a literal may look like a part of one.
        self._literals = (
            re.compile("|".join((FINGERPRINT, *(f"({''.join(map(char, literal))})" for literal in self._known))))
            if self._known
            else None
        )
        # What is left of a literal in text whose percent encoding was undone: "%41bc" holds "41bc" as well.
        self._tails = [b"" if "%" in literal else literal[2:].encode() for literal in self._known]
        self._urls = UrlRedactor(self._hide)
        self._redact_any_string = _remembering(self._redact_fresh_string)
        self._hide_string = _remembering(self._hide_fresh_string)
        self._hide_plain = _remembering(self._hide_fresh_plain)
        self._show_name = _remembering(_show_fresh_name)
        self._names_secret = _remembering(lambda token: names_secret(decode_string(token)))
        self._has_trace = _remembering(lambda rest: any(trace in rest for trace in _TRACES))

    def redact(self, payload: bytes) -> bytes:
        """The JSON text of one task without its secrets; the same object where there are none."""
        return self._walk(payload, (marker.start() for marker in self._marker.finditer(payload.lower())))

    def redact_all(self, payloads: Sequence[bytes]) -> list[bytes]:
        """A page of tasks: as `redact`, but with one search for the markers of them all, six times as fast."""
        if len(payloads) < _FEW:  # the search has its own cost, a millisecond
            return [self.redact(payload) for payload in payloads]
        page = pa.array(payloads, type=pa.large_binary())
        marked = pc.replace_substring_regex(page, b"(?i)" + self._marker.pattern, _MARK + rb"\0")
        (starts, text), (_, marked_text) = _starts_and_text(page), _starts_and_text(marked)
        marks = np.flatnonzero(marked_text == ord(_MARK))
        if len(marks) != len(marked_text) - len(text):
            return [self.redact(payload) for payload in payloads]  # marks of their own
        places = marks - np.arange(len(marks))
        bounds = np.searchsorted(places, starts)
        counts = np.diff(bounds)
        places_in_task = (places - np.repeat(starts[:-1], counts)).tolist()
        redacted, ends = list(payloads), bounds.tolist()
        for task in np.flatnonzero(counts).tolist():
            redacted[task] = self._walk(payloads[task], places_in_task[ends[task] : ends[task + 1]])
        return redacted

    def scrub(self, text: str) -> str:
        """Any text without its secrets: an error message, a log line, a body that is JSON or nearly.

        What one rule replaced may end what another took for a value, so the rules run until nothing changes: text
        redacted twice is the text redacted once.
        """
        url = self._redact_plain_url(text)
        if url is not None:
            return url
        for _ in range(_MOST_ROUNDS):
            before, text = text, self._scrub_once(text)
            if text == before:
                break
        return text

    def _scrub_once(self, text: str) -> str:
        embedded = self._redact_embedded(text)
        if embedded is not None:
            return embedded
        text = self._replace_literals(text)
        text = self._urls.redact(text)
        lowered = text.lower()
        for shape in SHAPES:
            if any(marker in lowered for marker in shape.markers):
                text = shape.pattern.sub(partial(self._redact_shape, shape), text)
        return text

    def fingerprint(self, secret: str) -> str:
        """What stands for a secret."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(secret.encode("utf-8", "surrogatepass"))
        outer.update(inner.digest())
        return f"redacted-{outer.hexdigest()[:12]}"

    # ------------------------------------------------------------------------------------------------------- JSON text

    def _walk(self, payload: bytes, places: Iterable[int]) -> bytes:
        """Rewrites the strings that hold a marker (those at `places`), and what secrets' names among them name."""
        pieces: list[bytes] = []
        done = passed = 0  # what was copied, and what was looked at: up to a place outside of the strings
        for place in places:
            if place < passed:
                continue
            start = payload.rfind(b'"', passed, place)
            escape = payload.find(b"\\", passed, start)
            has_escaped_quotes = 0 <= escape <= payload.find(b'\\"', escape, start + 1)
            if start < 0 or has_escaped_quotes or payload.count(b'"', passed, start) % 2:
                whole = _WHOLE_STRINGS.match(payload, passed, place)
                start = whole.end() if whole else place
            string = _STRING.match(payload, start)
            if string is None:  # a marker outside of the strings
                passed = place
                continue
            passed = string.end(1)
            replaced = self._redact_string(string)
            if replaced is not None:
                pieces += (payload[done:start], replaced)
                done = passed
            if string[6] and self._names_secret(string[1]):
                passed = string.end()
                for leaf, replaced in self._hide_value(payload, passed):
                    if replaced is not None:
                        pieces += (payload[done : leaf.start()], replaced)
                        done = leaf.end(1) if leaf[1] else leaf.end()
                    passed = leaf.end()
        return b"".join((*pieces, payload[done:])) if pieces else payload

    def _hide_value(self, payload: bytes, start: int) -> Iterator[tuple[re.Match[bytes], bytes | None]]:
        """The tokens of the value that follows, each with what is to stand in its place."""
        depth = 0
        for token in TOKEN.finditer(payload, start):
            kind = token.lastindex
            replaced: bytes | None = None
            if kind == Kind.KEY:
                replaced = self._redact_any_string(token[1])
            elif kind == Kind.STRING:
                replaced = self._hide_string(token[1])
            elif kind == Kind.OPEN:
                depth += 1
            elif kind == Kind.CLOSE:
                depth -= 1
            else:
                replaced = self._redact_bare(token[0])
            yield token, replaced
            if depth <= 0 and kind != Kind.KEY:
                return

    def _hide_fresh_string(self, token: bytes) -> bytes | None:
        text = decode_string(token)
        return None if MASKED.fullmatch(text) else f'"{self.fingerprint(text)}"'.encode()

    def _redact_string(self, string: re.Match[bytes]) -> bytes | None:
        """The token to stand in its place, or None where it may stay."""
        redacted = self._redact_plain(string)
        if redacted is None:
            return self._redact_any_string(string[1])
        return redacted if redacted != string[1] else None

    def _redact_fresh_string(self, token: bytes) -> bytes | None:
        text = decode_string(token)
        redacted = self.scrub(text)
        return encode_string(redacted, like=token) if redacted != text else None

    def _redact_bare(self, token: bytes) -> bytes | None:
        """A number below a secret's name becomes a string; null, true and false tell nothing."""
        return None if token in _CONSTANTS else f'"{self.fingerprint(token.decode("utf-8", "replace"))}"'.encode()

    def _redact_embedded(self, text: str) -> str | None:
        """JSON within a string is redacted as JSON: names say more than shapes. None where the text is none."""
        if not _JSON_START.match(text):
            return None
        try:
            payload = text.encode()
            msgspec.json.decode(payload, type=msgspec.Raw)
        except (UnicodeEncodeError, msgspec.DecodeError, RecursionError):
            return None
        return self.redact(payload).decode()

    # ------------------------------------------------------------------------------------------------------------ text

    def _hide(self, secret: str, meaning: str | None = None) -> str:
        """The fingerprint of a secret, or of what it means where it is written in another way; masks stay."""
        return secret if MASKED.fullmatch(secret) else self.fingerprint(secret if meaning is None else meaning)

    def _replace_literals(self, text: str) -> str:
        if self._literals is None:
            return text
        return self._literals.sub(self._redact_literal, text)

    def _redact_literal(self, match: re.Match[str]) -> str:
        return match[0] if match.lastindex is None else self.fingerprint(self._known[match.lastindex - 1])

    def _redact_shape(self, shape: Shape, match: re.Match[str]) -> str:
        if match.lastindex is None:
            return match[0]
        secret = match[match.lastindex]
        kept = secret.rstrip(SENTENCE_END)
        if not kept or _MASKED_VALUE.match(kept) or not shape.judge(kept):
            return match[0]
        start, end = match.span(match.lastindex)
        return (
            match.string[match.start() : start]
            + self._hide(kept)
            + secret[len(kept) :]
            + match.string[end : match.end()]
        )

    def _redact_plain_url(self, text: str) -> str | None:
        """What the rules make of a text that is one ordinary URL; None where it is not, or has more to it."""
        string = _STRING.fullmatch(b'"%b"' % text.encode("ascii", "backslashreplace"))
        redacted = self._redact_plain(string) if string else None
        return None if redacted is None else redacted[1:-1].decode()

    def _redact_plain(self, string: re.Match[bytes]) -> bytes | None:
        """The same for the token of a string."""
        token, scheme, user, place, query, _ = string.groups()
        if scheme is None or b"%25" in token:
            return None
        meaning = unquote(token.decode()).encode() if b"%" in token else token
        for tail in self._tails:
            if tail in meaning:
                return None
        if self._has_trace(place.translate(_LOWER, _HEX)) and _TELLTALE.search(place.lower()):
            return None
        redacted = b'"' + scheme
        if user is not None:
            redacted += self._hide_plain(user) + b"@"
        redacted += place
        separator = b"?"
        for parameter in query.split(b"&") if query is not None else ():
            name, _, value = parameter.partition(b"=")
            shown = self._show_name(name)
            if shown is None or not value.strip(b"="):
                return None
            redacted += separator + shown + self._hide_plain(value)
            separator = b"&"
        return redacted + b'"'

    def _hide_fresh_plain(self, secret: bytes) -> bytes:
        text = secret.decode()
        return self._hide(text, unquoted(text)).encode()


class _Memory(dict[bytes, _Result]):
    """The latest results of a function for short arguments."""

    def __init__(self, function: Callable[[bytes], _Result]) -> None:
        self._function = function

    def __missing__(self, argument: bytes) -> _Result:
        result = self._function(argument)
        if len(argument) <= 256:
            if len(self) >= 4096:
                self.clear()
            self[argument] = result
        return result


def _remembering(function: Callable[[bytes], _Result]) -> Callable[[bytes], _Result]:
    """The function with its latest results for short arguments kept."""
    return _Memory(function).__getitem__


def _show_fresh_name(name: bytes) -> bytes | None:
    """The name of a parameter in a plain URL, with its `=`; None where there is more to it."""
    return b"%b=" % name if PARAMETER.fullmatch(name.decode()) and not _TELLTALE.search(name.lower()) else None


def _starts_and_text(texts: pa.LargeBinaryArray) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where in the text of them all each begins, and the last ends."""
    _, starts, text = texts.buffers()
    starts = np.frombuffer(starts, np.int64, len(texts) + 1)
    return starts, np.frombuffer(text or b"", np.uint8, starts[-1])


def _spellings(literal: str) -> set[str]:
    """How JSON may write a literal, or the longest part of it without a quote.

    What percent encoding or \\u escapes make of it has markers of its own.
    """
    written = (json.dumps(literal, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    plain = {max(text.split('\\"'), key=len) or "\\" for text in written}
    return plain | {spelling.replace("/", "\\/") for spelling in plain}
