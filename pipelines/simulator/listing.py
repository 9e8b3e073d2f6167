"""What `GET /api/task` means: limit, order, filters, cursor, count and the Link header.

    rows of the key's user and project, not deleted
      -> kept by the filters and by an id cursor    (counted here for X-Total-Count)
      -> sorted by `order`, ties in no order at all
      -> cut at the offset of a skipN cursor and at the limit

An id cursor keeps the rows with a greater id whatever the order is: right with `order=id-false`, wrong pages with
any other. `cursor=undefined`, which the last page links to, is nothing but such an id: no hexadecimal id is greater.
"""

import base64
import binascii
import json
import random
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote_plus, unquote

from pipelines.simulator.errors import bad_filters, database_error, malformed_row, refused
from pipelines.simulator.store import TIMES, Account, Order, Row, Store, as_bigint, sort_key, text_of

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000
SORTABLE = ("id", "name", *TIMES, "userId", "type", "inputAssetId", "outputAssetId", "projectId")

BY_ID: Order = (("id", False),)
NEWEST_UPDATED: Order = (("updatedAt", True), ("createdAt", True))
NEWEST_CREATED: Order = (("createdAt", True), ("id", False))


@dataclass(frozen=True)
class Page:
    """A page of the list. `next_cursor` goes into the Link header, `total` into X-Total-Count; None: no header."""

    rows: list[Row]
    next_cursor: str | None = None
    total: int | None = None

    def body(self) -> bytes:
        """The JSON array; one malformed row spoils the page."""
        for row in self.rows:
            if row.error:
                raise malformed_row(row.error)
        return b"[%b]" % b",".join([row.body for row in self.rows])


@dataclass(frozen=True)
class Filters:
    """`windows`: times as half-open ranges of ms. `texts`: exact matches. All must hold."""

    windows: dict[str, range] = field(default_factory=dict)
    texts: list[tuple[str, str]] = field(default_factory=list)


def studio_page(store: Store, account: Account, params: Mapping[str, str], as_of: int | None, salt: str) -> Page:
    """The page that today's server gives. `salt` decides how it happens to order ties in this request."""
    limit = parse_limit(params.get("limit"))
    order = parse_order(params.get("order"))
    filters = parse_filters(params.get("filters"))
    offset, id_after = parse_cursor(params.get("cursor"))

    if store.has_unreadable(account, {name for name, _ in order} | filters.windows.keys()):
        raise database_error()  # a createdAt stored as text breaks every query that casts it

    rows = store.ordered(account, order, as_of)
    for name, window in filters.windows.items():
        rows = _within(rows, order, name, window)
    for name, text in filters.texts:
        rows = [row for row in rows if _matches(row, name, text)]
    if id_after is not None:
        rows = _after(rows, order, id_after)

    page = _cut(rows, order, offset, limit, salt)
    if not page:
        return Page([])
    next_cursor = f"skip{offset + limit}" if len(page) == limit else "undefined"
    return Page(page, next_cursor, len(rows) if params.get("count") else None)


def legacy_page(store: Store, account: Account, params: Mapping[str, str], as_of: int | None, opaque: bool) -> Page:
    """The older API: newest first, limit and cursor only; whatever else is asked for is ignored without a word."""
    limit = parse_limit(params.get("limit"))
    cursor = params.get("cursor", "")
    offset = _decode_offset(cursor) if opaque else int(cursor[4:]) if re.fullmatch(r"skip\d+", cursor) else 0
    page = store.ordered(account, NEWEST_CREATED, as_of)[offset : offset + limit]
    if len(page) < limit:
        return Page(page)
    return Page(page, _encode_offset(offset + limit) if opaque else f"skip{offset + limit}")


def next_link(host: str, target: str, cursor: str) -> str:
    """The Link header: the request's own URL, `http` whatever it came by, its query written anew with the cursor."""
    path, _, query = target.partition("?")
    asked = parse_qsl(query, keep_blank_values=True)
    pairs = [(name, cursor if name == "cursor" else value) for name, value in asked]
    if "cursor" not in dict(asked):
        pairs.append(("cursor", cursor))
    written = "&".join(f"{_form(name)}={_form(value)}" for name, value in pairs)
    return f'<http://{host}{path}?{written}>; rel="next"'


def query_of(target: str) -> dict[str, str]:
    """Query parameters of a request; one that comes twice is joined by a comma, as Express's toString does."""
    params: dict[str, str] = {}
    for name, value in parse_qsl(target.partition("?")[2], keep_blank_values=True):
        params[name] = f"{params[name]},{value}" if name in params else value
    return params


def parse_limit(text: str | None) -> int:
    number = re.match(r"\s*[+-]?\d+", text or "")  # what JavaScript's parseInt reads
    limit = int(number[0]) if number else 0
    return min(limit, MAX_LIMIT) if limit > 0 else DEFAULT_LIMIT


def parse_order(text: str | None) -> Order:
    if not text:
        return NEWEST_UPDATED
    parts = [part.split("-") for part in text.split(",")]
    order = tuple((part[0], part[1] == "true") for part in parts if len(part) == 2 and part[0] in SORTABLE)
    return order or BY_ID


