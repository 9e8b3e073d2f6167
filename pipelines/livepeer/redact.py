"""Secrets leave a task here, between the socket and the first byte written.

A secret becomes `redacted-<12 hex>`, a keyed fingerprint: equal secrets stay equal, so an archive can still be joined
on them, and nothing can be had back without the key. Everything else keeps its bytes.

The rules are the tables of this module: names that hide what stands below them (SECRET_WORDS, SECRET_NAMES,
CONTAINER_NAMES, INNOCENT_NAMES), secrets known by their shape in any text (SHAPES), and URLs, whose user information,
query and fragment values go whatever they are called. Where a rule is in doubt it redacts.

Most tasks hold no secret. So the bytes are searched for MARKERS first: no rule can apply to a payload without one.
"""

import base64
import json
import re
import string
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
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

#: Words that make a name a secret's wherever they occur in it; a space stands for any separator, or none.
SECRET_WORDS = (
    "secret", "password", "passwd", "passphrase", "passcode", "pass word", "pwd", "token", "api key", "access key",
    "account key", "application key", "auth key", "client key", "content key", "encrypted key", "encryption key",
    "hmac key", "license key", "master key", "private key", "server key", "session key", "shared key", "signing key",
    "ssh key", "stream key", "subscription key", "webhook key", "write key", "shared access signature", "authorization",
    "amz signature", "goog signature", "basic auth", "http auth", "proxy auth", "x auth", "auth header",
    "credential", "jwt", "cookie", "bearer", "mnemonic", "seed phrase", "recovery phrase",
)  # fmt: skip

#: Names that hold a secret only when they are the whole name.
SECRET_NAMES = frozenset({"auth", "pass", "sig", "signedkey", "keysecret", "cryptkey"})

#: Names of containers whose every leaf goes, whatever the leaves are called.
CONTAINER_NAMES = frozenset({"pinata", "webhookcontext", "encryption"})
CONTAINER_WORDS = ("headers",)

#: Names of the API that sound like a secret and are none.
INNOCENT_NAMES = frozenset({"createdbytokenname"})

_SEPARATORS = str.maketrans("", "", "-_. ")
_BARE_WORDS = (*(word.replace(" ", "") for word in SECRET_WORDS), *CONTAINER_WORDS)


def names_secret(name: str) -> bool:
    """Whether everything that stands under a key of this name is to be replaced."""
    bare = name.casefold().translate(_SEPARATORS)
    if bare in INNOCENT_NAMES:
        return False
    return bare in SECRET_NAMES or bare in CONTAINER_NAMES or any(word in bare for word in _BARE_WORDS)


# ------------------------------------------------------------------------------------------------------------- shapes

#: A name in running text: the secret words, and what may follow within the name (`secret_id`, `tokenValue`, `keys`).
_NAME = "|".join(re.escape(word).replace(r"\ ", "[-_. ]?") for word in SECRET_WORDS)
_INITIAL = "".join(sorted({word[0] for word in SECRET_WORDS}))  # looked at first: most letters begin no name
_NAME_END = r"(?:s|id|[-_.][\w\-.]{0,30}|(?-i:[A-Z])\w{0,30})?"
_ASSIGN = r"""["'\\]{0,6}\s{0,8}(?:[:=>]|%(?:25)*+3[ad]|\\u003[ad]){1,3}\s{0,8}"""
#: A value within brackets: where it ends is not told, so all that follows goes.
_BRACKETED = r"([\[{](?s:.*))"
_QUOTED = r"""\\+"([^"\\]+)|"([^"\\]*+(?:\\.[^"\\]*+)*+)|\\?'([^'\\]+)"""


def _is_basic(value: str) -> bool:
    """Whether this is the base64 of `user:password`, not a word that happens to follow "Basic"."""
    digits = value.rstrip("=")
    try:
        return b":" in base64.urlsafe_b64decode(digits.replace("+", "-").replace("/", "_") + "=" * (-len(digits) % 4))
    except ValueError:
        return False


def _always(_: str) -> bool:
    return True


@dataclass(frozen=True)
class Shape:
    """A secret that text gives away: by one of `markers` (lower case) it is looked for, by `pattern` found.

    The last group that took part in a match is the secret; a match without one is no secret (it was only consumed, so
    that no text is scanned twice: all patterns are linear).
    """

    markers: tuple[str, ...]
    pattern: re.Pattern[str]
    judge: Callable[[str], bool] = _always


