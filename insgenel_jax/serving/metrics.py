"""What a service counts, as Prometheus reads it."""

from __future__ import annotations

import dataclasses

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)


@dataclasses.dataclass(frozen=True)
class Metrics:
    """The metrics of one service, in a registry of their own."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    documents: Counter
    links: Counter
    waiting: Gauge
    batch_documents: Histogram
    batch_seconds: Histogram

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)


def make_metrics() -> Metrics:
    """Metrics that have counted nothing yet."""
    own = CollectorRegistry()
    ProcessCollector(registry=own)
    return Metrics(
        registry=own,
        requests=Counter(
            "insgenel_requests", "Requests answered", ("path", "status"), registry=own
        ),
        seconds=Histogram(
            "insgenel_request_seconds",
            "Seconds from the arrival of a request to its answer",
            ("path",),
            buckets=SECONDS,
            registry=own,
        ),
        documents=Counter("insgenel_documents", "Documents linked", registry=own),
        links=Counter("insgenel_links", "Links found", registry=own),
        waiting=Gauge(
            "insgenel_queue_documents", "Documents that wait now", registry=own
        ),
        batch_documents=Histogram(
            "insgenel_batch_documents",
            "Documents of a batch",
            buckets=SIZES,
            registry=own,
        ),
        batch_seconds=Histogram(
            "insgenel_batch_seconds", "Seconds a batch", buckets=SECONDS, registry=own
        ),
    )
