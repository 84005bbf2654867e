"""From a torch module to an AOTInductor package: torch.export, then torch's own compiler.

Half precision here is the module cast as a whole: torch's norms and softmax accumulate in fp32
whatever the type of their input. Inputs and outputs stay fp32.
"""

import copy
import dataclasses
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.backend import Compilation
from xmask3d_rt.engines.base import PRECISION_DTYPES, Signature
from xmask3d_rt.engines.inductor import (
    LIBRARY,
    check_compiler,
    describe_target,
    list_instructions,
)
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.engines.stamp import BuildStamp
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.graph.tracing import list_dynamic_shapes, quiet
from xmask3d_rt.files import stage_beside
from xmask3d_rt.system.extras import find_version

LOGGERS = ("torch._inductor", "torch._export", "torch.export", "torch._dynamo")


class Cast(nn.Module):
    """A module in another precision behind fp32 inputs and outputs.

    Args:
        module: copied, and cast.
        dtype: it computes in.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).to(dtype)
        self.dtype = dtype

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The module's outputs in fp32."""
        outputs = self.module(*(self._enter(x) for x in inputs))
        return tuple(x.float() if x.is_floating_point() else x for x in outputs)

    def _enter(self, x: Tensor) -> Tensor:
        return x.to(self.dtype) if x.is_floating_point() else x


def compile_component(job: Compilation) -> None:
    """Compile a component into a package with its stamp.

    Args:
        job: with the module, and the `.pt2` file to write.

    Raises:
        EngineError: there is no module, no C++ compiler, a GPU asked for where there is none, or
            the module cannot be exported or compiled.
    """
    if job.module is None:
        raise EngineError(f"{job.component}: backend inductor needs the torch module")
    check_compiler()
    target = describe_target(job.device)
    module = job.module
    if job.precision is not Precision.FP32:
        module = Cast(module, PRECISION_DTYPES[job.precision])
    module = module.to(job.device)
    examples = tuple(x.to(job.device) for x in job.inputs)
    with stage_beside(job.output) as scratch:
        part = scratch / "model.pt2"
        try:
            with torch.no_grad(), quiet(LOGGERS, Warning):
                program = torch.export.export(
                    module, examples, dynamic_shapes=_dynamic_shapes(module, job.signature)
                )
                torch._inductor.aoti_compile_and_package(program, package_path=str(part))
        except Exception as error:  # torch's compiler has no exception of its own
            raise EngineError(
                f"{job.component}: torch cannot compile it for {target}: {_describe(error)}; "
                f"build it with --backend onnxruntime"
            ) from error
        part.replace(job.output)
    stamp = BuildStamp(job.component, LIBRARY, torch.__version__, target, job.precision)
    dataclasses.replace(stamp, instructions=list_instructions(job.device)).save(job.output)


def describe_settings(device: torch.device, options: BuildOptions) -> dict[str, object]:
    """What a package for a device comes from besides torch: processor and compilers.

    Raises:
        EngineError: as of `check_compiler`.
    """
    from torch._inductor.cpp_builder import get_compiler_version_info

    triton = find_version("triton") if device.type == "cuda" else None
    return {
        "target": describe_target(device),
        "instructions": list_instructions(device),
        "compiler": get_compiler_version_info(check_compiler()),
        "triton": triton,
    }


def _dynamic_shapes(module: nn.Module, signature: Signature) -> Any:
    """Symbolic dimensions per argument of the module."""
    shapes = list_dynamic_shapes(signature)
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    # a forward(*inputs) counts as one argument, which is a tuple
    one = shapes is not None and kinds == [inspect.Parameter.VAR_POSITIONAL]
    return (shapes,) if one else shapes


def _describe(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no reason given'}"
