"""Workers as Ray actors: on this machine, or on every machine of a cluster.

Files are written by the workers, so the folders of a run must be seen by all machines, and the
package must be installed on each.
"""

import logging
from concurrent.futures import Future
from typing import Any

from xmask3d_rt.errors import one_line
from xmask3d_rt.many.workers import OpenWorker, Resources, Slot, WorkerHands
from xmask3d_rt.system.extras import describe_install

logger = logging.getLogger(__name__)

LOCAL = "local"


class RaySlot(Slot):
    """One actor; a dead one is replaced, on whatever machine has room.

    Args:
        actor_class: of `WorkerHands`, with its resources.
        open_worker: makes the actor's worker.
        number: of the slot.
    """

    def __init__(self, actor_class: Any, open_worker: OpenWorker, number: int) -> None:
        from ray.exceptions import RayActorError

        self.lost = (RayActorError,)
        self._actor_class = actor_class
        self._setup = open_worker, number
        self._actor: Any = None

    def submit(self, payload: Any) -> "Future[dict[str, Any]]":
        """Hand the job to the actor, which is started with the first one."""
        if self._actor is None:
            self._actor = self._actor_class.remote(*self._setup)
        return self._actor.work.remote(payload).future()

    def close(self) -> None:
        """End the actor, if it has not died."""
        import ray

        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None


def make_ray_slots(
    open_worker: OpenWorker, workers: int | None, address: str, resources: Resources
) -> list[Slot]:
    """Connect to a cluster, or start one on this machine, and place workers.

    Args:
        open_worker: makes an actor's worker; a GPU that Ray assigns is its `cuda:0`.
        workers: how many; None: one per GPU, or per `threads` cores where no GPU is asked for.
        address: "local", "auto", or host:port or ray://host:port of a cluster.
        resources: of each worker.

    Raises:
        ValueError: Ray is not installed, the cluster is not reached, or it has no room for one
            worker.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"--ray needs Ray ({error}); {describe_install('ray')}") from error
    _connect(ray, address, workers, resources)
    room = _count_room(ray.cluster_resources(), resources)
    if not room:
        need = "a GPU" if resources.gpu else f"{resources.threads} CPUs"
        raise ValueError(
            f"--ray {address}: no machine of the cluster has {need} for a worker; give fewer "
            "--threads or --device cpu"
        )
    if workers is not None and workers > room:
        logger.warning("the cluster has room for %d workers at a time, not %d", room, workers)
    actor_class = ray.remote(num_cpus=resources.threads, num_gpus=int(resources.gpu))(WorkerHands)
    count = min(workers or room, room)
    return [RaySlot(actor_class, open_worker, number) for number in range(count)]


def _connect(ray: Any, address: str, workers: int | None, resources: Resources) -> None:
    """Join the cluster, or start one here with room for the workers."""
    if ray.is_initialized():
        return
    if address == LOCAL:
        cpus = None if workers is None else workers * resources.threads
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
        return
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"--ray {address}: no cluster is reached ({one_line(error)}); start one "
            "with `ray start --head`, or give --ray local"
        ) from error


def _count_room(cluster: dict[str, float], resources: Resources) -> int:
    """Workers that fit into a cluster at a time."""
    room = int(cluster.get("CPU", 0)) // max(resources.threads, 1)
    return min(room, int(cluster.get("GPU", 0))) if resources.gpu else room
