"""What everybody has to know about weights that were never trained."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmask3d_rt.engines.manifest import Manifest


def describe_synthetic(manifest: "Manifest | None") -> str | None:
    """A sentence on labels made with synthetic weights; None where the weights are real."""
    if manifest is None or manifest.weights.kind != "synthetic":
        return None
    return (
        f"the weights of {manifest.root} are synthetic (made by a rule, not trained): "
        "the labels mean nothing"
    )
