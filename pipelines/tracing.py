"""Spans of OpenTelemetry, for who wants traces of runs: `opentelemetry-instrument task-archive sync`.

Without its API installed, or without an exporter set, they cost nothing and go nowhere.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Note = Callable[[str, Any], object]


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[Note]:
    """A span; yields what notes further attributes on it. Values are text, numbers or booleans, and never secret."""
    try:
        from opentelemetry import trace
    except ImportError:
        yield lambda key, value: None
        return
    tracer = trace.get_tracer("task-archive")
    # A message may hold what is secret.
    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current.set_attribute
        except BaseException as error:
            current.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise
