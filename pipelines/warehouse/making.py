"""Making: the rows of a change, each table by the SELECT of its file, put in the place of the rows that are there."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import duckdb
import pyarrow as pa

from pipelines.errors import WarehouseError
from pipelines.landing.catalog import Catalog
from pipelines.settings import Settings
from pipelines.warehouse.change import Change, MadeAnew
from pipelines.warehouse.checks import Failed, is_by_task, row_checks, run_check
from pipelines.warehouse.database import run_sql
from pipelines.warehouse.grain import MANIFESTS, MOVING, OBSERVATIONS, grains
from pipelines.warehouse.groups import count_groups, make_groups
from pipelines.warehouse.models import Model, load_models
from pipelines.warehouse.observations import PROBLEM, ROWS_PER_CHUNK, TYPED, UNKNOWN, WITH_FILE, Batch, batches, halves
from pipelines.warehouse.parquet import WEEK
from pipelines.warehouse.places import columns_of_groups, groups_of, place_of, temp_or_not
from pipelines.warehouse.plan import by_load, is_published, is_read_by_task, is_stored, levels, moves, reads_tasks
from pipelines.warehouse.working import INTERNAL, PARTS, TABLES, UNSOUND

# Observations that are worked on at once: more go faster, and take more memory.
ROWS_PER_MB, LEAST_ROWS, MOST_ROWS = 84, 5_000, 21_000

BATCHES_HELD = 3  # whose rows are held until they are written out
MOST_CHECKED = 400_000  # rows whose checks by task are run at once


def rows_at_once(settings: Settings) -> int:
    """Observations that are worked on at once."""
    return max(LEAST_ROWS, min(MOST_ROWS, settings.memory_mb * ROWS_PER_MB))


class Maker:
    """Makes the rows of a change: in one transaction of its connection, or into a file that is fresh.

    Of a load that is not complete, the rows by task can be made ahead: all that they say is known but when the load was
    complete. That is put in once it is; tasks that appear again are made again.
    """

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
        self.failed: Failed = {}  # of checks by task
        self._failing: Counter[tuple[str, str]] = Counter()  # rows more than before, by table and check

    def make(self) -> None:
        """Raises MadeAnew where the tables cannot be gone on from, WarehouseError where the SQL fails."""
        run = self._connection.execute
        if self._change.is_all:
            run("insert into made_with values (?, '')", [UNSOUND])
            run(f"checkpoint {TABLES}")
        else:  # of all that has landed, a transaction would hold too much in memory
            run("begin")
        self._make_from_landing(self._catalog.manifests_of(None if self._change.is_all else self._change.loads))
        if self._change.is_all and not self._change.is_first:
            self._complete_what_was_made_ahead()
        for number, models in list(enumerate(levels()))[2:]:
            if self._change.is_all or number % 2 == 0:
                for model in models:
                    self._make_whole(model)
                    if grains()[model.name].kind == "task":
                        self._check_in_pieces(model)
            else:
                self._make_from_tables(models)
        in_levels = {model.name for models in levels() for model in models}
        for model in load_models().values():
            if grains()[model.name].kind == "group" and model.name not in in_levels:
                self._make_whole(model)
        self._note()
        is_sound = not any(outcome.blocks for outcomes in self.failed.values() for outcome in outcomes.values())
        if not self._change.is_all:
            run("commit" if is_sound else "rollback")
        elif is_sound:
            run("delete from made_with where what = ?", [UNSOUND])
        run(f"checkpoint {TABLES}")

    def make_ahead(self) -> None:
        """Makes the rows by task of loads that may not be complete. Raises WarehouseError where the SQL fails."""
        self._make_from_landing(self._catalog.manifests_of(of_open_loads_too=True))
        if self.failed:
            raise WarehouseError("a check has found something")
        self._note_parts()

    def make_rows(self, made_of: Iterable[Batch]) -> None:
        """Makes the rows by task of some batches. Raises WarehouseError where the SQL fails."""
        self._register_given(self._given)
        self._begin()
        self._make_batches(levels()[1], made_of)

    def make_again(self, names: set[str]) -> None:
        """Makes some tables again, every row, from the tables that there are. Raises WarehouseError where the SQL
        fails."""
        self._register_given(self._given)
        first, _, *others = levels()
        in_levels = [model for models in (first, *others) for model in models]
        groups = (model for model in load_models().values() if grains()[model.name].kind == "group")
        for model in dict.fromkeys(model.name for model in (*in_levels, *groups)):
            if model in names:
                self._make_again(load_models()[model])

    def _make_again(self, model: Model) -> None:
        internal = f"{TABLES}.{INTERNAL}"
        self._connection.execute(f"delete from {internal}.failing where table_name = ?", [model.name])
        self._make_whole(model)
        if grains()[model.name].kind == "task":
            self._check_in_pieces(model)
        self._connection.execute(f"insert into {internal}.weeks values (?, null)", [model.name])  # all of them

    def _make_from_landing(self, manifests: pa.RecordBatchReader) -> None:
        """Makes the tables about loads and what is made from observations."""
        self._register_given(self._given | {MANIFESTS: manifests})
        self._begin()
        whole, by_task, *_ = levels()
        for model in whole:
            self._make_whole(model)
        self._make_from_observations(by_task)

    def _register_given(self, given: Mapping[str, pa.Table | pa.RecordBatchReader]) -> None:
        for name, table in given.items():
            self._register("given_rows", table)
            self._connection.execute(f"create or replace temp table {name} as from given_rows")

    def _complete_what_was_made_ahead(self) -> None:
        """Puts in when the loads were complete; the tables about loads that replaced a state were made again."""
        for model in load_models().values():
            if is_published(model) and grains()[model.name].kind == "task" and "known_at" in model.columns:
                self._connection.execute(
                    f"update {place_of(model)} as t set known_at = l.finished_at "
                    f"from {TABLES}.main.loads as l where t.load_id = l.load_id and t.known_at is null"
                )

    def _begin(self) -> None:
        """Takes out what is gone, and notes the tasks at hand with the weeks whose files they are in."""
        run = self._connection.execute
        run("create or replace temp table weeks (table_name varchar, week date)")
        run("create or replace temp table chosen (task_id varchar)")
        run("create or replace temp table met (task_id varchar)")
        if self._change.is_all:
            run("set checkpoint_threshold = '1TB'")  # checkpoints are explicit
            return
        self._register("given_rows", pa.table({"task_id": pa.array(self._catalog.wanted_keys(), pa.string())}))
        run("insert into chosen from given_rows")
        for model in load_models().values():
            if columns := columns_of_groups(model):
                empty = f"select {columns} from {place_of(model)} limit 0"
                run(f"create or replace temp table {groups_of(model)} as {empty}")
        for account, load_id, file in self._change.gone:
            for name in ("problems", "unknown_paths", *(model.name for model in by_load())):
                run(
                    f"delete from {TABLES}.{INTERNAL}.{name} where (account, load_id, file) = (?, ?, ?)",
                    [account, load_id, file],
                )
        self._note_weeks("tasks", "chosen")

    def _make_whole(self, model: Model) -> None:
        """Makes a table: all of its rows, of one by load those of new loads, of one by group those concerned."""
        run, grain = self._connection.execute, grains()[model.name]
        if grain.kind == "load" and not self._change.is_all:
            self._run_sql(model, f"insert into {place_of(model)} {model.compiled_sql}")
        elif grain.kind == "group" and not self._change.is_all:
            make_groups(self._connection, model)
        elif reads_tasks(model) and not self._change.is_all and is_read_by_task(model):
            run(f"create or replace temp table before as from {place_of(model)}")
            self._run_sql(model, f"create or replace table {place_of(model)} as {model.compiled_sql}")
            if run(f"select 1 from (from before except from {place_of(model)}) limit 1").fetchone():
                raise MadeAnew(f"rows of {model.name} have changed")
        elif grain.kind == "group":
            count_groups(self._connection, model, f"{TABLES}.main.{grain.source}", place_of(model))
        else:
            self._run_sql(
                model, f"create or replace {temp_or_not(model)}table {place_of(model)} as {model.compiled_sql}"
            )

    # -------------------------------------------------------------------------------------------------------- by task

    def _make_from_observations(self, models: list[Model]) -> None:
        """Makes the rows of the tasks at hand, batch by batch; every task is in one batch whole."""
        replaced = set(self._catalog.numbers_of(self._change.gone))
        parts, is_first = self._change.parts, self._change.is_first
        self._make_batches(models, batches(self._catalog, parts, replaced, is_first, self._rows_at_once))
        if not self._change.is_all:
            run = self._connection.execute
            run("create or replace temp table gone as select task_id from chosen where task_id not in (from met)")
            for model in filter(is_published, models):
                self._take_out(model, "gone")

    def _make_batches(self, models: list[Model], made_of: Iterable[Batch]) -> None:
        is_first, held = self._change.is_first, 0
        for batch in made_of:
            self._make_batch(models, batch, is_first)
            is_first, held = False, held + batch.tasks
            if self._change.is_all and held > BATCHES_HELD * self._rows_at_once:
                self._connection.execute(f"checkpoint {TABLES}")
                held = 0
        if is_first:  # there is nothing to make rows of
            self._make_batch(models, _nothing(), is_first)

    def _make_batch(self, models: list[Model], batch: Batch, is_first: bool) -> None:
        """Makes the rows of a batch; in halves where they are too much for the memory, unless a transaction is open."""
        failed = {name: dict(found) for name, found in self.failed.items()}
        lacks_memory = False
        try:
            self._compute(models, batch)
        except duckdb.OutOfMemoryException:
            if not self._change.is_all or batch.tasks < 2:
                raise
            lacks_memory = True  # what the query held goes with the error
        if lacks_memory:
            self._drop_computed(models)
            self._connection.execute(f"checkpoint {TABLES}")
            self.failed = failed
            for half in halves(batch):
                self._make_batch(models, half, is_first)
                is_first = False
            return
        self._store(models, batch, is_first)
        self._drop_computed(models)

    def _compute(self, models: list[Model], batch: Batch) -> None:
        self._register("batch", _in_chunks(batch.observations))
        self._connection.execute(f"create or replace temp table {OBSERVATIONS} as {TYPED}")
        self._connection.unregister("batch")
        for model in models:
            self._run_sql(model, f"create temp {model.materialized} {model.name} as {model.compiled_sql}")
        for model in filter(is_published, models):
            self._check(model)

    def _drop_computed(self, models: list[Model]) -> None:
        for model in reversed(models):
            self._connection.execute(f"drop {model.materialized} if exists temp.{model.name}")
        self._connection.execute(f"drop table if exists temp.{OBSERVATIONS}")

    def _store(self, models: list[Model], batch: Batch, is_first: bool) -> None:
        run = self._connection.execute
        for name, table in (("problems", batch.problems), ("unknown_paths", batch.unknown)):
            if len(table):
                self._register("given_rows", table)
                run(f"insert into {TABLES}.{INTERNAL}.{name} from given_rows")
        if not self._change.is_all:
            run(f"insert into met select distinct task_id from {OBSERVATIONS}")
        if batch.made_before:
            self._register("given_rows", pa.table({"task_id": pa.array(batch.made_before, pa.string())}))
            run("create or replace temp table made_before as from given_rows")
            if self._change.is_all:
                run("insert into told_of_again from made_before")
        for model in models:
            if is_stored(model):
                self._write(model, is_first, bool(batch.made_before))

    def _write(self, model: Model, is_first: bool, some_were_made_before: bool) -> None:
        """Puts the rows of the tasks at hand in the place of those that are there."""
        run, place = self._connection.execute, place_of(model)
        if is_first:
            run(f"create table {place} as from temp.{model.name}")
            return
        if some_were_made_before and grains()[model.name].kind == "task":
            self._take_out(model, "made_before")
        self._note_rows(model, f"temp.{model.name}", 1)
        run(f"insert into {place} from temp.{model.name}")

    def _take_out(self, model: Model, tasks: str) -> None:
        """Deletes the rows of tasks."""
        self._note_rows(model, f"{place_of(model)} semi join {tasks} using (task_id)", -1)
        self._connection.execute(f"delete from {place_of(model)} where task_id in (from {tasks})")

    def _note_rows(self, model: Model, rows: str, sign: int) -> None:
        """Notes of rows that go (-1) or come (1) the groups that they are counted in and the checks that they fail."""
        if self._change.is_all:
            return
        if columns := columns_of_groups(model):
            self._connection.execute(f"insert into {groups_of(model)} select distinct {columns} from {rows}")
        if checks := row_checks(model):
            counts = ", ".join(f"count(*) filter (where not ({check.condition}))" for check in checks)
            found = self._connection.execute(f"select {counts} from {rows}").fetchall()[0]
            for check, count in zip(checks, found, strict=True):
                self._failing[model.name, check.name] += sign * count

    def _check(self, model: Model) -> None:
        """Runs the checks whose rows are of one task, on the tasks at hand."""
        for check in model.checks:
            if is_by_task(model, check):
                outcome = run_check(self._connection, check)
                if not outcome.passed:
                    found = self.failed.setdefault(model.name, {})
                    earlier = found[check].failing_rows if check in found else 0
                    found[check] = replace(outcome, failing_rows=earlier + outcome.failing_rows)

    def _check_in_pieces(self, model: Model) -> None:
        """Runs the checks whose rows are of one task on all tasks: not on too many at once, as their ids are held."""
        run, place = self._connection.execute, place_of(model)
        pieces = 1 + run(f"select count(*) from {place}").fetchall()[0][0] // MOST_CHECKED
        names = {model.name, *(each.table for each in model.relationships)}
        by_task = sorted(name for name in names if name in grains() and grains()[name].kind == "task")
        for piece in range(pieces):
            for name in by_task:
                chosen = f"where hash(task_id) % {pieces} = {piece}"
                run(f"create or replace temp view {name} as from {TABLES}.main.{name} {chosen}")
            self._check(model)
        for name in by_task:
            run(f"drop view temp.{name}")

    def _make_from_tables(self, models: list[Model]) -> None:
        """Makes the rows of the tasks at hand of tables that are made from tables, and of those that time has moved."""
        run = self._connection.execute
        moving = load_models()[MOVING].compiled_sql
        for model in models:
            candidates = "select task_id from chosen" + (f" union {moving}" if moves(model) else "")
            run(f"create or replace temp table candidates as {candidates}")
            # The tables that its checks refer to as well: the ids of all tasks would not fit into memory.
            read = {*model.reads, *(each.table for each in model.relationships)}
            by_task = sorted(name for name in read if name in grains() and grains()[name].kind == "task")
            for name in by_task:
                run(f"create temp view {name} as from {TABLES}.main.{name} semi join candidates using (task_id)")
            self._run_sql(model, f"create temp table {model.name} as {model.compiled_sql}")
            self._check(model)
            for name in by_task:
                run(f"drop view temp.{name}")
            place = place_of(model)
            run(
                f"""
                create or replace temp table touched as
                select task_id from chosen
                union
                select task_id
                from (from temp.{model.name} except all (from {place} semi join candidates using (task_id)))
                """
            )
            rows = f"temp.{model.name} semi join touched using (task_id)"
            self._take_out(model, "touched")
            self._note_rows(model, rows, 1)
            run(f"insert into {place} from {rows}")
            run(f"drop table temp.{model.name}")
            self._note_weeks(model.name, "touched")

    # ----------------------------------------------------------------------------------------------------------- notes

    def _note_weeks(self, table: str, tasks: str) -> None:
        self._connection.execute(
            f"insert into weeks select distinct '{table}', {WEEK} "
            f"from {TABLES}.main.tasks semi join {tasks} using (task_id)"
        )

    def _note(self) -> None:
        """Notes what the tables hold now, and that those made from tables have to follow."""
        run, internal = self._connection.execute, f"{TABLES}.{INTERNAL}"
        self._note_parts()
        run(f"delete from {internal}.manifests_seen")
        self._register("landed_loads", self._catalog.loads())
        run(f"insert into {internal}.manifests_seen select account, load_id, sha256 from landed_loads")
        if not self._change.is_all:
            self._note_weeks("tasks", "chosen")
        run(f"insert into {internal}.weeks from temp.weeks")
        for (table, check), count in self._failing.items():
            run("update failing set rows = rows + ? where table_name = ? and check_name = ?", [count, table, check])

    def _note_parts(self) -> None:
        run, internal = self._connection.execute, f"{TABLES}.{INTERNAL}"
        parts = [{name: getattr(part, name) for name in PARTS.names} for part in self._change.parts]
        run(f"delete from {internal}.parts")
        self._register("given_rows", pa.Table.from_pylist(parts, schema=PARTS))
        run(f"insert into {internal}.parts from given_rows")

    def _register(self, name: str, table: pa.Table | pa.RecordBatchReader) -> None:
        self._connection.register(name, table)

    def _run_sql(self, model: Model, statement: str) -> None:
        run_sql(self._connection, statement, model.file)


def _in_chunks(table: pa.Table) -> pa.Table:
    return pa.Table.from_batches(table.to_batches(max_chunksize=ROWS_PER_CHUNK), table.schema)


def _nothing() -> Batch:
    """A batch without observations: what the SQL alone says of columns and types."""
    return Batch(0, [], WITH_FILE.empty_table(), PROBLEM.empty_table(), UNKNOWN.empty_table())