def _shape(
    markers: str, pattern: str, flags: re.RegexFlag = re.NOFLAG, judge: Callable[[str], bool] = _always
) -> Shape:
    return Shape(tuple(markers.split("|")), re.compile(pattern, flags), judge)


SHAPES = (
    _shape("-----begin", r"(?s)(-----BEGIN[\w%+ ]{0,60}PRIVATE[\w%+ ]{0,40}-----.*?(?:-----END[^-]{0,100}-----|\Z))"),
    _shape("data:", r"(?i)(?<!\w)data:[\w.+\-/;=%]{0,200},([^\s\"'<>]+)"),
    # A header's value goes to the end of its line: cookies and digest credentials have several parts.
    _shape(
        "authorization|cookie",
        rf"(?i)(?:authorization|cookie){_ASSIGN}(?:{_QUOTED}|{_BRACKETED}|([^\s\"'<>][^\r\n\"'<>]*))",
    ),
    _shape("bearer", r"(?i)bearer(?:\s|%20|\+){1,8}(?!(?:auth\w*|tokens?|is|not|of|the|scheme)\b)([\w\-.~+/=%*]+)"),
    _shape("basic", r"(?ai)basic(?:\s|%20|\+){1,8}([\w\-+/]{4,}={0,2})", judge=_is_basic),
    _shape("eyj", r"(eyJ[\w\-]{9,}+\.[\w\-=+/.]++)|eyJ[\w\-]*+"),
    _shape("akia|asia|aroa", r"((?:AKIA|ASIA|AROA)[A-Z0-9]{12,})"),
    _shape("ghp_|gho_|ghu_|ghs_|ghr_", r"(gh[pousr]_[A-Za-z0-9]{16,})"),
    _shape("github_pat_", r"(github_pat_\w{16,})"),
    _shape("xox", r"(xox[a-z]-[\w\-]{8,})"),
    _shape("hooks.slack", r"(?i)hooks\.slack\.com(?:\\?/(?:services|workflows|triggers))?\\?/([\w/\\\-]+)"),
    _shape("sk_|rk_|whsec_", r"((?:[sr]k_(?:live|test)|whsec)_\w{8,})"),
    _shape("aiza", r"(AIza[\w\-]{30,})"),
    _shape("glpat-", r"(glpat-[\w\-]{16,})"),
    _shape("npm_", r"(npm_[A-Za-z0-9]{30,})"),
    _shape("sk-", r"(?<![A-Za-z0-9])(sk-(?=[A-Za-z_\-]{0,100}\d)[\w\-]{20,})"),
    _shape("sk", r"(?<![A-Za-z0-9])(SK[0-9a-f]{32})(?![A-Za-z0-9])"),
    # A stream key is the end of the path that media is pushed to.
    _shape("rtmp", r"(?i)rtmps?:(?:\\{0,8}/){2}[^\s/\"'<>]+/[^\s/\"'<>?#]+/([^\s\"'<>?#]+)"),
    # What the server answers to a wrong key.
    _shape("no token ", r"no token (\S+) found"),
    _shape(
        "sig", rf"(?i)(?<![a-z])(?:sig|signature|signatureprovided){_ASSIGN}(?:{_QUOTED}|{_BRACKETED}|([^\s\"'<>&,]+))"
    ),
    _shape(
        "key|pass|secret|token|auth|cookie|bearer|credential|jwt|pwd|signature|mnemonic|phrase",
        rf"(?i)(?=[{_INITIAL}])(?:{_NAME}|(?<![a-z])(?:pass|auth)(?![a-z])){_NAME_END}{_ASSIGN}"
        rf"(?:{_QUOTED}|{_BRACKETED}|([^\s\"'<>&]+))",
    ),
)

#: Names of keys that no shape or URL gives away, and the characters without which no URL holds a secret.
_NAME_MARKERS = ("header", "pinata", "webhookcontext", "encrypt")
_URL_MARKERS = ("?", "@", "#", "%", "\\u00")
#: Twilio's keys: "sk" alone is in every third task.
_WIDE_MARKERS = {"sk": "sk[0-9a-f]{32}"}

