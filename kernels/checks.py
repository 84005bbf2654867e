"""Argument checks of the operators: one line naming the value, what was expected and the fix."""

import torch


def check_shape(
    op: str, name: str, tensor: torch.Tensor, shape: tuple[int | None, ...], letters: str
) -> None:
    """Compare a shape with a pattern in which None matches any extent.

    Args:
        op: Operator name, the first word of the error.
        name: Argument name.
        tensor: The argument.
        shape: Expected extents, None where any will do.
        letters: The expected shape in words, such as "[N, 3]".

    Raises:
        TypeError: `tensor` is not a torch tensor.
        ValueError: the number of axes or an extent differs.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(
            f"{op}: {name} must be a torch.Tensor {letters}, got {type(tensor).__name__}; "
            f"convert it with torch.as_tensor"
        )
    same = tensor.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(tensor.shape, shape, strict=True)
    )
    if not same:
        expected = ", ".join("*" if extent is None else str(extent) for extent in shape)
        raise ValueError(
            f"{op}: {name} must have shape {letters} = [{expected}], got {list(tensor.shape)}"
        )


def check_float(op: str, **tensors: torch.Tensor) -> None:
    """Require floating-point tensors.

    Raises:
        TypeError: a tensor holds integers or booleans.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(
                f"{op}: {name} must be floating point, got {tensor.dtype}; pass {name}.float()"
            )


def check_integer(op: str, **tensors: torch.Tensor) -> None:
    """Require integer tensors.

    Raises:
        TypeError: a tensor holds floating-point numbers or booleans.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise TypeError(
                f"{op}: {name} must hold integers, got {tensor.dtype}; pass {name}.long()"
            )


def check_bool(op: str, **tensors: torch.Tensor) -> None:
    """Require boolean tensors.

    Raises:
        TypeError: a tensor is not of dtype bool.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.bool:
            raise TypeError(f"{op}: {name} must be bool, got {tensor.dtype}; pass {name}.bool()")


def check_device(op: str, **tensors: torch.Tensor) -> None:
    """Require all tensors on one device.

    Raises:
        ValueError: two tensors lie on different devices.
    """
    places = {name: tensor.device for name, tensor in tensors.items()}
    if len(set(places.values())) > 1:
        listed = ", ".join(f"{name} on {place}" for name, place in places.items())
        raise ValueError(f"{op}: all tensors must be on one device, got {listed}")
