"""Sentences of the report: text of a query in which `{column:format}` stands for a value.

Formats: `percent`, `number`, `duration`, `day`, `cut` (a long text's beginning), `count NOUN` (1 task, 2 tasks, no
tasks), `than COLUMN` (12 % more than, with the value of that column), and none for text as it is.
"""

from collections.abc import Mapping
from string import Formatter
from typing import Any

from pipelines.report.formatting import change, counted, duration, number, percent, short_day
from pipelines.text import printable

LONGEST_TEXT = 90


def sentence(template: str, values: Mapping[str, Any]) -> str:
    """The text with its values. Raises KeyError for a column that is not there, ValueError for an unknown format."""
    return _Sentences().vformat(template, (), values)


class _Sentences(Formatter):
    def vformat(self, format_string: str, args: Any, kwargs: Mapping[str, Any]) -> str:
        self._values = kwargs
        return super().vformat(format_string, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> str:
        kind, _, argument = format_spec.partition(" ")
        match kind:
            case "":
                return printable(str(value))
            case "percent":
                return percent(value)
            case "number":
                return number(value)
            case "duration":
                return duration(value)
            case "day":
                return short_day(value)
            case "count":
                return counted(value, argument)
            case "than":
                return _than(value, self._values[argument])
            case "cut":
                text = printable(str(value))
                return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}\N{HORIZONTAL ELLIPSIS}"
        raise ValueError(f"a sentence has no format {format_spec!r}")


def _than(now: float, then: float) -> str:
    """12 % more than, 2.5 times as much as, the same as."""
    said = change(now, then)
    return f"{said} {'as' if 'same' in said or 'times' in said else 'than'}"
