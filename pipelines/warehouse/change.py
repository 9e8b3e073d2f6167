"""What a run brings into the tables: which tasks changed, and the rows that are made anew for them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import WarehouseError
from pipelines.landing.catalog import Catalog
from pipelines.landing.manifest import decode
from pipelines.landing.zone import OBSERVATION
from pipelines.warehouse.grain import CLOCK, MANIFESTS, MOVING, OBSERVATIONS, Grain, grains
from pipelines.warehouse.models import PUBLISHED_LAYERS, Check, Model, load_models
from pipelines.warehouse.observations import PROBLEM, ROWS_PER_CHUNK, TYPED, UNKNOWN, Batch, LandedPart, batches
from pipelines.warehouse.parquet import WEEK
from pipelines.warehouse.working import INTERNAL, TABLES, UNSOUND

MOST_HELD = 60_000  # tasks whose rows are held until they are written out

# Where so many of the tasks have changed, to make all anew takes no longer.
MANY_TASKS, MANY_OF_ALL = 50_000, 0.3


class MadeAnew(Exception):
    """The tables cannot be gone on from; says why."""


@dataclass(frozen=True)
class Change:
    """What has landed that the tables do not hold: `parts` are all that are there, each with whether it is new."""

    is_all: bool
    parts: list[LandedPart]
    gone: list[tuple[str, str, str]] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """A check on a table: how many rows break it, and one of them."""

    check: Check
    failing_rows: int
    example: str

    @property
    def passed(self) -> bool:
        return self.failing_rows == 0

    @property
    def blocks(self) -> bool:
        """Whether nothing may be published because of it."""
        return not self.passed and self.check.severity == "error"


def everything(catalog: Catalog) -> Change:
    """All that has landed."""
    parts = catalog.parts().drop_columns(["sha256"]).to_pylist()
    return Change(True, [LandedPart(**part, is_new=True) for part in parts])


def since(connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> Change:
    """What has landed since the tables were made, the tasks that it concerns chosen in the catalog.

    Raises MadeAnew where it is not more than was there, or most of all.
    """
    connection.register("landed_parts", catalog.parts())
    connection.register("landed_loads", catalog.loads())
    if connection.execute(
        "select 1 from manifests_seen anti join landed_loads using (account, load_id, sha256)"
    ).fetchone():
        raise MadeAnew("a load is there no more, or is another one")
    loads = connection.execute(
        """
        select load_id, load_id < (select max(load_id) from manifests_seen as s where s.account = l.account)
        from landed_loads as l anti join manifests_seen using (account, load_id)
        """
    ).fetchall()
    if any(is_before for _, is_before in loads):
        raise MadeAnew("a load has come before others")
    rows = connection.execute(
        """
        select l.number, l.account, l.load_id, l.file, l.rows, p.file is null
        from landed_parts as l left join parts as p using (account, load_id, file, sha256)
        order by l.number
        """
    ).fetchall()
    parts = [LandedPart(*row) for row in rows]
    gone = connection.execute(
        "select account, load_id, file from parts anti join landed_parts using (account, load_id, file, sha256)"
    ).fetchall()
    load_ids = [load_id for load_id, _ in loads]
    concerned = {key for part in parts if part.is_new for key in _keys(catalog, part)}
    for text in (text for batch in catalog.manifests_of(load_ids) for text in batch.column(0).to_pylist()):
        load = decode(text.encode())
        concerned |= {*load.vanished, *(missing.task_id for missing in load.unreadable)}
    tasks = catalog.want(concerned, catalog.numbers_of(gone))
    (before,) = connection.execute(f"select count(*) from {TABLES}.main.tasks").fetchall()[0]
    if tasks > MANY_TASKS and tasks > MANY_OF_ALL * before:
        raise MadeAnew(f"{tasks:,} tasks have changed")
    return Change(False, parts, gone, load_ids)


def _keys(catalog: Catalog, part: LandedPart) -> list[str]:
    path = catalog.zone.folder(part.account, part.load_id) / part.file
    return [key for key in pq.read_table(path, columns=["task_id"])["task_id"].to_pylist() if key is not None]


class Maker:
    """Makes the rows of a change: in one transaction of its connection, or into a file that is fresh."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        catalog: Catalog,
        change: Change,
        given: dict[str, pa.Table],
        rows_at_once: int,
    ) -> None:
        """`given`: what the tables are made from besides what has landed, by the name that the SQL calls it by;
        `rows_at_once`: observations that are worked on at once."""
        self._connection = connection
        self._catalog = catalog
        self._change = change
        self._given = given
        self._rows_at_once = rows_at_once
        self.failed: dict[str, list[Outcome]] = {}  # checks by task that found something, by table

    def make(self) -> None:
        """Raises MadeAnew where the tables cannot be gone on from, WarehouseError where the SQL fails."""
        run = self._connection.execute
        manifests = self._catalog.manifests_of(None if self._change.is_all else self._change.loads)
        for name, table in (self._given | {MANIFESTS: manifests}).items():
            self._register("given_rows", table)
            run(f"create or replace temp table {name} as from given_rows")
        if not self._change.is_all:  # all that lands would be held in memory until the end of a transaction
            run("begin")
        self._begin()
        for number, models in enumerate(levels()):
            if number % 2 == 0:
                for model in models:
                    self._make_whole(model)
            elif number == 1:
                self._make_from_observations(models)
            elif self._change.is_all:
                for model in models:
                    self._make_whole(model)
            else:
                self._make_from_tables(models)
        for model in load_models().values():
            if grains()[model.name].kind == "group":
                self._make_whole(model) if self._change.is_all else self._make_groups(model, grains()[model.name])
        self._note()
        is_sound = not any(outcome.blocks for outcomes in self.failed.values() for outcome in outcomes)
        if self._change.is_all and not is_sound:  # to be looked at, not to be gone on from
            run("insert into made_with values (?, '')", [UNSOUND])
        if not self._change.is_all:
            run("commit" if is_sound else "rollback")
        run(f"checkpoint {TABLES}")

    def _begin(self) -> None:
        """Takes out what is gone, and notes the tasks at hand with the weeks whose files they are in."""
        run = self._connection.execute
        run("create or replace temp table weeks (table_name varchar, week date)")
        run("create or replace temp table chosen (task_id varchar)")
        run("create or replace temp table met (task_id varchar)")
        if self._change.is_all:
            run("set checkpoint_threshold = '1TB'")  # it is told when
            return
        self._register("given_rows", pa.table({"task_id": pa.array(self._catalog.wanted_keys(), pa.string())}))
        run("insert into chosen from given_rows")
        for account, load_id, file in self._change.gone:
            for name in ("problems", "unknown_paths", *(model.name for model in _by_load())):
                run(
                    f"delete from {TABLES}.{INTERNAL}.{name} where (account, load_id, file) = (?, ?, ?)",
                    [account, load_id, file],
                )
        self._note_weeks("tasks", "chosen")

    def _make_whole(self, model: Model) -> None:
        """Makes a table of all rows; of one by load, adds those of new loads."""
        run = self._connection.execute
        if grains()[model.name].kind == "load" and not self._change.is_all:
            self._run_sql(model, f"insert into {_place_of(model)} {model.sql}")
        elif _reads_tasks(model) and not self._change.is_all and _is_read_by_task(model):
            run(f"create or replace temp table before as from {_place_of(model)}")
            self._run_sql(model, f"create or replace table {_place_of(model)} as {model.sql}")
            if run(f"select 1 from (from before except from {_place_of(model)}) limit 1").fetchone():
                raise MadeAnew(f"rows of {model.name} have changed")
        else:
            self._run_sql(model, f"create or replace {_temp(model)}table {_place_of(model)} as {model.sql}")

    # -------------------------------------------------------------------------------------------------------- by task

    def _make_from_observations(self, models: list[Model]) -> None:
        """Makes the rows of the tasks at hand, batch by batch; every task is in one batch whole."""
        is_first, held = self._change.is_all, 0
        for batch in batches(self._catalog, self._change.parts, self._change.is_all, self._rows_at_once):
            self._make_batch(models, batch, is_first)
            is_first, held = False, held + batch.tasks
            if self._change.is_all and held > MOST_HELD:
                self._connection.execute(f"checkpoint {TABLES}")
                held = 0
        if is_first:  # nothing has landed
            self._make_batch(models, _nothing(), is_first)
        gone = "select task_id from chosen where task_id not in (from met)"
        for model in models:
            if not self._change.is_all and _is_published(model):
                self._connection.execute(f"delete from {_place_of(model)} where task_id in ({gone})")

    def _make_batch(self, models: list[Model], batch: Batch, is_first: bool) -> None:
        run = self._connection.execute
        self._register("batch", _in_chunks(batch.observations))
        run(f"create or replace temp table {OBSERVATIONS} as {TYPED}")
        self._connection.unregister("batch")
        for name, table in (("problems", batch.problems), ("unknown_paths", batch.unknown)):
            if len(table):
                self._register("given_rows", table)
                run(f"insert into {TABLES}.{INTERNAL}.{name} from given_rows")
        for model in models:
            self._run_sql(model, f"create temp {model.form} {model.name} as {model.sql}")
        for model in filter(_is_published, models):
            self._check(model)
        if not self._change.is_all:
            run(f"insert into met select distinct task_id from {OBSERVATIONS}")
        for model in models:
            if _is_published(model) or grains()[model.name].kind == "load":
                self._write(model, is_first, f"(select task_id from {OBSERVATIONS})")
        for model in reversed(models):
            run(f"drop {model.form} temp.{model.name}")
        run(f"drop table temp.{OBSERVATIONS}")

    def _write(self, model: Model, is_first: bool, tasks: str) -> None:
        """Puts the rows of tasks in the place of those that are there."""
        run, place = self._connection.execute, _place_of(model)
        if is_first:
            run(f"create table {place} as from temp.{model.name}")
            return
        if not self._change.is_all and grains()[model.name].kind == "task":
            run(f"delete from {place} where task_id in {tasks}")
        run(f"insert into {place} from temp.{model.name}")

    def _check(self, model: Model) -> None:
        """Runs the checks whose rows are of one task, on the tasks at hand."""
        for check in model.checks:
            if is_by_task(model, check):
                outcome = run_check(self._connection, check)
                if not outcome.passed:
                    self.failed.setdefault(model.name, []).append(outcome)

    def _make_from_tables(self, models: list[Model]) -> None:
        """Makes the rows of the tasks at hand of tables that are made from tables, and of those that time has moved."""
        run = self._connection.execute
        moving = load_models()[MOVING].sql
        for model in models:
            candidates = "select task_id from chosen" + (f" union {moving}" if CLOCK in model.reads else "")
            run(f"create or replace temp table candidates as {candidates}")
            by_task = [name for name in model.reads if name in grains() and grains()[name].kind == "task"]
            for name in by_task:
                run(f"create temp view {name} as from {TABLES}.main.{name} semi join candidates using (task_id)")
            self._run_sql(model, f"create temp table {model.name} as {model.sql}")
            self._check(model)
            for name in by_task:
                run(f"drop view temp.{name}")
            place = _place_of(model)
            run(
                f"""
                create or replace temp table touched as
                select task_id from chosen
                union
                select task_id
                from (from temp.{model.name} except all (from {place} semi join candidates using (task_id)))
                """
            )
            columns = ", ".join(sorted({"task_id", *(each for group in _groups_of(model) for each in group.columns)}))
            groups, these = f"groups_of_{model.name}", "semi join touched using (task_id)"
            run(f"create or replace temp table {groups} as select {columns} from {place} {these}")
            run(f"insert into {groups} select {columns} from temp.{model.name} {these}")
            run(f"delete from {place} where task_id in (from touched)")
            run(f"insert into {place} from temp.{model.name} {these}")
            run(f"drop table temp.{model.name}")
            self._note_weeks(model.name, "touched")

    # ------------------------------------------------------------------------------------------------------- by group

    def _make_groups(self, model: Model, grain: Grain) -> None:
        """Makes the groups anew that tasks at hand were counted in, or are."""
        run, place = self._connection.execute, _place_of(model)
        columns = ", ".join(grain.columns)
        run(f"create or replace temp table affected as select distinct {columns} from groups_of_{grain.source}")
        same = " and ".join(f"t.{column} is not distinct from a.{column}" for column in grain.columns)
        run(
            f"create temp table {grain.source} as "
            f"select t.* from {TABLES}.main.{grain.source} as t semi join affected as a on {same}"
        )
        others = [name for name in model.reads - {grain.source} if name in grains() and grains()[name].kind == "task"]
        these = f"select task_id from temp.{grain.source}"
        for name in others:
            run(f"create temp view {name} as from {TABLES}.main.{name} where task_id in ({these})")
        self._run_sql(model, f"create temp table {model.name} as {model.sql}")
        for name in others:
            run(f"drop view temp.{name}")
        run(f"drop table temp.{grain.source}")
        same = " and ".join(
            f"g.{name} is not distinct from a.{column}" for name, column in zip(grain.names, grain.columns, strict=True)
        )
        run(f"delete from {place} as g using affected as a where {same}")
        run(f"insert into {place} from temp.{model.name}")
        run(f"drop table temp.{model.name}")

    # ----------------------------------------------------------------------------------------------------------- notes

    def _note_weeks(self, table: str, tasks: str) -> None:
        self._connection.execute(
            f"insert into weeks select distinct '{table}', {WEEK} "
            f"from {TABLES}.main.tasks semi join {tasks} using (task_id)"
        )

    def _note(self) -> None:
        """Notes what the tables hold now, and that those made from tables have to follow."""
        run, internal = self._connection.execute, f"{TABLES}.{INTERNAL}"
        run(f"delete from {internal}.parts")
        run(f"delete from {internal}.manifests_seen")
        self._register("landed_parts", self._catalog.parts())
        self._register("landed_loads", self._catalog.loads())
        run(f"insert into {internal}.parts select account, load_id, file, sha256 from landed_parts")
        run(f"insert into {internal}.manifests_seen select account, load_id, sha256 from landed_loads")
        if not self._change.is_all:
            self._note_weeks("tasks", "chosen")
        run(f"insert into {internal}.weeks from temp.weeks")

    def _register(self, name: str, table: pa.Table | pa.RecordBatchReader) -> None:
        self._connection.register(name, table)

    def _run_sql(self, model: Model, statement: str) -> None:
        try:
            self._connection.execute(statement)
        except duckdb.Error as error:
            raise WarehouseError(f"sql/{model.layer}/{model.name}.sql failed: {str(error).splitlines()[0]}") from None


def is_by_task(model: Model, check: Check) -> bool:
    """Whether a check compares rows of one task, and so holds for all where it holds for those at hand."""
    if "task_id" not in check.columns or grains()[model.name].kind != "task":
        return False
    return check.columns in (model.key, ("task_id",))


def run_check(session: duckdb.DuckDBPyConnection, check: Check) -> Outcome:
    """How many rows break a check, and one of them."""
    rows = session.execute(f"select count(*) from ({check.failing})").fetchall()[0][0]
    example = ""
    if rows:
        cursor = session.execute(f"from ({check.failing}) limit 1")
        names = [column[0] for column in cursor.description or []]
        example = ", ".join(
            f"{name}={value}" for name, value in list(zip(names, cursor.fetchall()[0], strict=True))[:6]
        )
    return Outcome(check, rows, example)


@cache
def levels() -> list[list[Model]]:
    """What is made from what a run brings, in turns: what is made whole, by task, whole from that, and so on."""
    models = load_models()
    needed: set[str] = set()
    for model in reversed(models.values()):
        if _is_made_by_run(model) or any(model.name in models[name].reads for name in needed):
            needed.add(model.name)
    level: dict[str, int] = {"problems": 1, "unknown_paths": 1}
    for model in models.values():
        if model.name in needed:
            own = int(grains()[model.name].kind == "task" or OBSERVATIONS in model.reads)
            for name in model.reads & level.keys():
                own = max(own, level[name] + (level[name] - own) % 2)
            level[model.name] = own
    turns = range(max(level.values()) + 1)
    return [[models[name] for name in level if name in models and level[name] == turn] for turn in turns]


