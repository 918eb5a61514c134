"""A student's vectors brought near a teacher's, who stays where he is."""

from typing import Literal

import jax
import jax.numpy as jnp

from recjax.layers import unit_length
from recjax.losses._rows import keep_rows
from recjax.reduce import ReduceFn, reduce_masked


def distillation_loss(
    student: jax.Array,
    teacher: jax.Array,
    *,
    distance: Literal["cosine", "mse"] = "cosine",
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    """Distance of vectors, ``1 - cos(x_b, y_b)`` or ``|x_b - y_b|^2 / D``.

    The teacher gets no derivative.

    Args:
      student: x ``[B, D]``.
      teacher: y ``[B, D]``.
      distance: ``"cosine"`` or ``"mse"``.
      where: ``[B]`` rows that count.
      reduce_fn: over rows; None for a loss a row.

    Returns:
      A scalar, or ``[B]``.

    Raises:
      ValueError: the shapes do not fit, or the distance is neither.

    Examples:
      >>> import jax.numpy as jnp
      >>> x, y = jnp.array([[2.0, 0.0]]), jnp.array([[3.0, 0.0]])
      >>> float(distillation_loss(x, y)), float(distillation_loss(x, y, distance="mse"))
      (0.0, 0.5)

    References:
      Hinton et al., Distilling the knowledge in a neural network, 2015; Romero et al.,
      FitNets, ICLR 2015, equation 3.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"student {student.shape} and teacher {teacher.shape} must be [B, D]"
        )
    if distance not in ("cosine", "mse"):
        raise ValueError(f"distance {distance!r}: use 'cosine' or 'mse'")
    fixed = jax.lax.stop_gradient(teacher).astype(student.dtype)
    student, teacher = keep_rows(where, student, fixed)
    if distance == "cosine":
        losses = 1 - jnp.sum(unit_length(student) * unit_length(teacher), axis=1)
    else:
        losses = jnp.mean((student - teacher) ** 2, axis=1)
    return reduce_masked(losses, where, reduce_fn)
