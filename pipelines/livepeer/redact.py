"""Secrets leave a task here, between the socket and the first byte written.

A secret becomes `redacted-<12 hex>`, a keyed fingerprint: equal secrets stay equal, so an archive can still be joined
on them, and nothing can be had back without the key. Everything else keeps its bytes.

The rules are the tables of this module: names that hide what stands below them (SECRET_WORDS, SECRET_NAMES,
CONTAINER_NAMES, INNOCENT_NAMES), secrets known by their shape in any text (SHAPES), and URLs, whose user information,
query and fragment values go whatever they are called. Where a rule is in doubt it redacts.

Most tasks hold no secret. So the bytes are searched for MARKERS first: no rule can apply to a payload without one.
"""

import base64
import hmac
import json
import re
import string
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeVar
from urllib.parse import unquote

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.livepeer.jsontext import TOKEN, Kind, decode_string, encode_string

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

#: The value that follows a name, in `{"name": "password", "value": "..."}`.
_NAMED_VALUE = re.compile(rb'\s*,\s*"value"\s*:')
#: What stands for an escaped quote where quotes are searched for.
_QUOTE = b"\1\1"

#: A text that is one URL, in which no character means anything but itself.
_PLAIN_URL = re.compile(
    r"((?:https?|s3|s3\+https?|gs|gcs|rtmps?|ipfs)://|w3s://(?=[\w+/=\-]+@/[\w/]*\Z))"
    r"(?:((?<=w3s://)[\w+/=\-]+|[\w.~*+:\-]+)@)?"
    r"([\w.\-]*(?:/(?:[\w.~/\-]|%20)*)?)(?:\?([\w.~*%+/=&\-]+))?(?<!\.)",
    re.ASCII,
)
#: What may be left in it for a shape to find, once user information and query values are gone. The last two shapes need
#: an assignment, and one in a query is to a value that is gone.
_TELLTALES = tuple(marker for shape in SHAPES[:-2] for marker in shape.markers if marker not in _WIDE_MARKERS)

_Text = TypeVar("_Text", str, bytes)
_Result = TypeVar("_Result")


