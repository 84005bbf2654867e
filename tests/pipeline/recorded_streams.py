"""A device without a device: streams that only write down what is queued on which of them.

Every torch operator is logged with the storages it reads and writes, on the stream that is
current. Two operators that touch the same storage, one of them writing, race unless a path of
stream order, event records and waits leads from one to the other.
"""

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xmask3d_rt.pipeline.streams import Lane

aten = torch.ops.aten
HOST_WAITS = (aten.item.default, aten.is_nonzero.default, aten._local_scalar_dense.default)


@dataclass
class Step:
    """One entry of the log: an operator, an event record or a wait for one."""

    name: str
    stream: str
    reads: frozenset = frozenset()
    writes: frozenset = frozenset()
    after: int | None = None  # the record a wait is for


@dataclass
class RecordedStreams:
    """`Streams` that run everything at once and log what a GPU would have been told.

    `site` names the call under way; its n-th wait is (site, n), and `dropped` ones are ignored.
    """

    dropped: tuple[str, int] | None = None
    refuses: bool = False  # to capture
    log: list[Step] = field(default_factory=list)
    sites: set = field(default_factory=set)
    captured: list[str] = field(default_factory=list)
    replayed: int = 0
    site: str = ""

    def __post_init__(self):
        self._stream, self._lanes, self._waits = "caller", 0, 0
        self._capturing, self._pool = False, None
        self._kept = []  # no storage is freed, so an address never stands for two

    def current(self):
        return self._stream

    def make_lane(self):
        self._lanes += 1
        return Lane(f"lane {self._lanes}", f"pool {self._lanes}")

    @contextmanager
    def on(self, stream):
        before, self._stream = self._stream, stream
        try:
            yield
        finally:
            self._stream = before

    def record(self, stream):
        self.log.append(Step("record", stream))
        return len(self.log) - 1

    def wait(self, stream, event):
        site = (self.site, self._waits)
        self._waits += 1
        self.sites.add(site)
        if site != self.dropped:
            self.log.append(Step("wait", stream, after=event))

    def capture(self, lane, run):
        if self.refuses:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        self._capturing = True
        with self.on(lane.stream):
            run()
        self._capturing = False
        self.captured.append(lane.stream)

        def replay():
            self.replayed += 1
            self._pool = lane.pool
            run()
            self._pool = None

        return replay

    @contextmanager
    def inside(self, site):
        """Log the operators of one call of the feature pass."""
        self.site, self._waits = site, 0
        with _Recorder(self):
            yield

    def add(self, func, reads, writes):
        if self._capturing:
            if func in HOST_WAITS:
                raise AssertionError("the host waits for a value inside a capture")
            return  # a graph's work is logged when it is replayed
        self._kept += [*reads, *writes]
        named = [frozenset(t.untyped_storage().data_ptr() for t in ts) for ts in (reads, writes)]
        if self._pool is not None:
            named[1] |= {self._pool}
        self.log.append(Step(str(func), self._stream, *named))


class _Recorder(TorchDispatchMode):
    def __init__(self, streams):
        super().__init__()
        self._streams = streams

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        aliases = [value.alias_info for value in func._schema.returns]
        if any(alias is not None and not alias.is_write for alias in aliases):
            return result  # a view: nothing is read before somebody uses it
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        written = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        for spec, value in zip(func._schema.arguments, args, strict=False):
            if spec.alias_info is not None and spec.alias_info.is_write:
                written.append(value)
        self._streams.add(func, tensors, written)
        return result


def find_races(log):
    """Pairs of steps that touch the same storage with nothing to order them."""
    before = []  # per step, a bit set of all steps that are over when it starts
    last = {}
    for i, step in enumerate(log):
        parents = [p for p in (last.get(step.stream), step.after) if p is not None]
        known = 0
        for parent in parents:
            known |= before[parent] | 1 << parent
        before.append(known)
        last[step.stream] = i
    touched = defaultdict(list)
    races = []
    for i, step in enumerate(log):
        for place in step.reads | step.writes:
            for j, wrote in touched[place]:
                if (wrote or place in step.writes) and not before[i] >> j & 1:
                    races.append((log[j], step))
            touched[place].append((i, place in step.writes))
    return races