def _is_made_by_run(model: Model) -> bool:
    """Whether a table is made by task, or from what readers do not see."""
    if model.name == MOVING:
        return False
    return grains()[model.name].kind in ("task", "load") or not all(
        name in load_models() and _is_published(load_models()[name]) for name in model.reads
    )


def _is_published(model: Model) -> bool:
    return model.layer in PUBLISHED_LAYERS


def _by_load() -> list[Model]:
    """Internal relations whose rows are those of a part."""
    return [
        model for model in load_models().values() if not _is_published(model) and grains()[model.name].kind == "load"
    ]


def _reads_tasks(model: Model) -> bool:
    return any(name in grains() and grains()[name].kind == "task" for name in model.reads)


def _is_read_by_task(model: Model) -> bool:
    return any(model.name in other.reads and grains()[other.name].kind == "task" for other in load_models().values())


def _groups_of(model: Model) -> Iterable[Grain]:
    return (grain for grain in grains().values() if grain.kind == "group" and grain.source == model.name)


def _temp(model: Model) -> str:
    return "" if _is_published(model) or grains()[model.name].kind == "load" else "temp "


def _place_of(model: Model) -> str:
    """Where a table lies: published, internal but kept, or of this run alone."""
    if _is_published(model):
        return f"{TABLES}.main.{model.name}"
    return f"{TABLES}.{INTERNAL}.{model.name}" if grains()[model.name].kind == "load" else f"temp.{model.name}"


def _in_chunks(table: pa.Table) -> pa.Table:
    return pa.Table.from_batches(table.to_batches(max_chunksize=ROWS_PER_CHUNK), table.schema)


def _nothing() -> Batch:
    """A batch without observations: what the SQL alone says of columns and types."""
    schema = OBSERVATION.append(pa.field("file", pa.string())).append(pa.field("is_new", pa.bool_()))
    return Batch(0, schema.empty_table(), PROBLEM.empty_table(), UNKNOWN.empty_table())
