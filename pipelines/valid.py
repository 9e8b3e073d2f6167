"""What a setting may be: each function returns the value or raises ValueError with what it must be."""

import importlib
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from pipelines.home import Home

SECONDS_OF_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http(s) URL such as https://livepeer.studio/api")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no user, password, query or fragment: the key goes into LIVEPEER_API_KEY")
    return text.rstrip("/")


def time_zone(text: str) -> str:
    import zoneinfo

    if text != "UTC" and text not in zoneinfo.available_timezones():  # which reads some hundred files
        raise ValueError("must be a time zone of the tz database, such as UTC or Europe/Berlin")
    return text


CRON_RANGES = (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)


def cron(text: str) -> str:
    fields = text.split()
    if len(fields) == 5 and all(map(_is_cron_field, fields, CRON_RANGES)):
        return text
    raise ValueError("must be a cron line of five fields, such as 15 2 * * *")


def _is_cron_field(field: str, within: tuple[int, int]) -> bool:
    """Whether a field of a cron line is a list of numbers, ranges and steps, or of names."""
    for part in field.split(","):
        found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?|[A-Za-z]{3}(?:-[A-Za-z]{3})?)(?:/[1-9]\d*)?", part)
        if not found or not all(within[0] <= int(end) <= within[1] for end in found.groups() if end):
            return False
    return True


def rate(per_second: float) -> float:
    if 0 < per_second < 0.001:
        raise ValueError("must be 0, or at least 0.001")
    return per_second


def webhook(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _is_plain(text):
        raise ValueError("must be an http(s) URL such as https://hooks.slack.com/services/…")
    return secret


def smtp(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    parts = urlsplit(text)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or not _is_plain(text) or parts.path.strip("/"):
        raise ValueError("must be such as smtp://user:password@mail.example.com:587, or smtps://…; write @ as %40")
    return secret


def addresses(text: str) -> str:
    if not all(re.fullmatch(r"[^\s@,;:<>\"()]+@[\w.-]+", part.strip(" "), re.ASCII) for part in text.split(",")):
        raise ValueError("must be an e-mail address, or several with commas between them")
    return text


def _is_plain(url: str) -> bool:
    """Whether a URL holds neither blanks nor characters that must be written as % and digits, and its port is one."""
    with suppress(ValueError):
        return url.isascii() and url.isprintable() and " " not in url and urlsplit(url).port != 0
    return False


def home(value: Any) -> Any:
    return Home.at(value) if isinstance(value, Path | str) else value


class SloTarget(NamedTuple):
    """What share of a type's tasks is to complete in what time from their creation, seconds."""

    type: str
    share: float
    seconds: float


def slo_targets(text: str) -> list[SloTarget]:
    """The targets of a text such as `upload: 95% under 10m; export: 99% under 90s`. Raises ValueError for another."""
    targets = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        found = re.fullmatch(r"([\w-]+): *(\d+(?:\.\d+)?) ?% under (\d+(?:\.\d+)?)([smhd])", part)
        if found is None or not 0 < float(found[2]) < 100 or not float(found[3]):
            raise ValueError("must be targets such as `upload: 95% under 10m; export: 99% under 90s`")
        targets.append(SloTarget(found[1], float(found[2]) / 100, float(found[3]) * SECONDS_OF_UNIT[found[4]]))
    if len({target.type for target in targets}) < len(targets):
        raise ValueError("must name each type once")
    return targets


def slo(text: str) -> str:
    slo_targets(text)
    return text


def dsn(secret: SecretStr) -> SecretStr:
    """A URL that libpq reads as we do: of one that it reads otherwise, it would print parts of the password."""
    character = r"(?:[^\s@/?#:%]|%(?!00)[0-9A-Fa-f]{2})"
    rest = r"(?:[^\s@%]|%(?!00)[0-9A-Fa-f]{2})*"
    if not re.fullmatch(rf"postgres(?:ql)?://(?:{character}+(?::{character}*)?@)?{rest}", secret.get_secret_value()):
        raise ValueError(
            "must be a URL such as postgresql://user:password@host:5432/database, "
            "in which : / ? # @ % and blanks of user and password are written as %3A %2F %3F %23 %40 %25 %20"
        )
    return secret


def lake(text: str) -> str:
    if Path(text).is_absolute() or re.fullmatch(r"[a-z][a-z0-9]*://[^\s?#@]+", text):
        return text.rstrip("/")
    raise ValueError(
        "must be a folder's full path, or a URL such as s3://bucket/path; keys go into PyIceberg's settings"
    )


def object_store(text: str) -> str:
    if re.fullmatch(r"(?:s3|gs|az|abfss?)://[^\s?#@]+", text):
        return text.rstrip("/")
    raise ValueError("must be a URL such as s3://bucket/path, gs://… or az://…; keys go where the store's tools look")


def identifier(text: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", text):
        raise ValueError("must be a name of small letters, digits and _")
    return text


def identifier_or_none(text: str) -> str:
    return text and identifier(text)


def executor(name: str) -> str:
    """Dagster's own executors by their names, any other as module:name of what is installed."""
    if name in ("in_process", "multiprocess"):
        return name
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None) if module and attribute else None
    except ImportError as error:
        raise ValueError(f"{error}: install the package that has it") from None
    if type(found).__name__ != "ExecutorDefinition":
        raise ValueError("must be in_process, multiprocess, or module:name of an executor of Dagster")
    return name
