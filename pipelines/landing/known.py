"""What has landed before of the tasks that a load meets: it does not land again, and what is missing is noticed."""

from collections.abc import Collection, Iterable, Iterator

from pipelines.landing.catalog import Catalog, State
from pipelines.landing.manifest import Window
from pipelines.livepeer.tasks.rows import Row


class LandedStates:
    """The newest landed state of each task of an account, those that the load has landed itself included."""

    def __init__(self, catalog: Catalog, account: str, load_id: str) -> None:
        self._catalog = catalog
        self._account = account
        self._load_id = load_id
        self._is_empty = catalog.is_empty(account)
        self._looked_up: dict[str, State | None] = {}  # of the last page
        self._held: dict[str, State] = {}  # landed, and not in the catalog yet

    def look_up(self, keys: Collection[str]) -> None:
        """Looks up the tasks of a page at once."""
        if self._looked_up.keys() >= set(keys):
            return
        self._looked_up = dict.fromkeys(keys)
        if not self._is_empty:
            found = self._catalog.states(self._account, self._looked_up, self._load_id)
            self._looked_up |= {state.key: state for state in found}

    def has(self, key: str) -> bool:
        """Whether the task is in the archive and not known to be deleted."""
        state = self._state(key)
        return state is not None and not state.is_deleted

    def is_deleted(self, key: str) -> bool:
        """Whether the task is in the archive and known to be deleted."""
        state = self._state(key)
        return state is not None and state.is_deleted

    def is_unchanged(self, key: str, sha256: str, is_deleted: bool) -> bool:
        """Whether this payload is the newest landed state of the task, and the one that landed last.

        After a stale answer the newest lands once more: else one that is met before and after it would seem met twice
        in a row.
        """
        state = self._state(key)
        return state is not None and _is_told(state, sha256, is_deleted)

    def updated_at_ms(self, key: str) -> int | None:
        """When the newest landed state of the task, or the one that this load met last, was updated."""
        state = self._state(key)
        return None if state is None else state.updated_at_ms

    def add(self, key: str, sha256: str, row: Row) -> None:
        """Notes a state that lands now."""
        state = State(key, row.task_id is not None, row.created_at_ms, row.updated_at_ms, row.is_deleted, sha256)
        self._held[key] = state

    def add_gone(self, key: str) -> None:
        """Notes that the task is there no more."""
        state = self._state(key) or State(key, True, None, None, False, None)
        self._held[key] = state._replace(is_deleted=True, is_last=False)

    def forget_held(self) -> None:
        """What was held is in the catalog now."""
        self._looked_up |= self._held
        self._is_empty = self._is_empty and not self._held
        self._held = {}

    def expected_between(self, after: str | None, last: str | None, window: Window) -> Iterable[str]:
        """Tasks known with after < id <= last that the window should show; None is no bound."""
        return [state.key for state in self._between(after, last) if _is_in(state, window)]

    def _between(self, after: str | None, last: str | None) -> Iterator[State]:
        """Tasks that are there; what is no task has no place in the order by id, and cannot be looked up."""
        if self._is_empty:
            return
        for state in self._catalog.states_between(self._account, after, last, self._load_id):
            state = self._held.get(state.key, state)
            if state.is_task and not state.is_deleted:
                yield state

    def _state(self, key: str) -> State | None:
        if key in self._held:
            return self._held[key]
        if key not in self._looked_up:
            self._looked_up[key] = next(iter(self._catalog.states(self._account, [key], self._load_id)), None)
        return self._looked_up[key]


def differing(catalog: Catalog, account: str, states: dict[str, tuple[str, bool]]) -> bool:
    """Whether any of `states`, (payload's hash, whether deleted) by key, would land."""
    newest = {state.key: state for state in catalog.states(account, states)}
    return any(key not in newest or not _is_told(newest[key], *state) for key, state in states.items())


def key_of(row: Row, sha256: str) -> str:
    """What tells one task from another: its id, or for an element without one its content."""
    return row.task_id if row.task_id is not None else sha256


def _is_told(state: State, sha256: str, is_deleted: bool) -> bool:
    return state.is_last and (state.sha256, state.is_deleted) == (sha256, is_deleted)


def _is_in(state: State, window: Window) -> bool:
    if window.created_from_ms is None or window.created_to_ms is None:
        return True
    created = state.created_at_ms
    return created is not None and window.created_from_ms <= created < window.created_to_ms