class Redactor:
    """Replaces the secrets in tasks and in text; `literals` are secrets known to us, replaced wherever they stand."""

    def __init__(self, fingerprint_key: bytes, literals: Iterable[str] = ()) -> None:
        self._key = fingerprint_key
        self._known = sorted({literal for literal in literals if literal}, key=len, reverse=True)
        spellings = [spelling.encode() for literal in self._known for spelling in _spellings(literal)]
        markers = [
            re.escape(marker.lower()) for marker in (*MARKERS, *map(_without_escaped_quotes, spellings), *spellings)
        ]
        self._any_marker = b"|".join(dict.fromkeys((*markers, _WIDE.pattern.encode())))
        self._marker = re.compile(self._any_marker)
        # A fingerprint of before is matched as well, and kept: a literal may look like a part of one.
        self._literals = (
            re.compile("|".join((_FINGERPRINT, *(f"({''.join(map(_char, literal))})" for literal in self._known))))
            if self._known
            else None
        )
        # What is left of a literal in text whose percent encoding was undone: "%41bc" holds "41bc" as well.
        self._tails = ["" if "%" in literal else literal[2:] for literal in self._known]
        self.fingerprint = _remembering(self._fingerprint)
        self._redact_key = _remembering(self._redact_fresh_key)
        self._redact_string = _remembering(self._redact_fresh_string)
        self._redact_plain_parameter = _remembering(partial(self._redact_parameter, grammar=_PLAIN))

    def redact(self, payload: bytes) -> bytes:
        """The JSON text of one task without its secrets; the same object where there are none."""
        if not self._marker.search(payload.lower()):
            return payload
        strings = (token for token in TOKEN.finditer(payload) if token[1])
        return self._walk(payload, [token.start() for token in strings if self._marker.search(token[1].lower())])

    def redact_all(self, payloads: Sequence[bytes]) -> list[bytes]:
        """A page of tasks: as `redact`, with two searches for the markers of them all, ten times as fast."""
        redacted = list(payloads)
        lowered = [payload.lower() for payload in payloads]
        with_markers = pc.match_substring_regex(pa.array(lowered, type=pa.large_binary()), pattern=self._any_marker)
        suspects = pc.indices_nonzero(with_markers).to_pylist()
        marked = self._marked_strings([lowered[index] for index in suspects])
        for index, starts in zip(suspects, marked, strict=True):
            payload = payloads[index]
            redacted[index] = self.redact(payload) if starts is None else self._walk(payload, starts)
        return redacted

    def _marked_strings(self, lowered: list[bytes]) -> Iterator[list[int] | None]:
        """Where in each payload the strings begin that hold a marker; None where quotes do not tell what is a string.

        Between quotes that are not escaped lie, in turns, what is outside the strings and the strings.
        """
        texts = [_without_escaped_quotes(text) for text in lowered]
        split = pc.split_pattern(pa.array(texts, type=pa.large_binary()), pattern=b'"')
        strings = pc.list_slice(split, 1, step=2)
        offsets = memoryview(split.values.buffers()[1] or b"").cast("q")  # of all the parts
        parts, ends = split.offsets.to_pylist(), strings.offsets.to_pylist()
        distinct = strings.values.dictionary_encode()  # most are names of keys
        found = pc.match_substring_regex(distinct.dictionary, pattern=self._any_marker)
        marked = deque(pc.indices_nonzero(found.take(distinct.indices)).to_pylist())
        for text, part, next_part, begin, end in zip(texts, parts, parts[1:], ends, ends[1:], strict=False):
            starts = []
            while marked and marked[0] < end:
                quotes = 2 * (marked.popleft() - begin)  # before the string's own
                starts.append(offsets[part + quotes + 1] - offsets[part] + quotes)
            unclosed = (next_part - part) % 2 == 0
            misread = _QUOTE in text and any(_QUOTE in outside for outside in text.split(b'"')[::2])
            yield None if unclosed or misread else starts

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

    def _fingerprint(self, secret: str) -> str:
        """What stands for a secret."""
        digest = hmac.digest(self._key, secret.encode("utf-8", "surrogatepass"), "sha256")
        return f"redacted-{digest.hex()[:12]}"

    # ------------------------------------------------------------------------------------------------------- JSON text

    def _walk(self, payload: bytes, starts: Iterable[int]) -> bytes:
        """Rewrite the strings that begin at `starts` (those that hold a marker), and what stands below secret names."""
        pieces: list[bytes] = []
        done = passed = 0  # what was copied, and what was looked at
        for start in starts:
            token = TOKEN.match(payload, start) if start >= passed else None
            if token is None:
                continue
            string, passed = token[1], token.end()
            hides = False
            if token.lastindex == Kind.KEY:
                replaced, hides = self._redact_key(string)
            else:
                replaced = self._redact_string(string)
                value = _NAMED_VALUE.match(payload, passed)
                if value and names_secret(decode_string(string)):
                    hides, passed = True, value.end()
            if replaced is not None:
                pieces += (payload[done:start], replaced)
                done = start + len(string)
            for token, replaced in self._hide_value(payload, passed) if hides else ():
                begin, end = token.span(1) if token[1] else token.span()
                if replaced is not None:
                    pieces += (payload[done:begin], replaced)
                    done = end
                passed = token.end()
        return b"".join((*pieces, payload[done:])) if pieces else payload

    def _hide_value(self, payload: bytes, start: int) -> Iterator[tuple[re.Match[bytes], bytes | None]]:
        """The tokens of the value that follows, each with what is to stand in its place."""
        depth = 0
        for token in TOKEN.finditer(payload, start):
            kind = token.lastindex
            replaced: bytes | None = None
            if kind == Kind.OPEN:
                depth += 1
            elif kind == Kind.CLOSE:
                depth -= 1
            elif kind == Kind.KEY:
                replaced, _ = self._redact_key(token[1])
            elif kind == Kind.STRING:
                text = decode_string(token[1])
                replaced = None if _MASKED.fullmatch(text) else f'"{self.fingerprint(text)}"'.encode()
            else:
                replaced = self._redact_bare(token[0])
            yield token, replaced
            if depth <= 0 and kind != Kind.KEY:
                return

    def _redact_fresh_key(self, token: bytes) -> tuple[bytes | None, bool]:
        """The key to stand in its place, None where it may stay, and whether it hides its value."""
        return self._redact_fresh_string(token), names_secret(decode_string(token))

    def _redact_fresh_string(self, token: bytes) -> bytes | None:
        """The string token to stand in its place, or None where it may stay."""
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
        url = _PLAIN_URL.fullmatch(text)
        if url is None or "%25" in text:
            return None
        meaning = unquote(text) if "%" in text else text
        for tail in self._tails:
            if tail in meaning:
                return None
        scheme, user, place, query = url.groups()
        if user is not None:
            scheme += self._hide(user) + "@"
        if query is not None:
            place += "?" + "&".join(map(self._redact_plain_parameter, query.split("&")))
        redacted = scheme + place
        lowered = redacted.lower()
        for marker in _TELLTALES:
            if marker in lowered:
                return None
        return None if _WIDE.search(lowered) else redacted

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

    Secrets hold slashes that nobody encoded (`s3://AKIA:SEC/RET@host/bucket`): where what follows the colon is no port,
    the last `@` before the query ends them. `https://host/@user/video.mp4` has no such colon and keeps its path.
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


def _remembering(function: Callable[[_Text], _Result]) -> Callable[[_Text], _Result]:
    """The function with its latest results for short arguments kept."""
    remembered = lru_cache(4096)(function)
    return lambda argument: remembered(argument) if len(argument) <= 256 else function(argument)


def _without_escaped_quotes(text: bytes) -> bytes:
    """JSON text, as long as before, with its escaped quotes made to look otherwise."""
    if b"\\" not in text:
        return text
    return text.replace(b"\\\\", b"\0\0").replace(b'\\"', _QUOTE).replace(b"\0\0", b"\\\\")


def _opener(text: str, scheme_end: int) -> str:
    """The character before the scheme that ends here."""
    before = text[max(0, scheme_end - _LONGEST_SCHEME) : scheme_end].rstrip(_SCHEME_CHARACTERS)
    return before[-1:]


def _spellings(literal: str) -> set[str]:
    """How JSON may write a literal; what percent encoding or \\u escapes make of it has markers of its own."""
    plain = {json.dumps(literal)[1:-1], json.dumps(literal, ensure_ascii=False)[1:-1]}
    return plain | {spelling.replace("/", "\\/") for spelling in plain}
