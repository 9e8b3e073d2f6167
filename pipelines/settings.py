"""Every setting, its environment variable and its default: the one place.

Values come from the environment, then from a `.env` file in the working directory. `LIVEPEER_API_KEY` is the key of
the account `default`; `LIVEPEER_API_KEY__<ACCOUNT>` adds further accounts or projects under a name of their own.
`LIVEPEER_WEBHOOK_SECRET` and `LIVEPEER_WEBHOOK_SECRET__<ACCOUNT>` are the shared secrets of their webhooks.
"""

import math
import os
import re
import resource
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipelines.errors import SettingsError, unknown
from pipelines.home import Home

ENV_FILE = ".env"
KEY_VARIABLE = "LIVEPEER_API_KEY"
WEBHOOK_VARIABLE = "LIVEPEER_WEBHOOK_SECRET"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
# With less, DuckDB crashes or hangs. A thread for each core reserves room of its own.
LEAST_ADDRESS_SPACE_MB = 3_600 + 200 * (os.cpu_count() or 1)
SECONDS_OF_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http(s) URL such as https://livepeer.studio/api")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no user, password, query or fragment: the key goes into LIVEPEER_API_KEY")
    return text.rstrip("/")


def _time_zone(text: str) -> str:
    import zoneinfo

    if text not in zoneinfo.available_timezones():
        raise ValueError("must be a time zone of the tz database, such as UTC or Europe/Berlin")
    return text


CRON_RANGES = (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)


def _cron(text: str) -> str:
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


def _rate(per_second: float) -> float:
    if 0 < per_second < 0.001:
        raise ValueError("must be 0, or at least 0.001")
    return per_second


