"""Trace context and baggage, carried from the request that came in to the requests that go out.

W3C `traceparent`, `tracestate` and `baggage` by the OpenTelemetry API. No exporter is configured here: the
platform's collector reads the access logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATORS = (TraceContextTextMapPropagator(), W3CBaggagePropagator())


@contextmanager
def incoming(headers: Mapping[str, str]) -> Iterator[None]:
    """Work inside the trace of a request with these headers (names in lower case)."""
    current = context.get_current()
    for propagator in _PROPAGATORS:
        current = propagator.extract(headers, current)
    token = context.attach(current)
    try:
        yield
    finally:
        context.detach(token)


def outgoing() -> dict[str, str]:
    """The headers that carry the current trace and its baggage to a neighbour."""
    headers: dict[str, str] = {}
    for propagator in _PROPAGATORS:
        propagator.inject(headers)
    return headers
