"""Stand-ins for the engines of a view: small, of any batch size, on any device."""

import torch

from xmask3d_rt.components import COMPONENTS, FEATURES, VIEW_ENGINES
from xmask3d_rt.engines import AxisRange, Engine, Signature, TensorSpec

CPU = torch.device("cpu")
SIDE, D, Q, E, MAX_BATCH = 8, 6, 5, 4, 3
SHAPES = {
    "image": (3, SIDE, SIDE),
    "imp_condition": (E,),
    "latent": (4,),
    **{name: (index + 2,) for index, name in enumerate(FEATURES)},
    "mask_features": (D, 2, 2),
    "pred_masks": (Q, 2, 2),
    "queries": (Q, D),
    "mask_embed_clip": (Q, E),
}


class MixingEngine(Engine):
    """Every output is a fixed random mixture of all inputs, computed in memory of its own."""

    backend = "mixing"
    capturable = True

    def __init__(self, component, device=CPU, max_batch=MAX_BATCH):
        declared = COMPONENTS[component]
        inputs, outputs = (
            tuple(TensorSpec(name, "float32", ("B", *SHAPES[name])) for name in names)
            for names in (declared.inputs, declared.outputs)
        )
        signature = Signature(inputs, outputs, {"B": AxisRange(1, 1, max_batch)})
        super().__init__(component, signature, device)
        generator = torch.Generator().manual_seed(sum(map(ord, component)))
        width = sum(torch.Size(spec.shape[1:]).numel() for spec in inputs)
        self._mixtures = {
            spec.name: torch.randn(
                width, torch.Size(spec.shape[1:]).numel(), generator=generator
            ).to(device)
            for spec in outputs
        }
        self._scratch = torch.zeros(max_batch, width, device=device)
        self.bound = []

    def _run(self, inputs, outputs):
        scratch = self._scratch[: len(next(iter(inputs.values())))]
        torch.cat([tensor.flatten(1) for tensor in inputs.values()], 1, out=scratch)
        for name, tensor in outputs.items():
            tensor.copy_((scratch @ self._mixtures[name]).sin().view_as(tensor))

    def _run_bound(self, inputs, outputs):
        buffers = (*inputs.values(), *outputs.values())
        self.bound.append(tuple(t.data_ptr() for t in buffers))
        self._run(inputs, outputs)


class MixingHeads:
    def __init__(self, device=CPU):
        self._weight = torch.randn(D, E, generator=torch.Generator().manual_seed(9)).to(device)

    def mask_embed(self, pooled, queries):
        return (pooled + queries) @ self._weight


def make_engines(**options):
    return {name: MixingEngine(name, **options) for name in VIEW_ENGINES}
