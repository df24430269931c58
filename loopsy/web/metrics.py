"""``GET /metrics`` in the Prometheus format, by its own client library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import frozen

from loopsy._version import VERSION
from loopsy.core.metrics import Tally
from loopsy.core.principals import LOCAL, LocalOnly
from loopsy.services.daemon import Daemon
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.web.status import task_counts
from loopsy.wire import urls
from loopsy.wire.terminals import RUNNING

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


@frozen(eq=False)
class MetricsArea:
    """Figures for whoever watches many machines."""

    daemon: Daemon
    tally: Tally
    routes = Routes()

    @routes.declare("GET", urls.METRICS, access=LocalOnly())
    def metrics(self, call: Call[None]) -> Answered:
        """Requests, latencies, bytes, jobs, tasks, messages, peers."""
        from prometheus_client.exposition import generate_latest  # only when asked for: it takes a while to load

        body = generate_latest(Figures(self.daemon, self.tally))
        call.request.begin(200, CONTENT_TYPE, len(body))
        call.request.write(body)
        call.request.finish()
        return ANSWERED


@frozen(eq=False)
class Figures:
    """What there is now, as the library's families: it collects each time, and holds nothing itself."""

    daemon: Daemon
    tally: Tally

    def collect(self) -> Iterator[Any]:
        """All of them."""
        yield from self._requests()
        yield from self._gauges()

    def _requests(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily("loopsy_requests", "Requests ended", labels=("method", "route", "status"))
        for (method, route, status), count in sorted(self.tally.requests.items()):
            requests.add_metric((method, route, str(status)), count)
        yield requests
        took = HistogramMetricFamily("loopsy_request_duration_seconds", "From head to end", labels=("route",))
        for route, histogram in sorted(self.tally.took.items()):
            took.add_metric((route,), histogram.cumulated(), histogram.total)
        yield took
        passed = CounterMetricFamily("loopsy_http_bytes", "Bytes of bodies", labels=("direction",))
        passed.add_metric(("in",), self.tally.bytes_in)
        passed.add_metric(("out",), self.tally.bytes_out)
        yield passed
        jobs = CounterMetricFamily("loopsy_jobs", "Commands started")
        jobs.add_metric((), self.daemon.execution.total)
        yield jobs

    def _gauges(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        daemon = self.daemon
        peers, messages, tasks = daemon.peers.counts(), daemon.messages.counts(), task_counts(daemon)
        open_terminals = sum(one.status == RUNNING for one in daemon.terminals.list(LOCAL))
        for name, text, value in (
            ("loopsy_uptime_seconds", "Since the daemon started", daemon.uptime),
            ("loopsy_jobs_active", "Commands running", daemon.execution.active),
            ("loopsy_terminals_active", "Terminals open", open_terminals),
            ("loopsy_ai_tasks_active", "AI tasks that are not over", tasks.active),
            ("loopsy_ai_tasks_kept", "AI tasks remembered", tasks.total),
            ("loopsy_messages_unread", "Messages in the inbox that nobody took", messages.unread),
            ("loopsy_messages_queued", "Messages that wait for a peer", messages.queued),
            ("loopsy_context_entries", "Entries of the context store", daemon.context.count()),
        ):
            yield GaugeMetricFamily(name, text, value)
        by_status = GaugeMetricFamily("loopsy_peers", "Peers known", labels=("status",))
        by_status.add_metric(("online",), peers.online)
        by_status.add_metric(("offline",), peers.offline)
        by_status.add_metric(("unknown",), peers.total - peers.online - peers.offline)
        yield by_status
        yield InfoMetricFamily("loopsy_build", "Version", {"version": VERSION, "hostname": daemon.own.hostname})