#: What a payload is searched for, in lower case, before anything else.
MARKERS = tuple(
    dict.fromkeys(
        marker.encode()
        for marker in (*_URL_MARKERS, *_NAME_MARKERS, *(marker for shape in SHAPES for marker in shape.markers))
        if marker not in _WIDE_MARKERS
    )
)
_WIDE = re.compile("|".join(_WIDE_MARKERS.values()))

# --------------------------------------------------------------------------------------------------------------- URLs


def _char(char: str) -> str:
    """The character as it stands in a URL, or hidden by percent encoding (however often) or a JSON escape."""
    hidden = "".join(f"%(?:25)*+{byte:02x}" for byte in char.encode())
    return rf"(?:{re.escape(char)}|(?i:{hidden}|\\u{ord(char):04x}))"


@dataclass(frozen=True)
class _Grammar:
    """What separates the parts of a URL. Within an encoded URL the separators are encoded; elsewhere they are text."""

    authority_end: re.Pattern[str]
    query: re.Pattern[str]
    pair: re.Pattern[str]
    equals: re.Pattern[str]


def _grammar(char: Callable[[str], str]) -> _Grammar:
    def compiled(pattern: str) -> re.Pattern[str]:
        return re.compile(pattern, re.IGNORECASE)

    slash, question, fragment, ampersand, equals = map(char, "/?#&=")
    return _Grammar(
        authority_end=compiled(rf"\\?{slash}|{question}|{fragment}"),
        query=compiled(rf"{question}|{fragment}"),
        pair=compiled(rf"{question}|{fragment}|{ampersand}"),
        equals=compiled(equals),
    )


_PLAIN, _ENCODED = _grammar(re.escape), _grammar(_char)
_SCHEME_END = re.compile(rf"(:(?:\\{{0,8}}/){{2}})|{_char(':')}(?:\\{{0,8}}{_char('/')}){{2}}", re.IGNORECASE)
_AT = re.compile(_char("@"), re.IGNORECASE)
_COLON = re.compile(rf"{_char(':')}(?![/\\])", re.IGNORECASE)
#: host, host:port, [v6]:port; a port may be missing, and punctuation of the sentence may follow.
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::\d{0,5}[^\w]*)?")
_STORE = re.compile(r"(?:s3|s3\+https?|gs|gcs|w3s)$", re.IGNORECASE)
_PROOF = re.compile(r"w3s$", re.IGNORECASE)
_QUOTES = frozenset("\"'`<>")
_CLOSERS = {'"': '"', "'": "'", "`": "`", "<": ">", ">": "<", "(": ")", "[": "]", "{": "}"}
_SPACE = re.compile(r"\s")
_LONGEST_SCHEME = 40
#: User information with a blank in it, believed where a text begins with its URL. A port is none.
_SPACED_USER = re.compile(r"[^\s/?#:@]+:(?!\d{0,5}(?:[/?#\s]|\Z))[^\s@][^\r\n@]{0,200}@")
_WHOLE_URL = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.\-]{0,39}:(?:\\{0,8}/){2}")
_SENTENCE_END = ".,;:!?)]}>'\"\\"
_PARAMETER = re.compile(r"(?:amp;)?(?=.{1,48}$)[A-Za-z]{1,24}\d{0,4}(?:[-_.\[\]:$]+[A-Za-z]{0,24}\d{0,4}){0,8}")
_PLAIN_NAME = re.compile(r"(?:amp;)?(?:[A-Z]-)?[A-Za-z][a-z]{0,12}(?:(?:[-_.][A-Za-z]|[A-Z])[a-z]{0,12}){0,4}")
_SCHEME_CHARACTERS = string.ascii_letters + string.digits + "+.-"
_WORD = re.compile(r"[^\s\"'<>`]+")
_USER = re.compile(r"[^=,;|(){}\[\]&?]*\Z")

