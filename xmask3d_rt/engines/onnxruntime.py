"""ONNX Runtime: the reference backend, on CPU or through its CUDA provider.

Inputs and outputs are bound by address to torch memory, so no array is copied on the way.
"""

import logging
from pathlib import Path
from typing import Any

import torch

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.backend import Backend, BuiltFrom, EngineFile, typed_name
from xmask3d_rt.engines.base import Engine, Signature
from xmask3d_rt.errors import EngineError, first_line
from xmask3d_rt.system.extras import describe_install

logger = logging.getLogger(__name__)

# onnx.TensorProto element types: numpy has no bfloat16, so types are bound by number
_ELEMENT_TYPES = {
    torch.float32: 1,
    torch.uint8: 2,
    torch.int32: 6,
    torch.int64: 7,
    torch.bool: 9,
    torch.float16: 10,
    torch.bfloat16: 16,
}


class OnnxRuntimeEngine(Engine):
    """An ONNX file run by ONNX Runtime.

    Args:
        component: name used in messages.
        path: the `.onnx` file; external data lies beside it.
        signature: declared inputs, outputs and profile.
        device: `cpu` or a CUDA device.
        threads: threads inside an operator; None takes every core the process may use.

    Raises:
        EngineError: ONNX Runtime is not installed, lacks a provider for `device`, or cannot
            load the file.
    """

    backend = "onnxruntime"

    def __init__(
        self,
        component: str,
        path: Path,
        signature: Signature,
        device: torch.device,
        threads: int | None = None,
    ) -> None:
        super().__init__(component, signature, device)
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(
                str(path), options, providers=list_providers(device)
            )
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise EngineError(
                f"{component}: ONNX Runtime cannot load {path}: {first_line(error)}"
            ) from error
        if device.type == "cuda" and self._session.get_providers()[0] != "CUDAExecutionProvider":
            raise EngineError(
                f"{component}: ONNX Runtime fell back to {self._session.get_providers()[0]}; its "
                f"CUDA libraries or the driver do not fit, see `xmask3d doctor`, or use device cpu"
            )
        self._check_names(path)

    def _check_names(self, path: Path) -> None:
        found = [node.name for node in self._session.get_inputs()]
        declared = [spec.name for spec in self.inputs]
        if sorted(found) != sorted(declared):
            raise EngineError(f"{self.component}: {path} takes {found}, declared are {declared}")

    def _run(self, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> None:
        binding = self._session.io_binding()
        index = self.device.index or 0
        for bind, tensors in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, tensor in tensors.items():
                bind(
                    name,
                    self.device.type,
                    index,
                    _ELEMENT_TYPES[tensor.dtype],
                    tuple(tensor.shape),
                    tensor.data_ptr(),
                )
        if self.device.type == "cuda":
            # the session has a stream of its own; torch's must have produced the inputs
            torch.cuda.current_stream(self.device).synchronize()
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise EngineError(
                f"{self.component}: ONNX Runtime failed: {first_line(error)}"
            ) from error

    def close(self) -> None:
        """Release the session."""
        super().close()
        self._session = None


def import_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        EngineError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"backend onnxruntime is not installed; {describe_install('cpu')}, or on a machine "
            f"with an NVIDIA GPU {describe_install('gpu')} (never both)"
        ) from error
    return onnxruntime


def list_providers(device: torch.device) -> list[Any]:
    """ONNX Runtime's execution providers for a device, with their options.

    Raises:
        EngineError: the installed build has none for it.
    """
    available = import_onnxruntime().get_available_providers()
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if device.type != "cuda" or "CUDAExecutionProvider" not in available:
        raise EngineError(
            f"backend onnxruntime cannot run on {device}: the installed build has "
            f"{', '.join(available)}; pip uninstall onnxruntime and "
            f"{describe_install('gpu')}, or use device cpu"
        )
    options = {"device_id": device.index or 0, "use_tf32": 0}
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _open(file: EngineFile, device: torch.device, threads: int | None) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(file.component, file.path, file.signature, device, threads)


BACKEND = Backend(
    name="onnxruntime",
    title="onnxruntime is the reference",
    precisions=(Precision.FP32, Precision.FP16),
    devices=("cpu", "cuda"),
    auto_devices=("cpu", "cuda"),
    libraries=(("onnxruntime", "onnxruntime-gpu"),),
    check=list_providers,
    open=_open,
    half=lambda device: Precision.FP16 if device.type == "cuda" else None,
    built_from=BuiltFrom.TYPED_GRAPH,
    artifact=typed_name,
    typed_on_cpu=(Precision.FP32, Precision.FP16),  # it has no bf16 on a CPU
)
