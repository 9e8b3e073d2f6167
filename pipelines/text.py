"""Text for people: what the API sends, sanitized for terminals, spreadsheets, in Markdown; ages in the unit that reads
best; and counted things."""

import html
import re
from typing import Any

from markupsafe import Markup, escape

# Controls move the cursor, change colours and titles, or split a line; the marks of writing direction make text look
# like another; half characters cannot be written at all.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_RAW_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # = + - @ of full width count as well


def printable(text: str) -> str:
    """The text in one line, its control characters written as escapes such as \\x1b."""
    return _CONTROLS.sub(_escaped, text)


def printable_json(text: str) -> str:
    """The same JSON; the controls that JSON need not escape are escaped too."""
    return _RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_like_formula(text: str) -> bool:
    """Whether a spreadsheet may take the text for a formula."""
    return text.startswith(_FORMULA)


def spreadsheet_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and is_like_formula(value) else value


def markdown_cell(text: str) -> str:
    """Text for a cell of a Markdown table: no markup, no HTML, no further cell."""
    return re.sub(r"[\\`*_\[\]()!|~#]", lambda found: f"&#{ord(found[0])};", html.escape(printable(text)))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def age(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def counted(count: int, noun: str) -> str:
    """1 task, 2,345 tasks, 0 tasks."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def with_code(text: str) -> Markup:
    """Text as HTML, with what stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))
