"""The stand-ins' weights as files that everything reads which reads CLIP's and Stable Diffusion's.

They are converted copies in the sense of `model/checkpoints`: the module's own names.
"""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from xmask3d_rt.files import atomic_write
from xmask3d_rt.model.checkpoints.layouts import CONVERTED_FORMAT

PREFIXES = {"clip": "clip.", "sd": "diffusion."}


def save_network(network: nn.Module, namespace: str, path: Path) -> None:
    """Write a network as the weight file of its namespace, `clip` or `sd`."""
    prefix = PREFIXES[namespace]
    state = {
        prefix + name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()
    }
    metadata = {"format": CONVERTED_FORMAT, "namespace": namespace}
    with atomic_write(path) as temporary:
        save_file(state, temporary, metadata)


def load_network(network: nn.Module, namespace: str, path: Path) -> None:
    """Read what `save_network` wrote, in place."""
    prefix = PREFIXES[namespace]
    state = {name.removeprefix(prefix): tensor for name, tensor in load_file(path).items()}
    network.load_state_dict(state)
