"""Where traces go: to a collector that takes OTLP over HTTP. Off unless ``SYNCD_TRACES__URL`` names one."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import trace

from syncd import __version__
from syncd.core.errors import BadConfiguration


def start(url: str | None, replica: str) -> Callable[[], None]:
    """Send spans there from now on; what is returned sends the last of them and ends it."""
    if url is None:
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise BadConfiguration("SYNCD_TRACES__URL needs what `pip install 'syncd[traces]'` brings") from None
    about = {"service.name": "syncd", "service.version": __version__, "service.instance.id": replica}
    provider = TracerProvider(resource=Resource.create(about))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    trace.set_tracer_provider(provider)
    return provider.shutdown
