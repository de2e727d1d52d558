"""Spans: one trace from an event through the decision to the call and the command, for OpenTelemetry.

Off, and next to free, until ``syncd.traces`` has set where they go. What waits in the store between two steps carries
its trace with it, as a W3C ``traceparent``. A span names customers by id and nothing of what they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from syncd.core.values import Subject

HEADER = "traceparent"
_form = TraceContextTextMapPropagator()


def is_on() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def span(name: str, carried: str | None = None, **about: str | int) -> Iterator[None]:
    """A step. It goes on what was ``carried`` to it, else the step that it is part of, else begins a trace."""
    if not is_on():
        yield
        return
    context = _form.extract({HEADER: carried}) if carried else None
    said = {f"syncd.{key}": value for key, value in about.items()}
    tracer = trace.get_tracer("syncd")
    # An error's own text may hold what a customer holds: its kind is enough here, the log has the rest.
    with tracer.start_as_current_span(
        name, context, attributes=said, record_exception=False, set_status_on_exception=False
    ) as step:
        try:
            yield
        except BaseException as error:
            step.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise


def note(**about: str | int) -> None:
    """What is only known at the end of a step."""
    trace.get_current_span().set_attributes({f"syncd.{key}": value for key, value in about.items()})


def current() -> str | None:
    """The step that is under way, to be carried on."""
    carrier = dict[str, str]()
    if is_on():
        _form.inject(carrier)
    return carrier.get(HEADER)


def carry(subjects: Iterable[Subject]) -> Mapping[Subject, str]:
    """The step that is under way, for each of these."""
    carried = current()
    return {} if carried is None else dict.fromkeys(subjects, carried)
