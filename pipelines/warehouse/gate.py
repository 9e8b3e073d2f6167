"""The type gate: what DuckDB may parse.

DuckDB's JSON reading is fast and silently wrong on odd values: it rounds 29.97 to 30 in a BIGINT, makes text of
objects, NULL of 2^63, and takes the first of two equal keys. So a payload passes only if it fits the contract. Any
other is taken apart here: what does not fit leaves NULL and a problem, which becomes a row of `quarantine`.
"""

import json
import math
import re
from types import GenericAlias
from typing import Annotated, Any, NamedTuple

import msgspec

from pipelines.livepeer.tasks.contract import TASK, Kind, Shape

INT64 = (-(2**63), 2**63 - 1)
MILLIS = (-62_135_596_800_000, 253_402_300_799_999)
LONGEST_VALUE = 200
_POSITION = re.compile(r"\[\d+\]")


class Problem(NamedTuple):
    """A value that does not fit: where (a JSON path), what (shortened), and why not."""

    path: str
    value: str
    reason: str


class Unknown(NamedTuple):
    """A value where the contract knows no field: its path, list positions left out, and the value, shortened."""

    path: str
    value: str


class Gated(NamedTuple):
    """A payload that fits the contract, or None where there is no task in it; what was left out to get there, and what
    the contract does not know."""

    payload: str | None
    problems: list[Problem]
    unknown: list[Unknown]


_SCALARS: dict[Kind, Any] = {
    Kind.TEXT: str,
    Kind.INTEGER: Annotated[int, msgspec.Meta(ge=INT64[0], le=INT64[1])],
    Kind.NUMBER: Annotated[int, msgspec.Meta(ge=INT64[0], le=INT64[1])] | float,
    Kind.BOOLEAN: bool,
    Kind.MILLIS: Annotated[int, msgspec.Meta(ge=MILLIS[0], le=MILLIS[1])],
    Kind.JSON: msgspec.Raw,
}


def _typed(shape: Shape, name: str) -> Any:
    """The msgspec type of a shape. UNSET, not None, stands for absence: an explicit null must come back as one."""
    if isinstance(shape, Kind):
        return _SCALARS[shape]
    if isinstance(shape, list):
        return GenericAlias(list, (_typed(shape[0], name) | None,))
    fields = []
    for number, (key, inner) in enumerate(shape.items()):
        kind = _typed(inner, f"{name}_{number}")
        optional = msgspec.Raw | msgspec.UnsetType if kind is msgspec.Raw else kind | None | msgspec.UnsetType
        fields.append((f"f{number}", optional, msgspec.field(default=msgspec.UNSET, name=key)))
    return msgspec.defstruct(name, fields, omit_defaults=True, gc=False)


def duckdb_type(shape: Shape, unparsed: Shape | None = None) -> Any:
    """The structure argument of DuckDB's from_json; fields of the shape `unparsed` stay JSON."""
    if shape is unparsed:
        return Kind.JSON.value
    if isinstance(shape, Kind):
        return shape.value
    if isinstance(shape, list):
        return [duckdb_type(shape[0], unparsed)]
    return {key: duckdb_type(inner, unparsed) for key, inner in shape.items()}


_decoder = msgspec.json.Decoder(_typed(TASK, "Task"))
_encoder = msgspec.json.Encoder()


def fits(payload: bytes) -> bool:
    """Whether a payload fits the contract as it is.

    The test is a round trip: what the contract understands whole comes back as long as it was. An unknown field, a key
    given twice or a number spelt oddly makes it differ, and is looked at closely.
    """
    try:
        task = _decoder.decode(payload)
        return bool(task.f0) and len(_encoder.encode(task)) == len(payload)
    except (msgspec.DecodeError, RecursionError):
        return False


