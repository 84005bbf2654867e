"""Arrays to a GPU and sizes back, without waiting for what the GPU has to do.

A copy from or to pageable memory waits for the work queued before it; one from or to pinned
memory is queued like a kernel.

Source: CUDA runtime API, "API synchronization behavior".
"""

import numpy as np
import torch
from torch import Tensor


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as a tensor on `device`, through pinned memory; on the CPU without a copy."""
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class HostCopy:
    """A tensor on its way to the host.

    Args:
        tensor: its values at this point of the current stream are what arrives.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._values = tensor
        if tensor.is_cuda:
            self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._values.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(tensor.device))

    def wait(self) -> Tensor:
        """The values on the host; waits for what was queued before the copy and nothing else."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._values
