"""Compile cases of the neighbour look-up and of the tile plan."""

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
    return cases + _plan_cases()


def _plan_cases() -> list[CompileCase]:
    cases = []
    for offsets in (8, 27):
        constants = {"OFFSETS": offsets, "BLOCK_M": 64, "BLOCK_K": 8 if offsets == 8 else 32}
        masks = {"neighbors_ptr": "*i32", "m": "i32", "masks_ptr": "*i64"}
        columns = {"neighbors_ptr": "*i32", "order_ptr": "*i64", "m": "i32", "columns_ptr": "*i32"}
        for function, arguments in (
            (kernel.row_masks_kernel, masks),
            (kernel.columns_kernel, columns),
        ):
            cases.append(CompileCase("kernel_map", f"o{offsets}", function, arguments, constants))
    return cases