def parse_cursor(text: str | None) -> tuple[int, str | None]:
    """Offset and id cursor."""
    if not text:
        return 0, None
    if not text.startswith("skip"):
        return 0, text
    if not re.fullmatch(r"skip\d+", text):
        raise database_error()
    return int(text[4:]), None


def parse_filters(text: str | None) -> Filters:
    filters = Filters()
    if not text:
        return filters
    try:
        conditions = json.loads(unquote(text))
    except ValueError:
        raise bad_filters(_syntax_error(unquote(text))) from None
    if not isinstance(conditions, list):
        raise bad_filters("Error: must be an array")
    for condition in conditions:
        name = condition.get("id", "undefined")
        if name not in SORTABLE:
            raise bad_filters(f'Error: unknown field: "{name}"')
        if "value" not in condition:
            raise bad_filters(f'Error: missing filter value for id "{name}"')
        value = condition["value"]
        if name in TIMES:
            window = _window(value)
            other = filters.windows.get(name, window)
            filters.windows[name] = range(max(window.start, other.start), min(window.stop, other.stop))
        else:
            filters.texts.append((name, value if isinstance(value, str) else json.dumps(value)))
    return filters


def _window(value: object) -> range:
    """The times a condition lets through; a bare value means equal. Rows without the time never get through."""
    start, stop = 0, 2**63
    for comparison, bound in (value if isinstance(value, dict) else {"": value}).items():
        match comparison:
            case "gt":
                start = max(start, _bigint(bound) + 1)
            case "gte":
                start = max(start, _bigint(bound))
            case "lt":
                stop = min(stop, _bigint(bound))
            case "lte":
                stop = min(stop, _bigint(bound) + 1)
            case "":
                start, stop = _bigint(bound), _bigint(bound) + 1
            case _:
                raise bad_filters(f'Error: unknown comparison: "{comparison}"')
    return range(start, stop)


def _bigint(value: object) -> int:
    number = as_bigint(value)
    if value is None or number is None:
        raise database_error()
    return number


def _within(rows: list[Row], order: Order, name: str, window: range) -> list[Row]:
    """Rows whose time lies in the window: two bisections where they are sorted by it."""
    time = TIMES[name]
    if order[0] == (name, False):
        return rows[bisect_left(rows, window.start, key=time) : bisect_left(rows, window.stop, key=time)]
    if order[0] == (name, True):
        first, last = (bisect_right(rows, -end, key=lambda row: -time(row)) for end in (window.stop, window.start))
        return rows[first:last]
    return [row for row in rows if time(row) in window]


def _after(rows: list[Row], order: Order, task_id: str) -> list[Row]:
    if order[0] == ("id", False):
        return rows[bisect_right(rows, task_id, key=lambda row: row.id) :]
    return [row for row in rows if row.id > task_id]


def _matches(row: Row, name: str, text: str) -> bool:
    value = text_of(row, name)
    if name == "name":  # the one field that is searched, not compared
        return text.lower() in (value or "").lower()
    return value == text


def _cut(rows: list[Row], order: Order, offset: int, limit: int, salt: str) -> list[Row]:
    """The rows of a page. PostgreSQL promises nothing about ties, so they come in another order in each request:
    the groups of equal rows that the page touches are shuffled, and the page is cut out of them."""
    start, stop = offset, min(offset + limit, len(rows))
    if start >= stop or any(name == "id" for name, _ in order):
        return rows[start:stop]
    keys = [sort_key(name, descending) for name, descending in order]

    def tied(one: Row, other: Row) -> bool:
        return all(key(one) == key(other) for key in keys)

    while start > 0 and tied(rows[start - 1], rows[start]):
        start -= 1
    while stop < len(rows) and tied(rows[stop - 1], rows[stop]):
        stop += 1
    shuffle = random.Random(salt).shuffle
    touched: list[Row] = []
    group = [rows[start]]
    for row in rows[start + 1 : stop]:
        if not tied(group[-1], row):
            shuffle(group)
            touched += group
            group = []
        group.append(row)
    shuffle(group)
    touched += group
    return touched[offset - start : offset - start + limit]


def _syntax_error(text: str) -> str:
    """V8's words for the first character that is not JSON."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        at = error.pos
        for literal in ("null", "true", "false"):  # V8 reads a literal letter by letter, Python as a whole
            at += sum(text.startswith(literal[:length], error.pos) for length in range(1, len(literal)))
        if at < len(text):
            return f"SyntaxError: Unexpected token '{text[at]}', \"{text}\" is not valid JSON"
    return "SyntaxError: Unexpected end of JSON input"


def _encode_offset(offset: int) -> str:
    return base64.urlsafe_b64encode(f"offset:{offset}".encode()).decode()


def _decode_offset(token: str) -> int:
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token).removeprefix(b"offset:"))
    except (binascii.Error, ValueError):
        raise refused(400, "invalid cursor") from None


def _form(text: str) -> str:
    """application/x-www-form-urlencoded as JavaScript's URLSearchParams writes it."""
    return quote_plus(text, safe="*").replace("~", "%7E")
