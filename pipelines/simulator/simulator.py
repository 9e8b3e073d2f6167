"""The simulator behind one object, with the handles that tests and the demo pull."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple, Self

import msgspec

from pipelines.simulator import api as routes
from pipelines.simulator.faults import KINDS, Fault
from pipelines.simulator.generator import Generator, with_status
from pipelines.simulator.payloads import uuid4
from pipelines.simulator.server import Server
from pipelines.simulator.store import VERSIONS_KEPT_MS, Account, Row, Store, Task, encode, in_jsonb_order
from pipelines.simulator.webhooks import Webhooks
from pipelines.simulator.wire import Response, json_response
from pipelines.simulator.world import World

_USER, _PROJECT = "7a069e6b-fca9-46c1-b928-848c560dadeb", "679422fa-cbb1-4132-a1ef-8ff5c21038fa"
_OTHER_USER, _OTHER_PROJECT = "69126390-71a8-4e11-86af-a04b82300d9e", "e65107c0-4ae2-48b1-a641-5c98bd280c87"
_SECOND_PROJECT = "0b6b1d8e-52c1-4c2e-8d83-1b9d3f2f6a10"
ACCOUNTS = (
    Account("default", "sim-key-default", _USER, _PROJECT),
    Account("second-project", "sim-key-second-project", _USER, _SECOND_PROJECT, has_default_project=False),
    Account("other-user", "sim-key-other-user", _OTHER_USER, _OTHER_PROJECT),
    Account("cors", "sim-key-cors", _USER, _PROJECT, is_cors_restricted=True),
)
SIDE_SHARE = 50  # the second project and the other user have a fiftieth of the tasks each

Callback = Callable[["Simulator", int, str], None]


class Recorded(NamedTuple):
    """A request that was answered; `path` with its query. Status 0: closed without an answer."""

    method: str
    path: str
    status: int


class Simulator:
    """A Livepeer Studio task API with `tasks` tasks made up over the `days` before `now` (ms; None: the real now).

    Its clock starts at `now` and runs `speed` times as fast as the real one (0: it stands still), see also `advance`.
    `api`: "studio" as today; "legacy", the older API that knows limit and skipN cursors only; "opaque", the same with
    cursors that tell nothing. `keys`: other API keys for the accounts of `api_keys`, by name.
    """

    def __init__(
        self,
        tasks: int = 20_000,
        days: float = 30,
        seed: int = 7,
        now: int | None = None,
        speed: float = 1.0,
        api: str = "studio",
        latency_seconds: float = 0.0,
        keys: Mapping[str, str] | None = None,
        incidents: int = 1,
    ) -> None:
        if api not in ("studio", "legacy", "opaque"):
            raise ValueError(f"unknown api: {api!r}")
        self.seed = seed
        self.api = api
        self.latency_seconds = latency_seconds
        self.requests: list[Recorded] = []
        self._clock = _Clock(int(time.time() * 1000) if now is None else now, speed)
        self._accounts = {a.name: replace(a, key=(keys or {}).get(a.name, a.key)) for a in ACCOUNTS}
        self.accounts = {account.key: account for account in self._accounts.values()}
        self.store = Store()
        start = self._clock.start
        sizes = {"default": tasks, "second-project": tasks // SIDE_SHARE, "other-user": tasks // SIDE_SHARE}
        self._generators = {
            name: Generator(f"{seed} {name}", size, days, start, self._accounts[name], api != "studio", incidents)
            for name, size in sizes.items()
        }
        self._world = World(self.store, self._generators.values(), start)
        self.webhooks = Webhooks(seed, self.now)
        self.store.on_change = self.webhooks.changed  # of what is yet to come
        self._random = Random(f"{seed} simulator")
        self._faults: list[Fault] = []
        self._callbacks: list[Callback] = []
        self._lag_ms = 0
        self._started = 0  # requests that came in
        self._lock = threading.RLock()
        self._server: Server | None = None

    # --- running it -------------------------------------------------------------------------------------------------

    def serve(self, port: int = 0) -> Self:
        """Serve from a thread until `close`, or until the `with` block ends. Port 0: a free one."""
        self._server = Server(self, port)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def serve_forever(self, port: int) -> None:
        """Serve from this thread until KeyboardInterrupt."""
        self._server = Server(self, port)
        try:
            self._server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            self._server.server_close()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.webhooks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("the simulator is not being served")
        return f"http://127.0.0.1:{self._server.server_port}/api"

    @property
    def api_key(self) -> str:
        return self._accounts["default"].key

    @property
    def api_keys(self) -> dict[str, str]:
        """Keys by account name: default, second-project (same user), other-user, cors (default's, restricted)."""
        return {name: account.key for name, account in self._accounts.items()}

    # --- its clock --------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """The simulated time in ms."""
        return self._clock.now()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._clock.advance(seconds)
        self._catch_up()
        self.webhooks.settle()

    def lag(self, seconds: float) -> None:
        """Lists come from a replica that is so far behind, ten minutes at most."""
        if not 0 <= seconds * 1000 <= VERSIONS_KEPT_MS:
            raise ValueError(f"lag must lie between 0 and {VERSIONS_KEPT_MS // 1000} seconds")
        self._lag_ms = int(seconds * 1000)

    # --- looking at the truth ---------------------------------------------------------------------------------------

    def tasks(self, account: str = "default") -> dict[str, Task]:
        """What a list without lag would show, parsed. Rows that are not JSON are left out; see `ids`."""
        tasks = {}
        for row in self._listed(account):
            try:
                tasks[row.id] = row.task()
            except msgspec.DecodeError:
                continue
        return tasks

    def ids(self, account: str = "default") -> set[str]:
        return {row.id for row in self._listed(account)}

    # --- changing the rows ------------------------------------------------------------------------------------------

    def insert(self, task: Task | None = None, account: str = "default", **fields: Any) -> str:
        """A new row. None and no fields: a task made up, created now, that lives on like any other. Otherwise the given
        (or a made-up) task with the fields set on top, which then stays as it is."""
        owner = self._accounts[account]
        with self._lock:
            now = self._catch_up()
            if task is None:
                life = self._generators[account].create(self._random, now)
                if not fields:
                    self._world.start(life)
                    return str(life.task["id"])
                task = life.snapshot(0)
            task = in_jsonb_order({"id": uuid4(self._random)} | task | fields)
            self._write(task, owner.user_id, owner.project_id)
            return str(task["id"])

    def update(self, task_id: str, **status: Any) -> None:
        """Rewrite the status whole; its updatedAt is now unless given."""
        with self._lock:
            now = self._catch_up()
            row = self._row(task_id)
            task = with_status(row.task(), status.pop("updatedAt", now), status)
            self._write(task, row.user_id, row.project_id)

    def replace(self, task_id: str, task: Task) -> None:
        """Put any JSON in the row's place, its keys as they come. It stays its owner's unless it names a user."""
        with self._lock:
            self._catch_up()
            row = self._row(task_id)
            self._write({"id": task_id} | task, row.user_id, row.project_id)

    def put_raw(self, task_id: str, body: bytes) -> None:
        """Have the server send these bytes for the row, whatever they are; it sorts and filters as before."""
        with self._lock:
            now = self._catch_up()
            self._world.halt(task_id)
            self.store.put(msgspec.structs.replace(self._row(task_id), body=body, error=None, written_at=now))

    def delete(self, task_id: str) -> None:
        """No longer listed; GET still returns it, with `deleted: true`."""
        self._mark(task_id, {"deleted": True})

    def undelete(self, task_id: str) -> None:
        self._mark(task_id, {})

    def remove(self, task_id: str) -> None:
        """Gone for good: 404."""
        with self._lock:
            self._catch_up()
            self._world.halt(task_id)
            self.store.remove(task_id)

    def poison(self, task_id: str | None = None) -> str:
        """Make a row (None: any) one that the server cannot serve: an upload without params. Its page and its GET are
        a 500; it still counts."""
        with self._lock:
            if task_id is None:
                task_id = self._random.choice(self._listed("default")).id
            self._catch_up()
            row = self._row(task_id)
            task = {name: value for name, value in row.task().items() if name != "params"}
            self._write(task | {"type": "upload"}, row.user_id, row.project_id)
            return task_id

    def retry(self, task_id: str) -> None:
        """What the retry button does: a failed task comes back to life."""
        with self._lock:
            now = self._catch_up()
            self._world.start(self._generators["default"].retried(self._row(task_id).task(), now))

    def add_webhook(self, url: str, secret: str | None = None, account: str = "default") -> None:
        """Send the events of an account's tasks to a URL from now on, signed where there is a secret."""
        self.webhooks.register(url, secret, self._accounts[account].project_id)

    # --- changing what requests meet --------------------------------------------------------------------------------

    def before_request(self, callback: Callback) -> None:
        """Have `callback(simulator, request number, path)` run before each list request is answered."""
        self._callbacks.append(callback)

    def mutate_between_pages(self, inserts: int = 1, updates: int = 5, deletes: int = 1, seed: int = 0) -> None:
        """Change random rows before every list request but the first."""
        random = Random(seed)
        pages = 0

        def mutate(simulator: "Simulator", number: int, path: str) -> None:
            nonlocal pages
            pages += 1
            if pages == 1:
                return
            for _ in range(inserts):
                simulator.insert()
            ids = random.sample(sorted(simulator.ids()), updates + deletes)
            for task_id in ids[:updates]:
                simulator.update(task_id, phase="running", retries=0, progress=round(random.random(), 3))
            for task_id in ids[updates:]:
                simulator.delete(task_id)

        self.before_request(mutate)

    def fault(
        self, kind: str, at: int | None = None, times: int | None = 1, match: str | None = None, **options: Any
    ) -> None:
        """Have something go wrong, see `faults.Fault`. `at`: number of the request from 1 on (None: the next one);
        `times`: for so many requests that contain `match` in their path (None: without end)."""
        if kind not in KINDS:
            raise ValueError(f"unknown fault: {kind!r}")
        self._faults.append(Fault(kind, at or self._started + 1, times, match, options))

    def clear_faults(self) -> None:
        self._faults.clear()

    # --- answering requests -----------------------------------------------------------------------------------------

    def respond(self, request: routes.Request, body: bytes) -> Response:
        """Called by the server's threads."""
        if request.path.startswith("/simulator/"):
            return self._control(request, body)
        with self._lock:
            self._started += 1
            number = self._started
            fault = next((fault for fault in self._faults if fault.strikes(number, request.target)), None)
        if self.latency_seconds:
            time.sleep(self.latency_seconds)
        response = fault.answer() if fault else None
        if response is None:
            with self._lock:
                if request.is_list:
                    for callback in self._callbacks:
                        callback(self, number, request.target)
                self._catch_up()
                response = routes.answer(self, request)
            if fault:
                response = fault.distort(response)
        self.requests.append(Recorded(request.method, request.target, response.status))
        return response

    def list_as_of(self) -> int | None:
        """The time (ms) at which lists show the rows; None: now."""
        return self._world.now - self._lag_ms if self._lag_ms else None

    def _control(self, request: routes.Request, body: bytes) -> Response:
        """What a test does to a simulator in another process."""
        if (request.method, request.path) == ("POST", "/simulator/advance"):
            self.advance(json.loads(body)["seconds"])
            return json_response(200, {"now": self.now(), "tasks": len(self._listed("default"))})
        if (request.method, request.path) == ("GET", "/simulator/info"):
            info = {
                "now": self.now(),
                "tasks": len(self._listed("default")),
                "seed": self.seed,
                "api_key": self.api_key,
            }
            return json_response(200, info)
        return json_response(404, {"errors": ["not found"]})

    def _catch_up(self) -> int:
        """Let happen what is due. Returns the simulated time in ms."""
        with self._lock:
            now = self._clock.now()
            self._world.advance_to(now)
            return now

    def _listed(self, account: str) -> list[Row]:
        with self._lock:
            self._catch_up()
            return self.store.listed(self._accounts[account])

    def _row(self, task_id: str) -> Row:
        row = self.store.get(task_id)
        if row is None:
            raise KeyError(task_id)
        return row

    def _write(self, task: Task, user_id: str | None, project_id: str | None) -> None:
        """Put a row by hand; what was going to happen to it is called off. A task that names no user gets this one."""
        self._world.halt(task["id"])
        row = Row.of(task, encode(task), self._world.now)
        if row.user_id is None:
            row.user_id, row.project_id = user_id, row.project_id or project_id
        self.store.put(row)

    def _mark(self, task_id: str, mark: Task) -> None:
        with self._lock:
            self._catch_up()
            row = self._row(task_id)
            task = {name: value for name, value in row.task().items() if name != "deleted"}
            self._write(in_jsonb_order(task | mark), row.user_id, row.project_id)


class _Clock:
    """Simulated time: `start` (ms), then `speed` times as fast as the real one, plus what was skipped."""

    def __init__(self, start: int, speed: float) -> None:
        self.start = start
        self._speed = speed
        self._started = time.monotonic()
        self._skipped_seconds = 0.0

    def now(self) -> int:
        elapsed = (time.monotonic() - self._started) * self._speed
        return self.start + int((elapsed + self._skipped_seconds) * 1000)

    def advance(self, seconds: float) -> None:
        self._skipped_seconds += seconds
