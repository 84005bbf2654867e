"""A backend in one file, as `docs/architecture.md` describes it: TorchScript on the CPU."""

import warnings

import torch

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.backend import Backend, BuiltFrom, Compilation, EngineFile
from xmask3d_rt.engines.base import Engine


class ScriptEngine(Engine):
    """A traced module."""

    backend = "script"

    def __init__(self, file: EngineFile, device: torch.device) -> None:
        super().__init__(file.component, file.signature, device)
        self._model = torch.jit.load(str(file.path))

    def _run(self, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            found = self._model(*(inputs[spec.name] for spec in self.inputs))
        for spec, tensor in zip(self.outputs, found, strict=True):
            outputs[spec.name].copy_(tensor)


def trace(job: Compilation) -> None:
    """The compiler."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # unchecked: the build compares values itself; as a function, whose weights are constants,
        # because a script module for every layer takes twice as long as the trace
        module = job.module.requires_grad_(False)
        traced = torch.jit.trace(lambda *x: module(*x), job.inputs, check_trace=False)
        torch.jit.save(traced, str(job.output))


BACKEND = Backend(
    name="script",
    title="script shows how a backend is added",
    precisions=(Precision.FP32,),
    devices=("cpu",),
    auto_devices=(),
    libraries=(("torch",),),
    check=lambda device: None,
    open=lambda file, device, threads: ScriptEngine(file, device),
    built_from=BuiltFrom.MODULE,
    artifact=lambda precision: "model.pt",
    compiler=f"{__name__}:trace",
)
