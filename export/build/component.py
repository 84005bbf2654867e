"""What the build of one component hands on, from the plan to the manifest's entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.engines.component import Component, Parity
from xmask3d_rt.engines.files import FileEntry
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.export.build.choices import Choice
from xmask3d_rt.export.build.weights import Weights
from xmask3d_rt.export.graph.contracts import Contract

Report = Callable[[str], None]


def report_nothing(step: str) -> None:
    """For builds that nobody watches."""


@dataclass(frozen=True)
class ComponentBuild:
    """One component to be had: what to make, of what, for where.

    Attributes:
        name: of the component.
        config: of the model.
        weights: read tensor by tensor.
        device: where it will run, and is checked.
        choices: backends and precisions to try, best first; at least one.
        fingerprint: hash of everything its files depend on.
        contract: what it promises; None for weights that run outside the engines.
        options: of the build.
        report: told what is being done.
    """

    name: str
    config: ModelConfig
    weights: Weights
    device: torch.device
    choices: tuple[Choice, ...]
    fingerprint: str
    contract: Contract | None = None
    options: BuildOptions = field(default_factory=BuildOptions)
    report: Report = report_nothing

    def describe(
        self, choice: Choice, files: tuple[FileEntry, ...], parity: Parity, opset: int | None = None
    ) -> Component:
        """The manifest's entry for what was built by one of the choices."""
        return Component(
            name=self.name,
            backend=choice.backend,
            precision=choice.precision,
            files=files,
            signature=None if self.contract is None else self.contract.signature,
            fingerprint=self.fingerprint,
            parity=parity,
            opset=opset,
            reason=choice.reason,
            options=self.options,
            device=self.device.type,
        )


@dataclass(frozen=True)
class Example:
    """Inputs of an engine component, in order, and what the torch module makes of them."""

    inputs: tuple[Tensor, ...]
    expected: Mapping[str, Tensor]


@dataclass(frozen=True)
class Exported:
    """What the engines of one component are made of.

    Attributes:
        contract: what it promises.
        examples: to check with; the last one is traced.
        graph: the ONNX file in fp32; what is made of it lies beside it.
        module: with its weights; None where no backend takes it.
    """

    contract: Contract
    examples: tuple[Example, ...]
    graph: Path
    module: nn.Module | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Those that are traced."""
        return self.examples[-1].inputs
