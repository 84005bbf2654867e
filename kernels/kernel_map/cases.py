"""Compile cases of the neighbour look-up."""

from xmask3d_rt.kernels.aot import CompileCase
from xmask3d_rt.kernels.coords import AXIS_BITS
from xmask3d_rt.kernels.kernel_map import kernel


def compile_cases() -> list[CompileCase]:
    """The kernel sizes of a MinkUNet, at tensor stride 1 and above."""
    cases = []
    for kernel_size, tensor_stride in ((2, 1), (2, 2), (3, 1), (3, 2), (5, 1)):
        arguments = {
            "coords_ptr": "*i32",
            "table_keys_ptr": "*i64",
            "table_rows_ptr": "*i32",
            "m": "i32",
            "stride_m": "i32",
            "neighbors_ptr": "*i32",
        }
        constants = {
            "stride_c": 1,
            "KERNEL_SIZE": kernel_size,
            "AXIS_BITS": AXIS_BITS,
            "LOG_CAPACITY": 18,
            "BLOCK": 256,
        }
        if tensor_stride == 1:
            constants["tensor_stride"] = 1
        else:
            arguments["tensor_stride"] = "i32"
        variant = f"k{kernel_size}{'' if tensor_stride == 1 else '-strided'}"
        cases.append(
            CompileCase("kernel_map", variant, kernel.find_neighbors_kernel, arguments, constants)
        )
    return cases
