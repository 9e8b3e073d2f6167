"""Secrets in URLs: user information, query and fragment values go, whatever they are called.

A URL may stand anywhere in a text, within another one, and with any of its characters encoded.
"""

import re
import string
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from pipelines.livepeer.secret_rules import MASKED


def char(character: str) -> str:
    """The character as it stands in a URL, or hidden by percent encoding (however often) or a JSON escape."""
    hidden = "".join(f"%(?:25)*+{byte:02x}" for byte in character.encode())
    return rf"(?:{re.escape(character)}|(?i:{hidden}|\\u{ord(character):04x}))"


@dataclass(frozen=True)
class _Grammar:
    """What separates the parts of a URL. Within an encoded URL the separators are encoded; elsewhere they are text."""

    authority_end: re.Pattern[str]
    query: re.Pattern[str]
    pair: re.Pattern[str]
    equals: re.Pattern[str]


def _grammar(written: Callable[[str], str]) -> _Grammar:
    def compiled(pattern: str) -> re.Pattern[str]:
        return re.compile(pattern, re.IGNORECASE)

    slash, question, fragment, ampersand, equals = map(written, "/?#&=")
    return _Grammar(
        authority_end=compiled(rf"\\?{slash}|{question}|{fragment}"),
        query=compiled(rf"{question}|{fragment}"),
        pair=compiled(rf"{question}|{fragment}|{ampersand}"),
        equals=compiled(equals),
    )


_PLAIN, _ENCODED = _grammar(re.escape), _grammar(char)
_SCHEME_END = re.compile(rf"(:(?:\\{{0,8}}/){{2}})|{char(':')}(?:\\{{0,8}}{char('/')}){{2}}", re.IGNORECASE)
_AT = re.compile(char("@"), re.IGNORECASE)
_COLON = re.compile(rf"{char(':')}(?![/\\])", re.IGNORECASE)
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
SENTENCE_END = ".,;:!?)]}>'\"\\"
_WORD = re.compile(r"[^\s\"'<>`]+")
_USER = re.compile(r"[^=,;|(){}\[\]&?]*\Z")
PARAMETER = re.compile(r"(?:amp;)?(?=.{1,48}$)[A-Za-z]{1,24}\d{0,4}(?:[-_.\[\]:$]+[A-Za-z]{0,24}\d{0,4}){0,8}")
_PLAIN_NAME = re.compile(r"(?:amp;)?(?:[A-Z]-)?[A-Za-z][a-z]{0,12}(?:(?:[-_.][A-Za-z]|[A-Z])[a-z]{0,12}){0,4}")
_SCHEME_CHARACTERS = string.ascii_letters + string.digits + "+.-"


class UrlRedactor:
    """Replaces what is secret in the URLs of a text. `hide` makes what stands for a secret; its second argument is the
    secret with percent encoding undone."""

    def __init__(self, hide: Callable[[str, str], str]) -> None:
        self._hide = hide

    def redact(self, text: str) -> str:
        """The text without secrets in URLs, those without a scheme included."""
        if _SCHEME_END.search(text):
            text = self._redact_urls(text)
        return _WORD.sub(self._redact_user, text) if _AT.search(text) else text

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
            end = start + len(text[start : closer if closer >= 0 else space].rstrip(SENTENCE_END))
            begin = max(done, scheme_end.start() - _LONGEST_SCHEME)
            pieces += (text[done:begin], self._redact_url(text[begin:end]))
            done = end
        return "".join((*pieces, text[done:]))

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
        return head[:start] + self._hide(head[start:at], head[start:at]) + text[at:]

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
                pieces += (url[done:start], self._hide(url[start:end], unquoted(url[start:end])))
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
            return self._hide(parameter, unquoted(parameter))
        name, value = parameter[: equals.start()], parameter[equals.end() :]
        if not value.strip("="):  # a parameter without a value, or the padding of a secret without a name
            stays = not value and (_PLAIN_NAME.fullmatch(name) or MASKED.fullmatch(name))
            return parameter if stays else self._hide(parameter, unquoted(parameter))
        shown = name if PARAMETER.fullmatch(name) else self._hide(name, unquoted(name))
        return f"{shown}{equals[0]}{self._hide(value, unquoted(value))}"


def _user_end(url: str, scheme_end: re.Match[str], grammar: _Grammar, ats: "_Lasts", query: int) -> int | None:
    """Where the user information that follows a scheme ends (at its `@`), or None where there is none.

    Secrets hold slashes that are not encoded (`s3://AKIA:SEC/RET@host/bucket`): where no port follows the colon, the
    last `@` before the query ends them. `https://host/@user/video.mp4` has no such colon and keeps its path.
    """
    start = scheme_end.end()
    end = grammar.authority_end.search(url, start)
    authority = url[start : end.start() if end else len(url)]
    at = _last(_AT, authority)
    host = unquoted(authority[at + 1 :] if at is not None else authority)
    scheme = url[max(0, scheme_end.start() - 12) : scheme_end.start()]
    stretched = not _HOST.fullmatch(host) or _PROOF.search(scheme) or (":" in host and _STORE.search(scheme))
    if stretched:
        for limit in (query, len(url)):
            later = ats.before(limit, start)
            if later is not None:
                return later
    return None if at is None else start + at


def unquoted(text: str) -> str:
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


def _opener(text: str, scheme_end: int) -> str:
    """The character before the scheme that ends here."""
    before = text[max(0, scheme_end - _LONGEST_SCHEME) : scheme_end].rstrip(_SCHEME_CHARACTERS)
    return before[-1:]
