"""Days and moments as people give them: 2026-11-20, today, yesterday, -7d; a timestamp where a moment is wanted."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from pipelines.errors import SettingsError

FORMS = "a day such as 2026-11-20, today, yesterday or -7d"


def day_of(text: str, zone: str) -> date:
    """The day that a text names, in a time zone. Raises SettingsError where it names none."""
    today = datetime.now(ZoneInfo(zone)).date()
    if text in ("today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    if ago := re.fullmatch(r"-(\d{1,5})d", text):
        return today - timedelta(days=int(ago[1]))
    try:
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else _none(text)
    except ValueError:
        return _none(text)


def moment_of(text: str) -> datetime:
    """The moment that a text names, in UTC where it names no zone; of a day its beginning. Raises as day_of does."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.combine(day_of(text, "UTC"), datetime.min.time())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _none(text: str) -> date:
    raise SettingsError(f"{text!r} is not {FORMS}, or a timestamp such as 2026-11-17T06:00 where one is allowed")
