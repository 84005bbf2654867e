"""Launchers of voxelize, and of the hash table that the kernel map shares."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from xmask3d_rt.kernels.coords import AXIS_BITS, BATCH_LIMIT, COORD_LIMIT
from xmask3d_rt.kernels.dispatch import block_size
from xmask3d_rt.kernels.voxelize import kernel
from xmask3d_rt.kernels.voxelize.reference import Voxels, point_keys_reference

BLOCK = block_size(256)
NO_OWNER = torch.iinfo(torch.int32).max
MAX_KEYS = 1 << 29  # slots are int32 and the table holds up to four per key
_FIELDS = {"AXIS_BITS": AXIS_BITS, "COORD_LIMIT": COORD_LIMIT, "BATCH_LIMIT": BATCH_LIMIT}


class HashTable(NamedTuple):
    """Open-addressing table; the capacity is the largest power of two that fits the columns."""

    keys: Tensor  # [capacity + BLOCK] int64, -1 = empty
    rows: Tensor  # [capacity + BLOCK] int32


class UniqueKeys(NamedTuple):
    """Distinct voxels in ascending order, where they came from, and their table."""

    coords: Tensor  # [M, 4] int32
    inverse: Tensor  # [N] int64
    first: Tensor  # [M] int64
    table: HashTable


def launch_voxelize(points: Tensor, voxel_size: float, batch: Tensor | None) -> Voxels:
    """See `voxelize_reference`; waits for the GPU once."""
    keys, status = point_keys(points, voxel_size, batch)
    unique = unique_keys(keys, status, lambda: point_keys_reference(points, voxel_size, batch))
    return Voxels(unique.coords, unique.inverse, unique.first)


def point_keys(points: Tensor, voxel_size: float, batch: Tensor | None) -> tuple[Tensor, Tensor]:
    """Packed key of the voxel of every point [N] int64, and a status word [1] int32."""
    n = points.shape[0]
    keys = torch.empty(n, dtype=torch.int64, device=points.device)
    status = torch.zeros(1, dtype=torch.int32, device=points.device)
    if n:
        kernel.point_keys_kernel[(triton.cdiv(n, BLOCK),)](
            points_ptr=points,
            batch_ptr=points if batch is None else batch.contiguous(),
            n=n,
            stride_n=points.stride(0),
            stride_c=points.stride(1),
            keys_ptr=keys,
            status_ptr=status,
            HAS_BATCH=batch is not None,
            INV_VOXEL=1.0 / voxel_size,
            BLOCK=BLOCK,
            **_FIELDS,
        )
    return keys, status


def coord_keys(coords: Tensor, tensor_stride: int = 1) -> tuple[Tensor, Tensor]:
    """Packed key of ⌊coords / stride⌋ · stride [M] int64, and a status word [1] int32."""
    m = coords.shape[0]
    keys = torch.empty(m, dtype=torch.int64, device=coords.device)
    status = torch.zeros(1, dtype=torch.int32, device=coords.device)
    if m:
        kernel.coord_keys_kernel[(triton.cdiv(m, BLOCK),)](
            coords_ptr=coords,
            m=m,
            stride_m=coords.stride(0),
            stride_c=coords.stride(1),
            tensor_stride=tensor_stride,
            keys_ptr=keys,
            status_ptr=status,
            BLOCK=BLOCK,
            **_FIELDS,
        )
    return keys, status


def insert_unique(keys: Tensor, status: Tensor) -> HashTable:
    """Table of distinct keys, whose rows are their positions; a repeated key sets the status."""
    table, _ = _insert(keys, status, unique=True)
    return table


def unique_keys(keys: Tensor, status: Tensor, explain: Callable[[], object]) -> UniqueKeys:
    """Distinct keys in ascending order through the hash table; waits for the GPU once.

    Args:
        keys: [N] int64, from `point_keys` or `coord_keys`.
        status: their status word.
        explain: called where the status word is set; raises an error that names the values.
    """
    n = keys.shape[0]
    device = keys.device
    table, slots = _insert(keys, status, unique=False)
    is_first = torch.zeros(n, dtype=torch.int32, device=device)
    grid = (triton.cdiv(max(n, 1), BLOCK),)
    kernel.mark_first_kernel[grid](
        slots_ptr=slots, table_owner_ptr=table.rows, n=n, is_first_ptr=is_first, BLOCK=BLOCK
    )
    rank = torch.cumsum(is_first, 0, dtype=torch.int32)
    m, code = torch.stack([is_first.sum(dtype=torch.int32), status[0]]).tolist()
    if code:
        explain()
    unique = torch.empty(m, dtype=torch.int64, device=device)
    first = torch.empty(m, dtype=torch.int64, device=device)
    kernel.compact_kernel[grid](
        keys_ptr=keys,
        is_first_ptr=is_first,
        rank_ptr=rank,
        n=n,
        unique_keys_ptr=unique,
        first_ptr=first,
        BLOCK=BLOCK,
    )
    ordered, order = torch.sort(unique)
    coords = torch.empty((m, 4), dtype=torch.int32, device=device)
    ordered_first = torch.empty_like(first)
    inverse = torch.empty(n, dtype=torch.int64, device=device)
    kernel.number_kernel[(triton.cdiv(max(m, 1), BLOCK),)](
        sorted_keys_ptr=ordered,
        order_ptr=order,
        first_ptr=first,
        slots_ptr=slots,
        m=m,
        coords_ptr=coords,
        sorted_first_ptr=ordered_first,
        table_owner_ptr=table.rows,
        AXIS_BITS=AXIS_BITS,
        BLOCK=BLOCK,
    )
    kernel.gather_rows_kernel[grid](
        slots_ptr=slots, table_owner_ptr=table.rows, n=n, rows_ptr=inverse, BLOCK=BLOCK
    )
    return UniqueKeys(coords, inverse, ordered_first, table)


def _insert(keys: Tensor, status: Tensor, unique: bool) -> tuple[HashTable, Tensor]:
    n = keys.shape[0]
    if n > MAX_KEYS:
        raise ValueError(f"voxel hash: at most {MAX_KEYS} points at once, got {n}; split the cloud")
    log_capacity = max(4, (2 * n - 1).bit_length())
    size = (1 << log_capacity) + BLOCK
    table = HashTable(
        torch.full((size,), -1, dtype=torch.int64, device=keys.device),
        torch.full((size,), NO_OWNER, dtype=torch.int32, device=keys.device),
    )
    slots = torch.empty(0 if unique else n, dtype=torch.int32, device=keys.device)
    if n:
        kernel.insert_kernel[(triton.cdiv(n, BLOCK),)](
            keys_ptr=keys,
            n=n,
            table_keys_ptr=table.keys,
            table_owner_ptr=table.rows,
            slots_ptr=slots,
            status_ptr=status,
            LOG_CAPACITY=log_capacity,
            UNIQUE=unique,
            BLOCK=BLOCK,
        )
    return table, slots
