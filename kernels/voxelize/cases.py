"""Compile cases of the voxel hash table."""

from xmask3d_rt.kernels.aot import CompileCase
from xmask3d_rt.kernels.coords import AXIS_BITS, BATCH_LIMIT, COORD_LIMIT
from xmask3d_rt.kernels.voxelize import kernel

_BLOCK = 256
_FIELDS = {"AXIS_BITS": AXIS_BITS, "COORD_LIMIT": COORD_LIMIT, "BATCH_LIMIT": BATCH_LIMIT}


def compile_cases() -> list[CompileCase]:
    """Every specialisation that the launchers make."""
    cases = []
    for dtype in ("fp32", "fp64"):
        cases.append(
            _case(
                kernel.point_keys_kernel,
                dtype,
                {
                    "points_ptr": f"*{dtype}",
                    "batch_ptr": "*i64",
                    "n": "i32",
                    "stride_n": "i32",
                    "keys_ptr": "*i64",
                    "status_ptr": "*i32",
                },
                {"stride_c": 1, "HAS_BATCH": True, "INV_VOXEL": 50.0, **_FIELDS},
            )
        )
    coord_arguments = {
        "coords_ptr": "*i32",
        "m": "i32",
        "stride_m": "i32",
        "keys_ptr": "*i64",
        "status_ptr": "*i32",
    }
    cases += [
        _case(
            kernel.coord_keys_kernel,
            "stride1",
            coord_arguments,
            {"stride_c": 1, "tensor_stride": 1, **_FIELDS},
        ),
        _case(
            kernel.coord_keys_kernel,
            "strided",
            {**coord_arguments, "tensor_stride": "i32"},
            {"stride_c": 1, **_FIELDS},
        ),
    ]
    for unique in (False, True):
        cases.append(
            _case(
                kernel.insert_kernel,
                "unique" if unique else "any",
                {
                    "keys_ptr": "*i64",
                    "n": "i32",
                    "table_keys_ptr": "*i64",
                    "table_owner_ptr": "*i32",
                    "slots_ptr": "*i32",
                    "status_ptr": "*i32",
                },
                {"LOG_CAPACITY": 20, "UNIQUE": unique},
            )
        )
    return cases + _numbering_cases()


def _numbering_cases() -> list[CompileCase]:
    slots = {"slots_ptr": "*i32", "table_owner_ptr": "*i32"}
    return [
        _case(kernel.mark_first_kernel, "", {**slots, "n": "i32", "is_first_ptr": "*i32"}),
        _case(
            kernel.compact_kernel,
            "",
            {
                "keys_ptr": "*i64",
                "is_first_ptr": "*i32",
                "rank_ptr": "*i32",
                "n": "i32",
                "unique_keys_ptr": "*i64",
                "first_ptr": "*i64",
            },
        ),
        _case(
            kernel.number_kernel,
            "",
            {
                **slots,
                "sorted_keys_ptr": "*i64",
                "order_ptr": "*i64",
                "first_ptr": "*i64",
                "m": "i32",
                "coords_ptr": "*i32",
                "sorted_first_ptr": "*i64",
            },
            {"AXIS_BITS": AXIS_BITS},
        ),
        _case(kernel.gather_rows_kernel, "", {**slots, "n": "i32", "rows_ptr": "*i64"}),
    ]


def _case(kernel, variant, arguments, constants=None) -> CompileCase:
    constants = {**(constants or {}), "BLOCK": _BLOCK}
    return CompileCase("voxelize", variant or "base", kernel, arguments, constants)
