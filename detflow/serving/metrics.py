"""The metrics that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The server's metrics in a registry of their own, with those of the process.

    Args:
        max_batch: The largest batch there can be.
    """

    def __init__(self, max_batch: int) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "detflow_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "detflow_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        sizes = sorted({size for size in (1, 2, 4, 8, 16, 32, 64, max_batch) if size <= max_batch})
        self.batches = Histogram(
            "detflow_batch_images",
            "Images that went through the network together.",
            buckets=sizes,
            registry=self.registry,
        )
        self.queue = Gauge(
            "detflow_queue_images", "Places of the queue that are taken.", registry=self.registry
        )
        self.held = Gauge(
            "detflow_held_bytes",
            "Request bodies and decoded images in memory.",
            registry=self.registry,
        )
        self.model = Info("detflow_model", "The model that serves.", registry=self.registry)
        self.loads = Counter(
            "detflow_model_loads",
            "Exports that were loaded or refused.",
            ["result"],
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
