"""Publishing to a real PostgreSQL, made for these tests from the distribution's packages."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from adbc_driver_manager import Error
from adbc_driver_postgresql import dbapi
from click.testing import CliRunner
from pydantic import SecretStr

from pipelines.cli.main import main
from pipelines.defs import published as published_assets
from pipelines.defs.resources import Archive
from pipelines.errors import ArchiveError, Busy, SettingsError
from pipelines.landing.lanes import Extraction
from pipelines.serving.targets.postgres import publish_to_postgres
from pipelines.serving.targets.postgres.schema import Schema
from pipelines.serving.targets.postgres.server import PostgresError, connected
from pipelines.settings import Settings, load_settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.models import load_models, parse_model, published_models
from pipelines.warehouse.publish import publish
from tests.conftest import FINGERPRINT_KEY, IN_CLEAR, IN_URL, NOW_MS, Cluster


@dataclass
class Database:
    """A database that belongs to `archive`, who may make schemas in it and no roles."""

    cluster: Cluster
    name: str

    @property
    def url(self) -> str:
        return self.cluster.url(self.name, "archive")

    def do(self, *statements: str, user: str = "archive") -> None:
        with dbapi.connect(self.cluster.url(self.name, user), autocommit=True) as connection:
            for statement in statements:
                with connection.cursor() as cursor:
                    cursor.execute(statement)

    def ask(self, sql: str, user: str = "archive") -> list[tuple[Any, ...]]:
        with dbapi.connect(self.cluster.url(self.name, user)) as connection:
            return rows_of(connection, sql)


def rows_of(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


numbers = count(1)


def make_database(cluster: Cluster) -> Database:
    made = Database(cluster, f"archive_{next(numbers)}")
    server = Database(cluster, "postgres")
    if not server.ask("select 1 from pg_roles where rolname = 'archive'", "postgres"):
        server.do(f"create role archive login password '{IN_CLEAR}'", user="postgres")
        server.do(f"create role bi login password '{IN_CLEAR}'", user="postgres")
        server.do("create role task_archive_reader", "grant task_archive_reader to bi", user="postgres")
    server.do(f"create database {made.name} owner archive template template0", user="postgres")
    return made


@pytest.fixture
def database(cluster: Cluster) -> Database:
    """One that is empty."""
    return make_database(cluster)


@dataclass
class Account:
    """A small published archive, of which further versions can be made."""

    simulator: Simulator
    settings: Settings

    def publish(self) -> None:
        Extraction(self.settings, "default", "test run").sync()
        list(build.build_version(self.settings))
        publish(self.settings)

    def into(self, database: Database) -> Settings:
        """Publishes to a database; the settings that do."""
        settings = self.settings.model_copy(update={"postgres_dsn": SecretStr(database.url)})
        publish_to_postgres(settings)
        return settings

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.settings.home.published / "task_archive.duckdb"), read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with Simulator(tasks=300, days=10, seed=1, now=NOW_MS, speed=0).serve() as simulator:
        settings = load_settings(
            home=tmp_path_factory.mktemp("postgres"),
            api_url=simulator.url,
            api_keys={"default": simulator.api_key},
            fingerprint_key=FINGERPRINT_KEY,
        )
        simulator.update(sorted(simulator.ids())[0], phase="failed", errorMessage="a\x00b")
        simulator.insert(
            type="export", params={"export": {"ipfs": {"nftMetadata": {"note": "c\x00d", "n": [1, None]}}}}
        )
        made = Account(simulator, settings)
        made.publish()
        yield made


@pytest.fixture(scope="module")
def shared(cluster: Cluster) -> Database:
    return make_database(cluster)


@pytest.fixture
def carried(account: Account, shared: Database) -> Database:
    """A database that the newest version was published to, to read from."""
    account.into(shared)
    return shared


def test_every_table_holds_the_same_rows(account: Account, carried: Database) -> None:
    assert_same(account, carried)
    assert carried.ask("select nft_metadata ->> 'note' from task_archive.tasks where nft_metadata ? 'note'") == [
        ("c\ufffdd",)
    ]
    assert ("a\ufffdb",) in carried.ask("select error_message from task_archive.tasks")


def assert_same(account: Account, carried: Database) -> None:
    """The database holds the rows of the published version."""
    with (
        duckdb.connect(str(account.settings.home.published / "task_archive.duckdb"), read_only=True) as source,
        dbapi.connect(carried.url) as server,
    ):
        source.execute("set TimeZone = 'UTC'")
        for model in published_models():
            kinds = {name: kind for name, kind, *_ in source.execute(f"describe {model.name}").fetchall()}
            nested = [name for name, kind in kinds.items() if kind == "JSON" or "STRUCT" in kind]
            scalars = [
                f"replace({name}, chr(0), '\ufffd') as {name}" if kind == "VARCHAR" else name
                for name, kind in kinds.items()
                if name not in nested
            ]
            columns = ", ".join(f'"{name}"' for name in kinds if name not in nested)
            with server.cursor() as cursor:
                cursor.execute(f"select {columns} from task_archive.{model.name}")
                source.register("carried", cursor.fetch_arrow_table())
            expected = f"select {', '.join(scalars)} from {model.name}"
            for one, other in ((expected, "from carried"), ("from carried", expected)):
                assert source.execute(f"{one} except all {other}").fetchall() == [], model.name
            key = ", ".join(model.key)
            for name in nested:
                there = rows_of(server, f"select {name}::text from task_archive.{model.name} order by {key}")
                here = source.execute(f"select to_json({name})::varchar from {model.name} order by {key}").fetchall()
                assert [as_json(row[0]) for row in there] == [as_json(row[0]) for row in here], (model.name, name)


def as_json(text: str | None) -> Any:
    return None if text is None else json.loads(text.replace("\\u0000", "\\ufffd"))


def test_types_of_duckdb_have_theirs(database: Database, account: Account) -> None:
    values = {
        "id": ("1", "integer", "1"),
        "huge": ("99999999999999999999999999999999999999::hugeint", "numeric(38,0)", "9" * 38),
        "unsigned": ("18446744073709551615::ubigint", "numeric(38,0)", "18446744073709551615"),
        "money": ("1.50::decimal(9, 2)", "numeric(9,2)", "1.50"),
        "nan": ("'nan'::double", "double precision", "NaN"),
        "at": (
            "timestamptz '2026-11-17 06:00:00.123+02'", "timestamp with time zone", "2026-11-17 04:00:00.123+00",
        ),
        "day": ("date '2026-11-17'", "date", "2026-11-17"),
        "texts": ("['a', null, 'b' || chr(0)]", "text[]", "{a,NULL,b\ufffd}"),
        "whole": ("[1, 2]::bigint[]", "bigint[]", "{1,2}"),
        "json": ("""'{"b": 1, "a": "\\u0000"}'::json""", "jsonb", '{"a": "\ufffd", "b": 1}'),
        "structs": ("[{'a': 1, 'b': null}]", "jsonb", '[{"a": 1, "b": null}]'),
        "map": ("map {'k': [1]}", "jsonb", '{"k": [1]}'),
        "enum": ("'x'::enum('x', 'y')", "text", "x"),
        "uuid": ("'10d93d74-259a-4146-91db-8f077f165878'::uuid", "text", "10d93d74-259a-4146-91db-8f077f165878"),
        "bytes": ("'\\x00\\x01'::blob", "bytea", "\\x0001"),
        "flag": ("true", "boolean", "true"),
        "nothing": ("null::varchar", "text", None),
    }  # fmt: skip
    selected = ",\n".join(f'{value} as "{name}" -- {name}' for name, (value, _, _) in values.items())
    lines = [line.replace(" -- ", ", -- ") for line in selected.replace(",\n", "\n").split("\n")]
    lines[-1] = lines[-1].replace(", -- ", " -- ")
    model = parse_model("marts", "rare", "/*\ndescription: Rare types.\nkey: [id]\n*/\nselect\n" + "\n".join(lines))
    settings = account.settings.model_copy(update={"postgres_dsn": SecretStr(database.url)})
    with duckdb.connect() as source, connected(settings) as server:
        source.execute("set TimeZone = 'UTC'")
        source.execute(f"create table rare as {model.compiled_sql}")
        schema = Schema(server, "rare")
        schema.open(10)
        assert schema.carry(source, model).replaced == 2
        again = schema.carry(source, model)
        assert (again.inserted, again.deleted) == (0, 0)
        for name, (_, kind, text) in values.items():
            ((found,),) = server.ask(f'select pg_typeof("{name}")::text || \' \' || "{name}"::text from rare.rare') or [
                ()
            ]
            there = {row[0]: row[1] for row in schema._columns("rare")}
            assert there[name] == kind
            assert found == (None if text is None else f"{kind.partition('(')[0]} {text}"), name


def test_comments_and_primary_keys(account: Account, carried: Database) -> None:
    comments = carried.ask(
        "select relname, obj_description(oid, 'pg_class') from pg_class "
        "where relnamespace = 'task_archive'::regnamespace and relkind = 'r'"
    )
    of_tables = {name: text for name, text in comments if name != "published_tables"}
    assert of_tables == {model.name: model.description for model in published_models()}
    found = carried.ask(
        """
        select relname, attname, col_description(attrelid, attnum)
        from pg_attribute join pg_class on pg_class.oid = attrelid
        where relnamespace = 'task_archive'::regnamespace and relkind = 'r' and attnum > 0
            and relname <> 'published_tables'
        """
    )
    expected = {(model.name, name): text for model in published_models() for name, text in model.columns.items()}
    assert {(table, column): text for table, column, text in found} == expected
    keys = carried.ask(
        "select conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint where contype = 'p' "
        "and connamespace = 'task_archive'::regnamespace"
    )
    assert {table.removeprefix("task_archive."): text.replace('"', "") for table, text in keys} == {
        model.name: f"PRIMARY KEY ({', '.join(model.key)})" for model in published_models()
    } | {"published_tables": "PRIMARY KEY (table_name)"}
    listed = carried.ask("select table_name, rows, version from task_archive.published_tables")
    version = (account.settings.home.published / "current").readlink().name
    assert {(model.name, version) for model in published_models()} == {(name, each) for name, _, each in listed}
    assert ("tasks", *account.ask("select count(*) from tasks")[0], version) in listed


def test_the_reader_may_select_and_nothing_else(account: Account, carried: Database) -> None:
    counted = " + ".join(f"(select count(*) from task_archive.{model.name})" for model in published_models())
    assert carried.ask(f"select {counted} = (select sum(rows) from task_archive.published_tables)", "bi") == [(True,)]
    for statement in (
        "delete from task_archive.tasks",
        "create table task_archive.mine ()",
        "drop table task_archive.slo",
    ):
        with pytest.raises(Error, match=r"permission denied|must be owner"):
            carried.do(statement, user="bi")


def test_the_sql_of_the_bi_guide_runs(carried: Database) -> None:
    guide = (Path(__file__).parent.parent.parent / "docs" / "bi.md").read_text()
    statements = re.findall(r"```sql\n(.+?)```", guide, re.DOTALL)
    assert len(statements) >= 3
    for statement in statements:
        assert carried.ask(statement.replace("$__timeFilter(hour_at)", "hour_at < now() + interval '9 years'"), "bi")


def test_the_reader_is_made_where_that_is_allowed_and_told_where_not(account: Account, database: Database) -> None:
    said: list[str] = []
    reader = f"reader_of_{database.name}"
    changed = {"postgres_dsn": SecretStr(database.url), "postgres_reader": reader}
    settings = account.settings.model_copy(update=changed)
    publish_to_postgres(settings, said.append)
    assert said[-1] == f"role {reader} is not there and may not be made: nothing was granted"
    database.do("alter role archive createrole", user="postgres")
    publish_to_postgres(settings)
    database.do("alter role archive nocreaterole", user="postgres")
    assert database.ask(f"select rolcanlogin from pg_roles where rolname = '{reader}'") == [(False,)]
    assert database.ask(f"select has_table_privilege('{reader}', 'task_archive.tasks', 'select')") == [(True,)]


def test_readers_stay_on_their_version_and_what_others_made_on_the_tables_stays(
    account: Account, database: Database
) -> None:
    settings = account.into(database)
    database.do(
        "create schema reporting",
        "create view reporting.failed as select task_id from task_archive.tasks where phase = 'failed'",
        "create table task_archive.of_a_user (i int)",
        "grant select on task_archive.tasks to public",
    )
    (before,) = database.ask("select count(*) from reporting.failed")
    changed = account.ask("select task_id from tasks where phase = 'completed' order by task_id limit 3")
    with dbapi.connect(database.url) as reader:
        with reader.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read")
        tasks = "select task_id, phase from task_archive.tasks order by task_id"
        history = "select count(*) from task_archive.task_history"  # read first after the publication
        seen = rows_of(reader, tasks)
        account.simulator.advance(1)
        for (task_id,) in changed:
            account.simulator.update(task_id, phase="failed", errorMessage="late")
        (states,) = account.ask("select count(*) from task_history")
        account.publish()
        carried = {each.table: each for each in publish_to_postgres(settings)}
        assert rows_of(reader, tasks) == seen
        assert rows_of(reader, history) == [states]
    assert (carried["tasks"].inserted, carried["tasks"].deleted) == (3, 3)
    assert carried["tracks"].inserted == 0
    assert database.ask("select count(*) from reporting.failed") == [(before[0] + 3,)]
    assert database.ask(history) == account.ask("select count(*) from task_history") != [states]
    assert database.ask("select count(*) from task_archive.of_a_user") == [(0,)]
    assert database.ask("select has_table_privilege('bi', 'task_archive.tasks', 'select')") == [(True,)]


@pytest.mark.slow
def test_only_the_weeks_and_tables_that_changed_are_compared(account: Account, database: Database) -> None:
    settings = account.into(database)
    ((oldest,),) = account.ask("select task_id from tasks order by created_at limit 1")
    by_hand = f"select asset_name from task_archive.tasks where task_id = '{oldest}'"
    database.do(
        f"update task_archive.tasks set asset_name = 'by hand' where task_id = '{oldest}'",
        f"delete from task_archive.task_history where task_id = '{oldest}'",
        "delete from task_archive.metrics",
    )
    account.simulator.insert()
    account.publish()
    carried = {each.table: each for each in publish_to_postgres(settings)}
    assert (carried["tasks"].inserted, carried["tasks"].rows) == (1, *account.ask("select count(*) from tasks")[0])
    assert database.ask(by_hand) == [("by hand",)]
    assert database.ask(f"select count(*) from task_archive.task_history where task_id = '{oldest}'") == [(0,)]
    assert database.ask("select count(*) from task_archive.metrics") == [(0,)]
    publish_to_postgres(settings, every_row=True)
    assert_same(account, database)


def test_a_list_that_notes_no_files_is_one_of_an_older_release(account: Account, database: Database) -> None:
    settings = account.into(database)
    database.do(
        "alter table task_archive.published_tables drop column files",
        "update task_archive.tasks set asset_name = 'by hand'",
    )
    publish_to_postgres(settings)
    assert_same(account, database)
    assert database.ask("select count(*) from task_archive.published_tables where files is null") == [(0,)]


@pytest.mark.slow
def test_tasks_that_move_or_lose_their_rows_and_versions_of_before(account: Account, database: Database) -> None:
    settings = account.into(database)
    current = settings.home.published / "current"
    before = current.readlink()
    ((moved,),) = account.ask(
        "select task_id from profiles inner join tasks using (task_id) order by created_at, task_id limit 1"
    )
    account.simulator.advance(1)
    now = account.simulator.now()
    account.simulator.replace(moved, {"createdAt": now, "status": {"phase": "waiting", "updatedAt": now}})
    account.simulator.insert(createdAt=now - 400 * 86_400_000)  # the only one of its week
    account.publish()
    assert account.ask(f"select count(*) from profiles where task_id = '{moved}'") == [(0,)]
    after = current.readlink()
    for version in (after, before, after):
        current.unlink()
        current.symlink_to(version)
        publish_to_postgres(settings)
        assert_same(account, database)


@pytest.mark.slow
def test_what_fails_leaves_all_as_it_was(account: Account, database: Database) -> None:
    settings = account.into(database)
    database.do(
        "create function task_archive.refuse() returns trigger language plpgsql as "
        "$$begin raise exception 'no % here', tg_table_name; end$$",
        "create trigger refuse before insert on task_archive.tracks execute function task_archive.refuse()",
    )
    kept = database.ask("select count(*), max(task_id), max(updated_at) from task_archive.tasks")
    published = database.ask("select * from task_archive.published_tables order by 1")
    account.simulator.insert()
    account.publish()
    with pytest.raises(PostgresError) as caught:
        publish_to_postgres(settings)
    assert str(caught.value) == "PostgreSQL: no tracks here"
    assert database.ask("select count(*), max(task_id), max(updated_at) from task_archive.tasks") == kept
    assert database.ask("select * from task_archive.published_tables order by 1") == published
    database.do("drop trigger refuse on task_archive.tracks")
    publish_to_postgres(settings)
    assert_same(account, database)


def test_a_table_of_another_shape_is_altered_and_one_no_longer_published_dropped(
    account: Account, database: Database
) -> None:
    settings = account.into(database)
    database.do(
        "alter table task_archive.tracks add column formerly int",
        "alter table task_archive.tracks drop column type",
        "alter table task_archive.profiles alter column position type text, drop constraint profiles_pkey",
        "create view public.lines as select task_id, height from task_archive.tracks",
        "create table task_archive.bygone (i int)",
        "insert into task_archive.published_tables values ('bygone', 0, 'before', now())",
    )
    publish_to_postgres(settings)
    for table in ("tracks", "profiles"):
        found = database.ask(
            f"select attname::text from pg_attribute where attrelid = 'task_archive.{table}'::regclass "
            "and attnum > 0 and not attisdropped"
        )
        assert {name for (name,) in found} == {*load_models()[table].columns}
    assert database.ask("select max(position) from task_archive.profiles") == account.ask(
        "select max(position) from profiles"
    )
    by_type = "select type, count(*) from {}tracks group by type order by type"
    assert database.ask(by_type.format("task_archive.")) == account.ask(by_type.format(""))
    assert database.ask("select to_regclass('task_archive.bygone')::text") == [(None,)]
    database.do(
        "alter table task_archive.tracks alter column codec type varchar",
        "create view public.codecs as select codec from task_archive.tracks",
    )
    with pytest.raises(PostgresError, match=r"cannot drop column codec .* view codecs depends on"):
        publish_to_postgres(settings)


def test_publications_at_once_follow_one_another_and_do_not_wait_for_ever(account: Account, database: Database) -> None:
    settings = account.into(database)
    failures: list[BaseException] = []

    def publish_once() -> None:
        try:
            publish_to_postgres(settings)
        except ArchiveError as error:
            failures.append(error)

    threads = [threading.Thread(target=publish_once) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    impatient = settings.model_copy(update={"lock_wait_seconds": 0.2})
    with connected(settings) as server:
        Schema(server, "task_archive").open(1)
        with pytest.raises(Busy, match=r"another publication or a reader held a lock for 0\.2 s"):
            publish_to_postgres(impatient)


def test_what_the_server_refuses_is_one_line_without_secrets(account: Account, database: Database) -> None:
    right = database.url
    database.do(
        f"revoke create on database {database.name} from archive",
        f"alter database {database.name} owner to postgres",
        user="postgres",
    )
    for url, says in (
        (right.replace(IN_URL, "wrong%2Fpass"), "password authentication failed"),
        (right.replace(f":{database.cluster.port}", ":1"), "Connection refused"),
        (right.replace(database.name, "nowhere"), 'database "nowhere" does not exist'),
        (f"{right}?password={IN_URL}&nonsense=1", "invalid URI query parameter"),
        (right, "permission denied for database"),
    ):
        with pytest.raises(PostgresError) as caught:
            publish_to_postgres(account.settings.model_copy(update={"postgres_dsn": SecretStr(url)}))
        assert says in str(caught.value)
        assert_no_secret(str(caught.value))
        assert caught.value.__suppress_context__


def assert_no_secret(text: str) -> None:
    assert "\n" not in text.strip()
    for secret in (IN_CLEAR, IN_URL, "word", "wrong"):
        assert secret not in text.replace("password", ""), text


@pytest.mark.parametrize(
    "url",
    [
        "postgres//archive:hush@host/db",
        "mysql://archive:hush@host/db",
        "postgresql://archive:hu/sh@host/db",
        "postgresql://archive:hu@sh@host/db",
        "postgresql://archive:hu%sh@host/db",
        "postgresql://archive:hu%00sh@host/db",
        "postgresql://archive:hu sh@host/db",
        "host=host password=hush",
    ],
)
def test_a_url_that_libpq_would_read_otherwise_is_refused(
    url: str, clean_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_POSTGRES_DSN", url)
    with pytest.raises(SettingsError, match="TASK_ARCHIVE_POSTGRES_DSN: must be a URL") as caught:
        load_settings()
    for secret in ("hu/sh", "hu@sh", "hu%sh", "hu sh", "hush"):
        assert secret not in str(caught.value)


def test_the_command(
    account: Account, database: Database, clean_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(account.settings.home))
    unset = CliRunner().invoke(main, ["publish", "postgres"])
    assert (unset.exit_code, "TASK_ARCHIVE_POSTGRES_DSN is not set" in unset.stderr) == (2, True)
    monkeypatch.setenv("TASK_ARCHIVE_POSTGRES_DSN", database.url)
    done = CliRunner().invoke(main, ["publish", "postgres"])
    assert done.exit_code == 0, done.output
    assert re.search(r"tasks +\d+ rows; \d+ inserted, 0 deleted, 2 values replaced", done.stdout)
    doctor = CliRunner().invoke(main, ["doctor"]).stdout
    assert re.search(r"ok   PostgreSQL: version \d+", doctor)
    assert IN_URL not in doctor
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    missing = CliRunner().invoke(main, ["publish", "postgres"])
    assert (missing.exit_code, "pip install 'livepeer-task-archive[postgres]'" in missing.stderr) == (2, True)


IN_NIGHTLY = """
from pipelines.definitions import defs
print(defs.resolve_job_def("nightly").asset_layer.selected_asset_keys)
"""


def test_the_nightly_job_publishes_once_a_database_is_set(
    account: Account, database: Database, clean_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(account.settings.home))
    monkeypatch.setenv("TASK_ARCHIVE_POSTGRES_DSN", database.url)
    resources, with_postgres = {"archive": Archive()}, dg.AssetKey(["published", "postgres"])
    keys = subprocess.run([sys.executable, "-c", IN_NIGHTLY], check=True, capture_output=True, text=True).stdout
    assert str(with_postgres) in keys
    done = dg.materialize(published_assets.targets(), resources=resources)
    (materialized,) = done.asset_materializations_for_node("published__postgres")
    assert materialized.metadata["dagster/row_count"].value == account.ask("select count(*) from tasks")[0][0]
    assert "| tracks |" in str(materialized.metadata["tables"].value)
    assert database.ask("select count(*) from task_archive.tasks") == account.ask("select count(*) from tasks")

    monkeypatch.setenv("TASK_ARCHIVE_POSTGRES_DSN", database.url.replace(f":{database.cluster.port}/", ":1/"))
    with pytest.raises(dg.Failure, match=r"published, but not to PostgreSQL: .*Connection refused") as caught:
        dg.materialize(published_assets.targets(), resources=resources)
    assert_no_secret(caught.value.description or "")