_FINGERPRINT = "redacted-[0-9a-f]{12}"
_MASK = rf"(?:\*+|{_FINGERPRINT})?"
_MASKED = re.compile(rf"{_MASK}(?:[:#]{_MASK})*+")
_MASKED_VALUE = re.compile(rf"{_FINGERPRINT}(?:[&#]|%(?:25)*26|%(?:25)*23|\\u00)")
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
_TELLTALE = re.compile("|".join(_WIDE_MARKERS.get(marker, re.escape(marker)) for marker in _TELLTALES).encode())
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
        self._marker = re.compile(b"|".join((*markers, _WIDE.pattern.encode())))
        # A fingerprint of before is matched as well, and kept: a literal may look like a part of one.
        self._literals = (
            re.compile("|".join((_FINGERPRINT, *(f"({''.join(map(_char, literal))})" for literal in self._known))))
            if self._known
            else None
        )
        # What is left of a literal in text whose percent encoding was undone: "%41bc" holds "41bc" as well.
        self._tails = [b"" if "%" in literal else literal[2:].encode() for literal in self._known]
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
        if _SCHEME_END.search(text):
            text = self._redact_urls(text)
        if _AT.search(text):
            text = _WORD.sub(self._redact_user, text)
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
        return None if _MASKED.fullmatch(text) else f'"{self.fingerprint(text)}"'.encode()

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
        return secret if _MASKED.fullmatch(secret) else self.fingerprint(secret if meaning is None else meaning)

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
        kept = secret.rstrip(_SENTENCE_END)
        if not kept or _MASKED_VALUE.match(kept) or not shape.judge(kept):
            return match[0]
        start, end = match.span(match.lastindex)
        return (
            match.string[match.start() : start]
            + self._hide(kept)
            + secret[len(kept) :]
            + match.string[end : match.end()]
        )

    def _redact_user(self, word: re.Match[str]) -> str:
        """`user:password@host` without a scheme."""
        text = word[0]
        scheme_end = _SCHEME_END.search(text)
        head = text[: scheme_end.start()] if scheme_end else text
        at, colon = _last(_AT, head), _COLON.search(head)
        if at is None or colon is None or not colon.start() or colon.end() >= at:
            return text
        user = _USER.search(head, 0, colon.start())
        start = user.start() if user else 0
        if start == colon.start():
            return text
        return head[:start] + self._hide(head[start:at]) + text[at:]

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
        return self._hide(text, _unquoted(text)).encode()

    def _redact_urls(self, text: str) -> str:
        """Each run of text from the first `://` in it to the next space, or to the quote or bracket that closes it."""
        pieces: list[str] = []
        done = space = 0
        whole = _WHOLE_URL.match(text)
        while scheme_end := _SCHEME_END.search(text, done):
            start = scheme_end.end()
            if space < start:
                spaced = _SPACED_USER.match(text, start) if whole and whole.end() == start else None
                gap = _SPACE.search(text, spaced.end() if spaced else start)
                space = gap.start() if gap else len(text)
            opener = _opener(text, scheme_end.start())
            # A password may hold brackets, so it is the last one that closes; a quote in a URL is rare.
            find = text.find if opener in _QUOTES else text.rfind
            closer = find(_CLOSERS[opener], start, space) if opener in _CLOSERS else -1
            end = start + len(text[start : closer if closer >= 0 else space].rstrip(_SENTENCE_END))
            begin = max(done, scheme_end.start() - _LONGEST_SCHEME)
            pieces += (text[done:begin], self._redact_url(text[begin:end]))
            done = end
        return "".join((*pieces, text[done:]))

    def _redact_url(self, url: str) -> str:
        """One URL and those nested in its path; from its first query or fragment on, all that follows is values."""
        pieces: list[str] = []
        done = 0
        grammar = _PLAIN
        ats = _Lasts(_AT, url)
        queries = {each: _Ahead(each.query, url) for each in (_PLAIN, _ENCODED)}
        for scheme_end in _SCHEME_END.finditer(url):
            start = scheme_end.end()
            if scheme_end.start() < done:
                continue
            query = queries[grammar].at_or_after(done) if done else None
            if query is not None and query.start() < scheme_end.start():
                break
            grammar = _PLAIN if scheme_end[1] else _ENCODED
            query = queries[grammar].at_or_after(start)
            end = _user_end(url, scheme_end, grammar, ats, query.start() if query else len(url))
            if end is not None:
                pieces += (url[done:start], self._hide(url[start:end], _unquoted(url[start:end])))
            else:
                pieces.append(url[done:start])
            done = start if end is None else end
        query = queries[grammar].at_or_after(done)
        if query is None and grammar is _PLAIN:
            grammar = _ENCODED
            query = queries[grammar].at_or_after(done)
            if query is not None and not grammar.equals.search(url, query.end()):
                query = None  # a question mark in the name of a file
        if query is not None:
            pieces += (url[done : query.end()], self._redact_parameters(url[query.end() :], grammar))
            done = len(url)
        return "".join((*pieces, url[done:]))

    def _redact_parameters(self, query: str, grammar: _Grammar) -> str:
        pieces: list[str] = []
        done = 0
        for separator in grammar.pair.finditer(query):
            pieces += (self._redact_parameter(query[done : separator.start()], grammar), separator[0])
            done = separator.end()
        return "".join((*pieces, self._redact_parameter(query[done:], grammar)))

    def _redact_parameter(self, parameter: str, grammar: _Grammar) -> str:
        equals = grammar.equals.search(parameter)
        if equals is None:
            return self._hide(parameter, _unquoted(parameter))
        name, value = parameter[: equals.start()], parameter[equals.end() :]
        if not value.strip("="):  # a parameter without a value, or the padding of a secret without a name
            stays = not value and (_PLAIN_NAME.fullmatch(name) or _MASKED.fullmatch(name))
            return parameter if stays else self._hide(parameter, _unquoted(parameter))
        shown = name if _PARAMETER.fullmatch(name) else self._hide(name, _unquoted(name))
        return f"{shown}{equals[0]}{self._hide(value, _unquoted(value))}"


