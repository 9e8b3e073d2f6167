"""Moves the tasks on as the clock does: creates the ones that are due and takes each to its next state."""

import heapq
from collections.abc import Iterable

import msgspec

from pipelines.simulator.generator import HOUR_MS, Generator, Life
from pipelines.simulator.store import Row, Store


class World:
    """The rows of `store` at the time `now` (ms), and what is going to happen to them."""

    def __init__(self, store: Store, generators: Iterable[Generator], start: int) -> None:
        self.store = store
        self.now = start
        self._generators = list(generators)
        self._next_hour = start // HOUR_MS  # the first hour whose arrivals are not known yet
        self._lives: dict[str, Life] = {}  # of the tasks that have states ahead of them
        self._due: list[tuple[int, str, int]] = []  # heap of (ms, task id, index of the state)
        for generator in self._generators:
            for life in generator.history():
                self._begin(life, start)

    def advance_to(self, now: int) -> None:
        """Apply all that happens until `now`; each change carries its own time."""
        while self._next_hour * HOUR_MS <= now:
            for generator in self._generators:
                for life in generator.arrivals(self._next_hour):
                    self._plan(life, 0)
            self._next_hour += 1
        while self._due and self._due[0][0] <= now:
            at, task_id, index = heapq.heappop(self._due)
            planned = self._lives.get(task_id)
            if planned is not None and index < len(planned.states) and planned.states[index].at == at:
                self._enter(planned, index)
                self._plan(planned, index + 1)
        self.now = max(self.now, now)

    def start(self, life: Life) -> None:
        """Let a task live from now on; what was planned for it is dropped."""
        self.halt(life.task["id"])
        self._begin(life, self.now)

    def halt(self, task_id: str) -> None:
        """Nothing more happens to the task by itself."""
        self._lives.pop(task_id, None)

    def _begin(self, life: Life, now: int) -> None:
        """Put the state that is current at `now` into the store and plan the next one."""
        current = -1
        for state in life.states:
            if state.at > now:
                break
            current += 1
        if current >= 0:
            self._enter(life, current)
        self._plan(life, current + 1)

    def _enter(self, life: Life, index: int) -> None:
        task = life.snapshot(index)
        self.store.put(Row.of(task, msgspec.json.encode(task), life.states[index].at))

    def _plan(self, life: Life, index: int) -> None:
        task_id = life.task["id"]
        if index < len(life.states):
            self._lives[task_id] = life
            heapq.heappush(self._due, (life.states[index].at, task_id, index))
        else:
            self._lives.pop(task_id, None)
