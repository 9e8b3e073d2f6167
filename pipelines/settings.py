"""Every setting, its environment variable and its default: the one place.

Values come from the environment, then from a `.env` file in the working directory. `LIVEPEER_API_KEY` is the key of
the account `default`; `LIVEPEER_API_KEY__<ACCOUNT>` adds further accounts or projects under a name of their own.
`LIVEPEER_WEBHOOK_SECRET` and `LIVEPEER_WEBHOOK_SECRET__<ACCOUNT>` are the shared secrets of their webhooks.
"""

import math
import os
import re
import resource
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipelines import valid
from pipelines.errors import SettingsError, unknown
from pipelines.home import Home

ENV_FILE = ".env"
KEY_VARIABLE = "LIVEPEER_API_KEY"
WEBHOOK_VARIABLE = "LIVEPEER_WEBHOOK_SECRET"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
# With less, DuckDB crashes or hangs. A thread for each core reserves room of its own.
LEAST_ADDRESS_SPACE_MB = 3_600 + 200 * (os.cpu_count() or 1)


class Settings(BaseSettings):
    """The settings of one archive. Units are in the names."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, extra="ignore", populate_by_name=True, env_prefix="TASK_ARCHIVE_"
    )

    api_url: Annotated[str, AfterValidator(valid.url)] = Field(
        "https://livepeer.studio/api", validation_alias="LIVEPEER_API_URL", description="the API's base URL"
    )
    home: Annotated[Home, NoDecode, BeforeValidator(valid.home)] = Field(
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
    requests_per_second: Annotated[float, AfterValidator(valid.rate)] = Field(
        0,
        ge=0,
        description="most requests sent in a second for an account, by all processes together; 0 sets no limit",
    )
    allow_http: bool = Field(
        False,
        description="allow plain http to a host that is not loopback: the key would travel unencrypted",
    )
    schedule: Annotated[str, AfterValidator(valid.cron)] = Field(
        "15 2 * * *", description="cron line of the nightly job"
    )
    sweep_schedule: Annotated[str, AfterValidator(valid.cron)] = Field(
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
    time_zone: Annotated[str, AfterValidator(valid.time_zone)] = Field(
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
    slo: Annotated[str, AfterValidator(valid.slo)] = Field(
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
    executor: Annotated[str, AfterValidator(valid.executor)] = Field(
        "in_process",
        description="how runs of Dagster's daemon execute: in_process, multiprocess (each step in its own process) "
        "or the executor of an installed package as module:name, such as dagster_k8s:k8s_job_executor",
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
    alert_webhook_url: Annotated[SecretStr, AfterValidator(valid.webhook)] | None = Field(
        None,
        description="alerts go to this webhook of Slack or its like; the URL is a secret",
    )
    alert_email_to: Annotated[str, AfterValidator(valid.addresses)] | None = Field(
        None,
        description="alerts go to these e-mail addresses, commas between them",
    )
    alert_email_from: Annotated[str, AfterValidator(valid.addresses)] | None = Field(
        None,
        description="sender of the mails; default: the first that they go to",
    )
    alert_smtp_url: Annotated[SecretStr, AfterValidator(valid.smtp)] | None = Field(
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
    iceberg_warehouse: Annotated[str, AfterValidator(valid.lake)] | None = Field(
        None,
        description="lake that each version is published to as well: a folder's full path, or a URL such as s3://bucket/path",
    )
    iceberg_catalog: str | None = Field(
        None, description="its catalog, by the name in PyIceberg's configuration; default: one in SQLite in the home"
    )
    iceberg_namespace: Annotated[str, AfterValidator(valid.identifier)] = Field(
        "task_archive", description="namespace of the tables in the lake"
    )
    iceberg_keep_days: int = Field(7, ge=0, description="days that snapshots of the lake's tables are kept")
    store: Annotated[str, AfterValidator(valid.object_store)] | None = Field(
        None,
        description="object store that keeps the landing zone, Parquet and report as well, such as s3://bucket/path: "
        "a new machine goes on from it",
    )
    postgres_dsn: Annotated[SecretStr, AfterValidator(valid.dsn)] | None = Field(
        None,
        description="URL of a PostgreSQL database that each version is published to as well",
    )
    postgres_schema: Annotated[str, AfterValidator(valid.identifier)] = Field(
        "task_archive", description="schema of that database"
    )
    postgres_reader: Annotated[str, AfterValidator(valid.identifier_or_none)] = Field(
        "task_archive_reader",
        description="role that may read the schema, made where it may be; empty for none",
    )
    fingerprint_key: SecretStr | None = Field(
        None,
        description="key of the fingerprints that stand for redacted secrets; default: made once, kept in the home",
    )
    listen_url: Annotated[str, AfterValidator(valid.url)] | None = Field(
        None,
        description="public URL of task-archive listen: doctor looks for its webhook, and sync reads its log",
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