def _user_end(url: str, scheme_end: re.Match[str], grammar: _Grammar, ats: "_Lasts", query: int) -> int | None:
    """Where the user information that follows a scheme ends (at its `@`), or None where there is none.

    Secrets hold slashes that are not encoded (`s3://AKIA:SEC/RET@host/bucket`): where no port follows the colon, the
    last `@` before the query ends them. `https://host/@user/video.mp4` has no such colon and keeps its path.
    """
    start = scheme_end.end()
    end = grammar.authority_end.search(url, start)
    authority = url[start : end.start() if end else len(url)]
    at = _last(_AT, authority)
    host = _unquoted(authority[at + 1 :] if at is not None else authority)
    scheme = url[max(0, scheme_end.start() - 12) : scheme_end.start()]
    stretched = not _HOST.fullmatch(host) or _PROOF.search(scheme) or (":" in host and _STORE.search(scheme))
    if stretched:
        for limit in (query, len(url)):
            later = ats.before(limit, start)
            if later is not None:
                return later
    return None if at is None else start + at


def _unquoted(text: str) -> str:
    """Percent encoding undone, to a bounded depth."""
    for _ in range(8):
        if "%" not in text:
            break
        text = unquote(text)
    return text


def _last(pattern: re.Pattern[str], text: str) -> int | None:
    """Where the last match begins."""
    last = deque(pattern.finditer(text), maxlen=1)
    return last[0].start() if last else None


class _Ahead:
    """The next match from a place on, for places that only move forward: no stretch of text is searched twice."""

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        self._pattern, self._text = pattern, text
        self._next = pattern.search(text)

    def at_or_after(self, start: int) -> re.Match[str] | None:
        if self._next is not None and self._next.start() < start:
            self._next = self._pattern.search(self._text, start)
        return self._next


class _Lasts:
    """The last match before a limit, remembered for each limit, for the same reason."""

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        self._pattern, self._text = pattern, text
        self._known: dict[int, int | None] = {}

    def before(self, limit: int, start: int) -> int | None:
        if limit not in self._known:
            last = _last(self._pattern, self._text[start:limit])
            self._known[limit] = None if last is None else start + last
        last = self._known[limit]
        return last if last is not None and last >= start else None


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
    return b"%b=" % name if _PARAMETER.fullmatch(name.decode()) and not _TELLTALE.search(name.lower()) else None


def _starts_and_text(texts: pa.LargeBinaryArray) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where in the text of them all each begins, and the last ends."""
    _, starts, text = texts.buffers()
    starts = np.frombuffer(starts, np.int64, len(texts) + 1)
    return starts, np.frombuffer(text or b"", np.uint8, starts[-1])


def _opener(text: str, scheme_end: int) -> str:
    """The character before the scheme that ends here."""
    before = text[max(0, scheme_end - _LONGEST_SCHEME) : scheme_end].rstrip(_SCHEME_CHARACTERS)
    return before[-1:]


def _spellings(literal: str) -> set[str]:
    """How JSON may write a literal, or the longest part of it without a quote.

    What percent encoding or \\u escapes make of it has markers of its own.
    """
    written = (json.dumps(literal, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    plain = {max(text.split('\\"'), key=len) or "\\" for text in written}
    return plain | {spelling.replace("/", "\\/") for spelling in plain}
