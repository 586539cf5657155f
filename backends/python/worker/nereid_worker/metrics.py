"""`pb_utils.MetricFamily` and its metrics: kept in this process, not exported yet."""

import threading
from typing import Dict, List, Optional

from nereid_worker.tensor import TritonModelException


class Metric:
    """One number (or histogram) of a family; made with `family.Metric(labels)`."""

    def __init__(self, kind: int, buckets: Optional[List[float]] = None):
        self._kind = kind
        self._buckets = buckets
        self._value = 0.0
        self._lock = threading.Lock()

    def increment(self, value: float) -> None:
        """Adds to a counter (never less than zero) or to a gauge."""
        self._refuse(MetricFamily.HISTOGRAM, "increment")
        if self._kind == MetricFamily.COUNTER and value < 0:
            raise TritonModelException("a counter cannot be incremented by a negative value")
        with self._lock:
            self._value += value

    def set(self, value: float) -> None:
        """Sets a gauge."""
        self._refuse(MetricFamily.COUNTER, "set")
        self._refuse(MetricFamily.HISTOGRAM, "set")
        self._value = float(value)

    def observe(self, value: float) -> None:
        """Adds an observation to a histogram."""
        self._refuse(MetricFamily.COUNTER, "observe")
        self._refuse(MetricFamily.GAUGE, "observe")

    def value(self) -> float:
        """The present value of a counter or a gauge."""
        self._refuse(MetricFamily.HISTOGRAM, "value")
        return self._value

    def _refuse(self, kind, call):
        if self._kind == kind:
            raise TritonModelException("a metric of this kind does not support '%s'" % call)


class MetricFamily:
    """Metrics of one name, told apart by their labels. A name used twice is one family."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2

    _families: Dict[str, "MetricFamily"] = {}

    def __init__(self, name: str, description: str, kind: int = COUNTER):
        self._kind = kind
        first = MetricFamily._families.setdefault(name, self)
        if first._kind != kind:
            raise TritonModelException("metric family '%s' has another kind already" % name)
        self._metrics = first._metrics if first is not self else {}

    def Metric(  # noqa: N802 (Triton's name)
        self, labels: Optional[Dict[str, str]] = None, buckets: Optional[List[float]] = None
    ) -> Metric:
        """The metric with these labels; `buckets` are the upper bounds of a histogram."""
        if (self._kind == MetricFamily.HISTOGRAM) != (buckets is not None):
            raise TritonModelException("buckets belong to histograms, and histograms need them")
        key = tuple(sorted((labels or {}).items()))
        return self._metrics.setdefault(key, Metric(self._kind, buckets))