def gate(payload: str) -> Gated:
    """Takes apart a payload that does not fit as it is."""
    found = Gated(payload, [], [])
    try:
        task = json.loads(
            payload, object_pairs_hook=_Pairs, parse_int=_Verbatim, parse_float=_Verbatim, parse_constant=_Verbatim
        )
        fitted = _fit(TASK, task, "$", found)
        if not isinstance(fitted, dict) or not fitted.get("id"):
            return Gated(None, [Problem("$", _short(payload), "is no task: it has no id")], [])
        # Without what is unknown: half characters or NaN in it would stop DuckDB, and with it every other task.
        return found._replace(payload=_dump(fitted))
    except RecursionError:
        return Gated(None, [Problem("$", _short(payload), "is nested too deeply to be read")], [])
    except ValueError as error:
        return Gated(None, [Problem("$", _short(payload), f"is no JSON: {error}")], [])


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, keys given twice included."""


class _Verbatim(str):
    """JSON text that is written again as it stands: numbers as they were spelt, NaN included."""


def _fit(shape: Shape, value: Any, path: str, found: Gated) -> Any:
    """The part of `value` that fits `shape`; adds to `found` what does not and what is unknown. None is null."""
    if value is None:
        return None
    if isinstance(shape, Kind):
        return _fit_scalar(shape, value, path, found)
    if isinstance(shape, list):
        if isinstance(value, list) and not isinstance(value, _Pairs):
            return [_fit(shape[0], item, f"{path}[{index}]", found) for index, item in enumerate(value)]
    elif isinstance(value, _Pairs):
        fields: dict[str, Any] = {}
        for key, inner in value:
            if key in shape:
                if key in fields:
                    found.problems.append(
                        Problem(f"{path}.{key}", _short(_dump(fields[key])), "is given twice: the last one counts")
                    )
                fields[key] = _fit(shape[key], inner, f"{path}.{key}", found)
            else:
                found.unknown.append(Unknown(_short(_POSITION.sub("[]", f"{path}.{key}")), _short(_dump(inner))))
        return fields
    found.problems.append(
        Problem(path, _short(_dump(value)), "is no list" if isinstance(shape, list) else "is no object")
    )
    return None


def _fit_scalar(kind: Kind, value: Any, path: str, found: Gated) -> Any:
    fitted: Any = None
    reason = f"is no {kind.name.lower()}" if kind is not Kind.MILLIS else "is no time in milliseconds"
    if kind is Kind.JSON:
        fitted, reason = _strict(value)
    elif kind is Kind.TEXT and isinstance(value, str) and not isinstance(value, _Verbatim):
        fitted, reason = _well_formed(value)
    elif kind is Kind.BOOLEAN and isinstance(value, bool):
        fitted, reason = value, ""
    elif kind is Kind.NUMBER and isinstance(value, _Verbatim):
        number = float(value)
        fitted, reason = (number, "") if math.isfinite(number) else (None, "is no finite number")
    elif kind in (Kind.INTEGER, Kind.MILLIS) and isinstance(value, _Verbatim):
        fitted, reason = _whole(value, *(INT64 if kind is Kind.INTEGER else MILLIS))
    if reason:
        found.problems.append(Problem(path, _short(_dump(value)), reason))
    return fitted


def _whole(text: str, low: int, high: int) -> tuple[int | None, str]:
    number = float(text)
    if not math.isfinite(number) or number != math.floor(number):
        return None, "is no whole number"
    whole = int(text) if text.lstrip("-").isdecimal() else int(number)
    return (whole, "") if low <= whole <= high else (None, f"is not between {low} and {high}")


def _well_formed(text: str) -> tuple[str, str]:
    """Lone surrogates fail in every parser; the text is kept without them."""
    clean = text.encode("utf-8", "replace").decode()
    return clean, "" if clean == text else "holds half a character, replaced by ?"


def _strict(value: Any) -> tuple[_Verbatim | None, str]:
    """Free-form JSON as far as DuckDB can read it: not NaN, not Infinity."""
    text, reason = _well_formed(_dump(value))
    try:
        msgspec.json.decode(text.encode(), type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return None, "is no strict JSON: it holds NaN or Infinity, or is nested too deeply"
    return _Verbatim(text), reason


def _dump(value: Any) -> str:
    """JSON text, numbers and pairs as they were written. Nothing recurses: an odd value may be nested deeply."""
    written: list[str] = []
    left: list[Any] = [value]  # the last comes first; what is text already is a _Verbatim
    while left:
        item = left.pop()
        if isinstance(item, _Verbatim):
            written.append(item)
        elif isinstance(item, _Pairs | dict):
            pairs = list(item.items()) if isinstance(item, dict) else item
            written.append("{")
            left.append(_Verbatim("}"))
            for number, (key, inner) in reversed(list(enumerate(pairs))):
                left += (inner, _Verbatim(f"{',' * (number > 0)}{json.dumps(key, ensure_ascii=False)}:"))
        elif isinstance(item, list):
            written.append("[")
            left.append(_Verbatim("]"))
            for number, inner in reversed(list(enumerate(item))):
                left += (inner, _Verbatim("," * (number > 0)))
        else:
            written.append(json.dumps(item, ensure_ascii=False))
    return "".join(written)


def _short(text: str) -> str:
    clean = text.encode("utf-8", "replace").decode()
    return clean if len(clean) <= LONGEST_VALUE else f"{clean[: LONGEST_VALUE - 1]}…"