def _webhook(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _is_plain(text):
        raise ValueError("must be an http(s) URL such as https://hooks.slack.com/services/…")
    return secret


def _smtp(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    parts = urlsplit(text)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or not _is_plain(text) or parts.path.strip("/"):
        raise ValueError("must be such as smtp://user:password@mail.example.com:587, or smtps://…; write @ as %40")
    return secret


def _addresses(text: str) -> str:
    if not all(re.fullmatch(r"[^\s@,;:<>\"()]+@[\w.-]+", part.strip(" "), re.ASCII) for part in text.split(",")):
        raise ValueError("must be an e-mail address, or several with commas between them")
    return text


def _is_plain(url: str) -> bool:
    """Whether a URL holds neither blanks nor characters that must be written as % and digits, and its port is one."""
    with suppress(ValueError):
        return url.isascii() and url.isprintable() and " " not in url and urlsplit(url).port != 0
    return False


def _home(value: Any) -> Any:
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


def _slo(text: str) -> str:
    slo_targets(text)
    return text


def _dsn(secret: SecretStr) -> SecretStr:
    """A URL that libpq reads as we do: of one that it reads otherwise, it would print parts of the password."""
    character = r"(?:[^\s@/?#:%]|%(?!00)[0-9A-Fa-f]{2})"
    rest = r"(?:[^\s@%]|%(?!00)[0-9A-Fa-f]{2})*"
    if not re.fullmatch(rf"postgres(?:ql)?://(?:{character}+(?::{character}*)?@)?{rest}", secret.get_secret_value()):
        raise ValueError(
            "must be a URL such as postgresql://user:password@host:5432/database, "
            "in which : / ? # @ % and blanks of user and password are written as %3A %2F %3F %23 %40 %25 %20"
        )
    return secret


def _lake(text: str) -> str:
    if Path(text).is_absolute() or re.fullmatch(r"[a-z][a-z0-9]*://[^\s?#@]+", text):
        return text.rstrip("/")
    raise ValueError(
        "must be a folder's full path, or a URL such as s3://bucket/path; keys go into PyIceberg's settings"
    )


def _object_store(text: str) -> str:
    if re.fullmatch(r"(?:s3|gs|az|abfss?)://[^\s?#@]+", text):
        return text.rstrip("/")
    raise ValueError("must be a URL such as s3://bucket/path, gs://… or az://…; keys go where the store's tools look")


def _identifier(text: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", text):
        raise ValueError("must be a name of small letters, digits and _")
    return text


def _identifier_or_none(text: str) -> str:
    return text and _identifier(text)


class Settings(BaseSettings):
    """The settings of one archive. Units are in the names."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, extra="ignore", populate_by_name=True, env_prefix="TASK_ARCHIVE_"
    )

    api_url: Annotated[str, AfterValidator(_url)] = Field(
        "https://livepeer.studio/api", validation_alias="LIVEPEER_API_URL", description="the API's base URL"
    )
    home: Annotated[Home, NoDecode, BeforeValidator(_home)] = Field(
        default_factory=lambda: Home.at("archive"), description="folder of the archive, made when missing"
    )
    page_size: int = Field(1000, ge=1, le=1000, description="tasks asked for in one request")
    overlap_seconds: int = Field(
        900,
        ge=0,
        le=30 * 86_400,
        description="how far before the last proven point a change window starts, for rows that become visible late",
    )
    request_timeout_seconds: float = Field(
        120, gt=0, le=86_400, description="longest silence of the server before an answer, or within it"
    )
    answer_seconds: float = Field(600, gt=0, le=86_400, description="longest time that one answer may take in all")
    answer_mb: int = Field(100, ge=1, description="largest answer that is taken, megabytes unpacked")
    pages_beyond_count: int = Field(
        1000,
        ge=1,
        description="pages that a list may have beyond what the server's count suggests, which stops one without end",
    )
    attempts: int = Field(6, ge=1, description="attempts at a request that fails transiently")
    retry_wait_seconds: float = Field(
        1,
        ge=0,
        le=300,
        description="wait before the second attempt; doubles with jitter, a Retry-After counts more",
    )
    requests_per_second: Annotated[float, AfterValidator(_rate)] = Field(
        0,
        ge=0,
        description="most requests sent in a second; 0 sends the next when the last is answered",
    )
    allow_http: bool = Field(
        False,
        description="allow plain http to a host that is not loopback: the key would travel unencrypted",
    )
    schedule: Annotated[str, AfterValidator(_cron)] = Field("15 2 * * *", description="cron line of the nightly job")
    sweep_schedule: Annotated[str, AfterValidator(_cron)] = Field(
        "45 3 * * 0",
        description="cron line of the sweep, which finds what changes alone cannot show",
    )
    observe_seconds: int = Field(
        300,
        ge=30,
        le=86_400,
        description="how often the sensor observe looks for news, once it is switched on",
    )
    observe_lookups: int = Field(
        100,
        ge=0,
        description="most open tasks that an observe run asks for by id",
    )
    time_zone: Annotated[str, AfterValidator(_time_zone)] = Field(
        "UTC",
        description="time zone of the schedules, and of the days that numbers are grouped by",
    )
    stuck_running_seconds: int = Field(
        300,
        ge=1,
        description="a running task silent for longer is stuck (the server's own limit for lost tasks)",
    )
    stuck_waiting_seconds: int = Field(
        21600,
        ge=1,
        description="a waiting task silent for longer is stuck (the server's own limit for lost tasks)",
    )
    abandoned_seconds: int = Field(
        86400,
        ge=1,
        description="a pending task never scheduled and older than this is an abandoned upload",
    )
    slo: Annotated[str, AfterValidator(_slo)] = Field(
        "upload: 95% under 10m",
        description="share of a type's tasks to complete in a time from their creation; several with ; between them",
    )
    concurrency_limit: int | None = Field(
        None,
        ge=1,
        description="tasks that the account may have under way at once, to compare with",
    )
    lock_wait_seconds: float = Field(
        600,
        ge=0,
        le=604_800,
        description="how long a run waits for another one on the same home before it gives up",
    )
    executor: Literal["in_process", "multiprocess"] = Field(
        "in_process",
        description="how runs of Dagster's daemon execute: their steps in one process, or each in one of its own",
    )
    memory_mb: int = Field(
        250,
        ge=100,
        description="memory that building tables may take, megabytes; more is faster on large accounts",
    )
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb", description="what makes all tables, the first time and after a change of code: see docs/scale.md"
    )
    spark_master: str = Field(
        "local[*]",
        description="Spark's master: local[*], spark://host:7077, yarn or k8s://…; all its machines must see the home",
    )
    keep_runs: int = Field(1000, ge=10, description="runs of a job that Dagster keeps, with their events")
    keep_versions: int = Field(3, ge=1, description="published versions kept for open readers")
    alert_webhook_url: Annotated[SecretStr, AfterValidator(_webhook)] | None = Field(
        None,
        description="alerts go to this webhook of Slack or its like; the URL is a secret",
    )
    alert_email_to: Annotated[str, AfterValidator(_addresses)] | None = Field(
        None,
        description="alerts go to these e-mail addresses, commas between them",
    )
    alert_email_from: Annotated[str, AfterValidator(_addresses)] | None = Field(
        None,
        description="sender of the mails; default: the first that they go to",
    )
    alert_smtp_url: Annotated[SecretStr, AfterValidator(_smtp)] | None = Field(
        None,
        description="mail server, smtp:// or smtps://, with user and password; default: smtp://localhost:25",
    )
    alert_file: Path | None = Field(None, description="alerts go to this file, a line of JSON each time")
    alert_repeat_hours: float = Field(
        24,
        gt=0,
        description="an alarm that lasts is sent again after so long",
    )
    alert_freshness_hours: float = Field(
        36,
        gt=0,
        description="alarm: the point up to which the published version is proven lies further back",
    )
    alert_failure_percent: float = Field(
        20,
        gt=0,
        le=100,
        description="alarm: more of a type's tasks failed on its newest mature day",
    )
    alert_slo_burn_rate: float = Field(
        2.8,
        gt=0,
        description="alarm: a type's newest mature day burnt more; 2.8 spends a tenth of 28 days' budget in a day",
    )
    iceberg_warehouse: Annotated[str, AfterValidator(_lake)] | None = Field(
        None,
        description="lake that each version is published to as well: a folder's full path, or a URL such as s3://bucket/path",
    )
    iceberg_catalog: str | None = Field(
        None, description="its catalog, by the name in PyIceberg's configuration; default: one in SQLite in the home"
    )
    iceberg_namespace: Annotated[str, AfterValidator(_identifier)] = Field(
        "task_archive", description="namespace of the tables in the lake"
    )
    iceberg_keep_days: int = Field(7, ge=0, description="days that snapshots of the lake's tables are kept")
    store: Annotated[str, AfterValidator(_object_store)] | None = Field(
        None,
        description="object store that keeps the landing zone, Parquet and report as well, such as s3://bucket/path: "
        "a new machine goes on from it",
    )
    postgres_dsn: Annotated[SecretStr, AfterValidator(_dsn)] | None = Field(
        None,
        description="URL of a PostgreSQL database that each version is published to as well",
    )
    postgres_schema: Annotated[str, AfterValidator(_identifier)] = Field(
        "task_archive", description="schema of that database"
    )
    postgres_reader: Annotated[str, AfterValidator(_identifier_or_none)] = Field(
        "task_archive_reader",
        description="role that may read the schema, made where it may be; empty for none",
    )
    fingerprint_key: SecretStr | None = Field(
        None,
        description="key of the fingerprints that stand for redacted secrets; default: made once, kept in the home",
    )
    listen_url: Annotated[str, AfterValidator(_url)] | None = Field(
        None, description="public URL of task-archive listen, which doctor looks for among the account's webhooks"
    )
    listen_tolerance_seconds: float = Field(
        300, gt=0, le=86_400, description="longest time between a delivery and its signature, either way"
    )
    listen_unsigned: bool = Field(
        False, description="take deliveries of accounts without a shared secret: anybody may then write history"
    )
    api_keys: dict[str, SecretStr] = Field(default_factory=dict, exclude=True, description="API key by account")
    webhook_secrets: dict[str, SecretStr] = Field(
        default_factory=dict, exclude=True, description="shared secret of its webhook by account"
    )

    def accounts(self, wanted: str | None = None) -> dict[str, SecretStr]:
        """The accounts to work on with their keys; raises SettingsError when there is none or `wanted` is unknown."""
        if not self.api_keys:
            raise SettingsError(
                f"{KEY_VARIABLE} is not set: put an API key of Livepeer Studio into the environment or into {ENV_FILE}"
            )
        if wanted is None:
            return self.api_keys
        if wanted not in self.api_keys:
            raise SettingsError(
                f"{unknown('account', wanted, self.api_keys)}; a new one has its key in "
                f"{KEY_VARIABLE}__{wanted.upper()}"
            )
        return {wanted: self.api_keys[wanted]}

    def check_origin(self) -> None:
        """Raises SettingsError where the API key would travel unencrypted."""
        parts = urlsplit(self.api_url)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK and not self.allow_http:
            raise SettingsError(
                f"LIVEPEER_API_URL is plain http to {parts.hostname}: the key would travel unencrypted. "
                "Use https, or set TASK_ARCHIVE_ALLOW_HTTP=true if that is meant"
            )

    def fingerprint_key_bytes(self) -> bytes:
        """The key of redaction's fingerprints: the setting's, or the one that the home keeps."""
        if self.fingerprint_key is not None:
            return self.fingerprint_key.get_secret_value().encode()
        return self.home.fingerprint_key()


def environment_variable(field: str) -> str:
    """The environment variable of a field of Settings."""
    return str(Settings.model_fields[field].validation_alias or f"TASK_ARCHIVE_{field}".upper())


def _by_account(environment: dict[str, str | None], variable: str) -> dict[str, SecretStr]:
    keys: dict[str, SecretStr] = {}
    for name, value in environment.items():
        found = re.fullmatch(rf"{variable}(?:__(\w+))?", name)
        if found is None or not (value or "").strip():
            continue
        account = (found[1] or "default").lower()
        if re.search(r"\s", str(value).strip()) or not str(value).isprintable() or not str(value).isascii():
            raise SettingsError(f"{name} holds blanks or characters that none of Livepeer's has: copy it again")
        keys[account] = SecretStr(str(value).strip())
    return dict(sorted(keys.items()))


def address_space_mb() -> float:
    """What `ulimit -v` lets this process have."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit / 1_000_000


def check_address_space() -> None:
    """Raises SettingsError where there is too little to work in."""
    if address_space_mb() < LEAST_ADDRESS_SPACE_MB:
        raise SettingsError(
            f"ulimit -v leaves {address_space_mb():,.0f} MB of address space: {LEAST_ADDRESS_SPACE_MB:,} are needed"
        )


class WrongSettings(SettingsError):
    """Settings that are wrong, by name or by the alias that is their variable."""

    def __init__(self, message: str, names: list[str]) -> None:
        super().__init__(message)
        self.names = names


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process; `overrides` are field names. Raises SettingsError with one line for each fault."""
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        variables: dict[Any, str] = {field: environment_variable(field) for field in Settings.model_fields}
        faults = [
            f"{variables.get(fault['loc'][0], fault['loc'][0])}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_input=False)
        ]
        raise WrongSettings("; ".join(faults), [str(fault["loc"][0]) for fault in error.errors()]) from None
    environment = {**dotenv_values(ENV_FILE), **os.environ}
    if not settings.api_keys:
        settings.api_keys = _by_account(environment, KEY_VARIABLE)
    if not settings.webhook_secrets:
        settings.webhook_secrets = _by_account(environment, WEBHOOK_VARIABLE)
    return settings
