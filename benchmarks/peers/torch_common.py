"""Tensors on the device that torch finds, and waiting for it."""

from typing import Any

import numpy as np
import torch

from benchmarks.limits import num_cores

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_num_threads(num_cores())


def tensor(array: Any, dtype: str | None = None) -> torch.Tensor:
    """A tensor on the device, by a dtype's name; None keeps that of the array."""
    if dtype is not None:
        array = np.asarray(array, np.float32)
    out = torch.from_numpy(np.array(array)).to(DEVICE)
    return out if dtype is None else out.to(getattr(torch, dtype))


def finish(result: Any) -> Any:
    """The result, once the device has computed it."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return result


def forward_and_backward(call, leaves: list[torch.Tensor], cotangent: torch.Tensor):
    """A function to the result of a call and the derivatives of its dot product.

    Args:
      call: without arguments, to a tensor.
      leaves: what to differentiate by.
      cotangent: of the shape of the result.

    Returns:
      The function.
    """

    def both():
        for leaf in leaves:
            leaf.grad = None
        out = call()
        out.backward(cotangent)
        return finish((out.detach(), *(leaf.grad for leaf in leaves)))

    return both
