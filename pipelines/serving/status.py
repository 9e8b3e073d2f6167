"""The state of an archive: how fresh and complete it is, and what it holds."""

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from pipelines.errors import WarehouseError
from pipelines.serving import export
from pipelines.serving.published import published
from pipelines.settings import Settings
from pipelines.warehouse.seal import altered

if TYPE_CHECKING:
    from pipelines.landing.catalog import Catalog


@dataclass(frozen=True)
class AccountStatus:
    """What is archived of an account. Ages are of now; None before the first proven load, or whole sweep."""

    account: str
    proven_until_at: str | None
    unproven_seconds: float | None
    last_sweep_at: str | None
    last_whole_sweep_at: str | None
    seconds_since_whole_sweep: float | None
    tasks: int
    open_tasks: int
    last_load: dict[str, Any]


@dataclass(frozen=True)
class Status:
    """The state of an archive; `altered_files`: published files that are not what was published;
    `damaged_files`: landed files that are missing or quarantined; `drift`: what left the contract, newest first."""

    home: str
    published_version: str | None
    altered_files: list[str]
    accounts: list[AccountStatus]
    open_loads: list[str]
    damaged_files: list[str]
    drift: list[dict[str, Any]]
    rows: dict[str, int]
    bytes: dict[str, int]

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def status(settings: Settings) -> Status:
    """Freshness, loads, rows, open tasks and disk use; works before anything is published."""
    from pipelines.landing.catalog import Catalog  # which takes longer to import than a query takes
    from pipelines.landing.damage import lost
    from pipelines.landing.zone import Zone

    tasks: dict[str, tuple[int, int]] = {}
    rows: dict[str, int] = {}
    drift: list[dict[str, Any]] = []
    version = (settings.home.published / "current").readlink().name if settings.home.is_published else None
    not_as_published = [f"{path} {what}" for path, what in altered(settings.home)]
    try:
        if version is not None:
            tasks, rows, drift = _held(settings)
    except (WarehouseError, duckdb.Error):
        if not not_as_published:
            raise
    with Catalog(Zone(settings.home.landing)) as catalog:
        catalog.refresh(files_too=False)
        accounts = [_status_of(catalog, account, *tasks.get(account, (0, 0))) for account in catalog.accounts()]
        open_loads = [load.load_id for load in catalog.open_loads()]
        damaged = [str(found) for found in lost(catalog)]
        sizes = {"landing": catalog.files()[1]} if accounts or open_loads else {}
    sizes |= {
        path.name: sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())
        for path in (settings.home.events, settings.home.warehouse, settings.home.published, settings.home.dagster)
        if path.exists()
    }
    return Status(str(settings.home), version, not_as_published, accounts, open_loads, damaged, drift, rows, sizes)


def _held(settings: Settings) -> tuple[dict[str, tuple[int, int]], dict[str, int], list[dict[str, Any]]]:
    """What the published version holds: tasks and open tasks by account, rows by table, and the drift."""
    with published(settings) as connection:
        counted = "count(*), count(*) filter (where phase in ('pending', 'waiting', 'running'))"
        found = connection.execute(f"select account, {counted} from tasks group by account").fetchall()
        tables = connection.execute("select table_name from duckdb_tables() where not temporary").fetchall()
        rows = {table: connection.execute(f"select count(*) from {table}").fetchall()[0][0] for (table,) in tables}
        drift = _drift(connection) if "drift" in rows else []  # an older version may have none
    return {account: (total, still_open) for account, total, still_open in found}, rows, drift


def _status_of(catalog: "Catalog", account: str, tasks: int, open_tasks: int) -> AccountStatus:
    proven_ms = catalog.proven_until_ms(account)
    last = next(catalog.manifests(account, newest_first=True))
    sweeps = [load for load in catalog.manifests(account, lane="sweep") if load.verdict != "broken"]
    whole_ms = max((load.finished_at_ms or 0 for load in sweeps if load.verdict == "whole"), default=None)
    return AccountStatus(
        account=account,
        proven_until_at=_iso(proven_ms),
        unproven_seconds=_seconds_since(proven_ms),
        last_sweep_at=_iso(sweeps[-1].finished_at_ms if sweeps else None),
        last_whole_sweep_at=_iso(whole_ms),
        seconds_since_whole_sweep=_seconds_since(whole_ms),
        tasks=tasks,
        open_tasks=open_tasks,
        last_load={
            "load_id": last.load_id,
            "lane": last.lane,
            "verdict": last.verdict,
            "tasks_seen": last.tasks_seen,
            "appeared": last.appeared,
            "changed": last.changed,
            "reasons": last.reasons,
        },
    )


def _drift(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = ("account", "kind", "path", "observations", "first_seen_at", "example", "is_new")
    found = connection.execute(
        f"select {', '.join(names)} from drift order by first_seen_at desc, kind, path"
    ).fetchall()
    return [{name: export.plain(value) for name, value in zip(names, row, strict=True)} for row in found]


def free_bytes(folder: Path) -> int:
    """Room on the disk that holds a folder or its nearest existing parent."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _iso(millis: int | None) -> str | None:
    if millis is None:
        return None
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _seconds_since(millis: int | None) -> float | None:
    return None if millis is None else round(datetime.now(UTC).timestamp() - millis / 1000, 1)
