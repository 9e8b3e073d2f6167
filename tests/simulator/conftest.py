"""What the tests of the simulator share."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from pipelines.simulator import Simulator

NOW = 1_795_000_000_000  # ms; 2026-11-18

Get = Callable[..., httpx.Response]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(tasks=300, days=10, seed=1, now=NOW, speed=0).serve() as simulator:
        yield simulator


@pytest.fixture(scope="session")
def client() -> Iterator[httpx.Client]:
    """One for all tests: httpx takes its time to set up TLS for each."""
    with httpx.Client(timeout=10) as client:
        yield client


@pytest.fixture
def get(sim: Simulator, client: httpx.Client) -> Get:
    """get(path after /api, key=a name of `api_keys`, other arguments of httpx)."""

    def get(path: str, key: str = "default", headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        authorization = {"Authorization": f"Bearer {sim.api_keys[key]}"}
        return client.get(sim.url + path, headers=authorization | (headers or {}), **options)

    return get
