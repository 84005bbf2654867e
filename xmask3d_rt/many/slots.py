"""Slots for jobs, on this machine or on Ray."""

from collections.abc import Iterator
from contextlib import contextmanager

from xmask3d_rt.many.ray_slots import make_ray_slots
from xmask3d_rt.many.workers import OpenWorker, Resources, Slot, make_local_slots


@contextmanager
def open_slots(
    open_worker: OpenWorker, workers: int | None, ray: str | None, resources: Resources
) -> Iterator[list[Slot]]:
    """Slots on this machine, or on Ray where `ray` names a cluster; closed at the end.

    Args:
        open_worker: makes a slot's worker.
        workers: how many; None: one here, on Ray as many as the resources allow.
        ray: "local", the address of a cluster, or None.
        resources: of each worker on Ray.

    Raises:
        ValueError: workers < 1, or Ray is not installed or not reached.
    """
    if ray is None:
        slots = make_local_slots(open_worker, 1 if workers is None else workers)
    else:
        slots = make_ray_slots(open_worker, workers, ray, resources)
    try:
        yield slots
    finally:
        for slot in slots:
            slot.close()
