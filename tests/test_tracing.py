"""Traces of a run, as OpenTelemetry's exporters get them."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipelines.cli.run import prepare_instance, run_job
from pipelines.simulator import Simulator
from pipelines.tracing import span
from tests.conftest import set_variables, variables_of


def test_a_night_is_a_span_for_each_step(
    archive: Callable[..., Any], simulate: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    simulator = simulate(tasks=30)
    kept = archive(simulator)
    set_variables(monkeypatch, variables_of(simulator, kept.settings.home.path))
    prepare_instance(kept.settings)
    done = run_job(kept.settings, "nightly")
    spans = {(each.name, each.attributes.get("load_id", "")) for each in exported.get_finished_spans()}
    assert {name for name, _ in spans} >= {"load", "tables", "publish", "report"}
    assert ("load", done.loads[0].load_id) in spans
    assert {each.attributes["run_id"] for each in exported.get_finished_spans()} == {done.run_id}
    assert simulator.api_key not in "".join(each.to_json() for each in exported.get_finished_spans())


def test_an_error_is_noted_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with pytest.raises(ValueError, match="secret"), span("load"):
        raise ValueError("a secret")
    (one,) = exported.get_finished_spans()
    assert not one.status.is_ok
    assert "a secret" not in one.to_json()


def test_without_opentelemetry_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with span("load", account="default") as note:
        note("rows", 1)
