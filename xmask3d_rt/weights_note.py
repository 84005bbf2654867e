"""What everybody has to know about weights that were never trained."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmask3d_rt.engines.manifest import Manifest, WeightSource


def describe_synthetic(manifest: "Manifest | None") -> str | None:
    """A sentence on labels made with synthetic weights; None where the weights are real."""
    if manifest is None:
        return None
    said = describe_origin(manifest.weights, f" of {manifest.root}")
    return None if said is None else f"the {said}"


def describe_origin(weights: "WeightSource", where: str = "") -> str | None:
    """Which weights are synthetic and what labels mean then; None where none are.

    Args:
        weights: where they came from.
        where: such as " of engines/tiny".
    """
    match weights.kind:
        case "synthetic":
            return (
                f"weights{where} are synthetic (made by a rule, not trained): the labels mean "
                "nothing"
            )
        case "mixed":
            return (
                f"frozen networks{where} are synthetic (made by a rule): the labels mean something "
                "only if the checkpoint was trained beside such"
            )
    return None
