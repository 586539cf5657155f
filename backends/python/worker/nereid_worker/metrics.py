"""`pb_utils.MetricFamily` and its metrics: kept by the server, for all instances together."""

import itertools
from typing import Dict, List, Optional

from nereid_worker import calls, current, frames
from nereid_worker.errors import TritonModelException

_numbers = itertools.count(1)
_KINDS = ("COUNTER", "GAUGE", "HISTOGRAM")


class _Kept:
    """Something that the server keeps under a number for as long as this object lives."""

    def __init__(self, **description):
        self._id = next(_numbers)
        worker = current.worker
        if worker is not None:
            worker.calls.ask({"id": self._id, **description})

    def __del__(self):
        worker = current.worker
        if worker is not None:
            note = worker.codec.note({"do": "forget", "id": self._id})
            worker.channel.later(frames.frame(frames.METRIC, 0, 1, note))


class Metric(_Kept):
    """One number (or histogram) of a family; made with `family.Metric(labels)`."""

    def __init__(
        self,
        family: "MetricFamily",
        labels: Optional[Dict[str, str]] = None,
        buckets: Optional[List[float]] = None,
    ):
        self._family = family
        self._kind = family._kind
        # What there is without a server.
        self._value = 0.0
        for name, value in (labels or {}).items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise TritonModelException(
                    "Metric label names and values must be strings, got %r: %r" % (name, value)
                )
        super().__init__(
            do="metric", family=family._id, labels=labels or {}, buckets=list(buckets or ())
        )

    def increment(self, value: float) -> None:
        """Adds to a counter (never less than zero) or to a gauge."""
        self._refuse(MetricFamily.HISTOGRAM, "Increment")
        if self._kind == MetricFamily.COUNTER and not value >= 0:
            raise TritonModelException(
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by "
                "non-negative values."
            )
        self._value += value
        self._tell("increment", value)

    def set(self, value: float) -> None:
        """Sets a gauge."""
        self._refuse(MetricFamily.COUNTER, "Set")
        self._refuse(MetricFamily.HISTOGRAM, "Set")
        self._value = float(value)
        self._tell("set", value)

    def observe(self, value: float) -> None:
        """Adds an observation to a histogram."""
        self._refuse(MetricFamily.COUNTER, "Observe")
        self._refuse(MetricFamily.GAUGE, "Observe")
        self._tell("observe", value)

    def value(self) -> float:
        """The present value of a counter or a gauge, as all instances together have made it."""
        self._refuse(MetricFamily.HISTOGRAM, "Value")
        worker = current.worker
        if worker is None:
            return self._value
        return worker.calls.ask({"do": "metric_value", "id": self._id})["value"]

    def _tell(self, do, value):
        worker = current.worker
        if worker is None:
            return
        note = worker.codec.note({"do": do, "id": self._id, "value": float(value)})
        # Within `execute` it leaves with the answer, and costs no write of its own.
        send = worker.channel.later if calls.batch.get() else worker.channel.send
        send(frames.frame(frames.METRIC, 0, 1, note))

    def _refuse(self, kind, call):
        if self._kind == kind:
            raise TritonModelException(
                "TRITONSERVER_METRIC_KIND_%s does not support %s" % (_KINDS[kind], call)
            )


class MetricFamily(_Kept):
    """Metrics of one name, told apart by their labels. A name used twice is one family."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2

    def __init__(self, name: str, description: str, kind: int = COUNTER):
        if kind not in (self.COUNTER, self.GAUGE, self.HISTOGRAM):
            raise TypeError("unknown kind of metric: %r" % (kind,))
        self._kind = kind
        super().__init__(do="metric_family", name=name, help=description, kind=kind)

    def Metric(  # noqa: N802 (Triton's name)
        self, labels: Optional[Dict[str, str]] = None, buckets: Optional[List[float]] = None
    ) -> Metric:
        """The metric with these labels; `buckets` are the upper bounds of a histogram."""
        if (self._kind == MetricFamily.HISTOGRAM) != (buckets is not None):
            raise TritonModelException(
                "Must provide buckets for metrics of kind histogram, and only for those"
            )
        return Metric(self, labels, buckets)
