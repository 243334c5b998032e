"""What is the case now, asked for when somebody looks, so that no turn pays for it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ...subsystems.processes.messages import LiveKind
from ...subsystems.scheduler.messages import LaneState


@dataclass(frozen=True)
class Queue:
    """A subscriber's queue on the bus."""

    name: str
    depth: int
    dropped: int
    failed: int


class Standing(Collector):
    """Slots, queues and live processes, as they were when they were last asked for."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.lanes: tuple[LaneState, ...] = ()
        self.live: tuple[LiveKind, ...] = ()
        self.queues: tuple[Queue, ...] = ()

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("aosk_info", "Always 1.", labels=["version"])
        info.add_metric([self.version], 1)
        yield info
        yield from self._slots()
        live = GaugeMetricFamily(
            "aosk_processes_live",
            "Processes in memory; doing is the syscall that they wait in, or work.",
            labels=["program", "class", "doing"],
        )
        for kind in self.live:
            live.add_metric([kind.program, kind.process_class, kind.doing], kind.processes)
        yield live
        yield from self._bus()

    def _slots(self) -> Iterator[Metric]:
        slots = GaugeMetricFamily("aosk_slots", "Slots of a model.", labels=["address"])
        busy = GaugeMetricFamily("aosk_slots_busy", "Slots at work.", labels=["address"])
        waiting = GaugeMetricFamily(
            "aosk_queue_depth", "Calls that wait for a slot.", labels=["address", "class"]
        )
        for lane in self.lanes:
            slots.add_metric([lane.address], lane.slots)
            busy.add_metric([lane.address], lane.busy)
            for of_class in ("interactive", "normal", "batch"):
                depth = lane.waiting.get(of_class, 0)
                waiting.add_metric([lane.address, of_class], depth)
        yield from (slots, busy, waiting)

    def _bus(self) -> Iterator[Metric]:
        labels = ["subscriber"]
        depth = GaugeMetricFamily("aosk_bus_queue_depth", "Events in a queue.", labels=labels)
        dropped = CounterMetricFamily("aosk_bus_dropped", "Events dropped.", labels=labels)
        failed = CounterMetricFamily(
            "aosk_bus_failed", "Events that a subscriber failed on.", labels=labels
        )
        for queue in merged(self.queues):
            depth.add_metric([queue.name], queue.depth)
            dropped.add_metric([queue.name], queue.dropped)
            failed.add_metric([queue.name], queue.failed)
        yield from (depth, dropped, failed)


def merged(queues: Iterable[Queue]) -> Iterator[Queue]:
    """Of several subscribers with one name, their sum."""
    depth, dropped, failed = Counter[str](), Counter[str](), Counter[str]()
    for queue in queues:
        depth[queue.name] += queue.depth
        dropped[queue.name] += queue.dropped
        failed[queue.name] += queue.failed
    for name in depth:
        yield Queue(name, depth[name], dropped[name], failed[name])
