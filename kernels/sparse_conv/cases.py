"""Compile cases of the sparse convolution: every tile of the tables, every kind of layer."""

from typing import Any

from xmask3d_rt.kernels.aot import ARCHITECTURES, CompileCase
from xmask3d_rt.kernels.sparse_conv import kernel
from xmask3d_rt.kernels.sparse_conv.tiles import FORWARD, THIN, WGRAD, Tile, TileRule

# Multiples of 16 at launch for every layer of the released nets but the first.
_DIVISIBLE: tuple[str, ...] = ("feats_channels", "skip_channels", "in_channels", "out_channels")
_DIVISIBLE += ("stride_wk", "stride_wc", "stride_wn")
# Layers a tile serves: a 3³ or 2³ map, one on two sources, a 1x1 convolution, and the gradient of
# the inputs, which reads the weight transposed.
_LAYERS: dict[str, dict[str, Any]] = {
    "map": {},
    "skip": {"HAS_SKIP": True},
    "1x1": {"HAS_MAP": False, "SORTED": False, "kernel_volume": 1},
    "dgrad": {"HAS_BIAS": False, "HAS_RESIDUAL": False, "RELU": False, "stride_wc": 1},
}


def compile_cases() -> list[CompileCase]:
    """Forward, thin-input and weight-gradient kernels with every tile.

    fp16 stands for bf16 in all layers but one: the two differ in one opcode.
    """
    cases: dict[str, CompileCase] = {}
    for rule in FORWARD:
        for dtype in ("fp16", "bf16") if rule.half else ("fp32",):
            for layer in ("map",) if dtype == "bf16" else _LAYERS:
                case = _forward_case(rule, dtype, layer)
                cases.setdefault(case.name, case)
    makers = ((_thin_case, THIN), (_wgrad_case, WGRAD))
    others = [
        make(tile, dtype)
        for make, tiles in makers
        for half, tile in tiles.items()
        for dtype in (("fp16", "bf16") if half else ("fp32",))
    ]
    return [*cases.values(), *others]


def _forward_case(rule: TileRule, dtype: str, layer: str) -> CompileCase:
    tile = rule.tile
    pointers = ("feats", "skip", "weight", "residual", "out")
    arguments = {f"{name}_ptr": f"*{dtype}" for name in pointers}
    arguments |= {"columns_ptr": "*i32", "row_order_ptr": "*i32", "row_masks_ptr": "*i64"}
    arguments |= {"bias_ptr": "*fp32"}
    sizes = ("m_out", "feats_channels", "skip_channels", "out_channels", "kernel_volume")
    arguments |= dict.fromkeys((*sizes, "stride_wk", "stride_wc", "stride_wn"), "i32")
    constants = _constants(tile, {"BLOCK_M": tile.block_m, "BLOCK_C": tile.block_c})
    aligned = rule.multiple > 1
    constants |= {"EVEN_C": aligned, "HAS_BIAS": True, "HAS_RESIDUAL": True, "RELU": True}
    constants |= {"HAS_MAP": True, "SORTED": True, "HAS_SKIP": False, **_LAYERS[layer]}
    if layer != "dgrad":
        constants["stride_wn"] = 1
    architectures = rule.architectures or ARCHITECTURES
    kind = layer if aligned else f"{layer}-uneven"
    return _case(
        kernel.sparse_conv_kernel, kind, tile, dtype, arguments, constants, aligned, architectures
    )


def _thin_case(tile: Tile, dtype: str) -> CompileCase:
    arguments = {f"{name}_ptr": f"*{dtype}" for name in ("feats", "weight", "residual", "out")}
    arguments |= {"neighbors_ptr": "*i32", "bias_ptr": "*fp32"}
    sizes = ("m_out", "out_channels", "kernel_volume", "stride_wk", "stride_wc")
    arguments |= dict.fromkeys(sizes, "i32")
    constants = _constants(tile, {"BLOCK_M": tile.block_m, "BLOCK_R": tile.block_c})
    constants |= {"CHANNELS": 3, "stride_wn": 1}
    constants |= {"HAS_BIAS": True, "HAS_RESIDUAL": False, "RELU": True}
    return _case(kernel.sparse_conv_thin_kernel, "c3", tile, dtype, arguments, constants)


def _wgrad_case(tile: Tile, dtype: str) -> CompileCase:
    arguments = {
        "feats_ptr": f"*{dtype}",
        "grad_ptr": f"*{dtype}",
        "in_maps_ptr": "*i32",
        "out_maps_ptr": "*i32",
        "offsets_ptr": "*i64",
        "partial_ptr": "*fp32",
    }
    arguments |= dict.fromkeys(("in_channels", "out_channels", "kernel_volume", "splits"), "i32")
    constants = _constants(tile, {"BLOCK_L": tile.block_m, "BLOCK_C": tile.block_c})
    return _case(kernel.sparse_conv_wgrad_kernel, "any", tile, dtype, arguments, constants)


def _constants(tile: Tile, blocks: dict[str, Any]) -> dict[str, Any]:
    return {"PRECISION": "ieee", "UPCAST": False, "BLOCK_N": tile.block_n, **blocks}


def _case(
    function: Any,
    layer: str,
    tile: Tile,
    dtype: str,
    arguments: dict[str, str],
    constants: dict[str, Any],
    aligned: bool = True,
    architectures: tuple[int, ...] = ARCHITECTURES,
) -> CompileCase:
    given = {name: kind for name, kind in arguments.items() if name not in constants}
    return CompileCase(
        op="sparse_conv",
        variant=f"{layer}-{dtype}-{tile.block_m}x{tile.block_n}x{tile.block_c}",
        kernel=function,
        arguments=given,
        constants=constants,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        architectures=architectures,
        divisible=tuple(name for name in given if name in _DIVISIBLE and aligned),
    )
