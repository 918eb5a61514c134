"""Reductions over the edges of each receiver, safe where a receiver has none.

An edge counts where ``where`` is True and its receiver is one of the ``num_receivers``;
what any other edge holds, NaN included, reaches neither a result nor a derivative.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def segment_max(
    values: jax.Array,
    receivers: jax.Array,
    *,
    num_receivers: int,
    where: jax.Array | None = None,
    is_sorted: bool = False,
) -> jax.Array:
    """Largest value at each receiver, ``out_i = max over e into i of x_e``.

    Args:
      values: ``[E, ...]`` floating, x.
      receivers: ``[E]`` int.
      num_receivers: rows of the result.
      where: ``[E]`` mask of the edges that count; None counts all.
      is_sorted: promise that the receivers are ascending.

    Returns:
      ``[num_receivers, ...]``; 0 where no edge counts.

    Raises:
      ValueError: shapes do not fit, or the values are not floating.

    Examples:
      >>> import jax.numpy as jnp
      >>> values, receivers = jnp.array([-3.0, -1.0]), jnp.array([0, 0])
      >>> segment_max(values, receivers, num_receivers=2).tolist()
      [-1.0, 0.0]

    References:
      Hamilton et al., GraphSAGE, NeurIPS 2017, equation 3 (pooling by a maximum).
    """
    return _extreme(
        jax.ops.segment_max,
        -jnp.inf,
        values,
        receivers,
        num_receivers,
        where,
        is_sorted,
    )


def segment_min(
    values: jax.Array,
    receivers: jax.Array,
    *,
    num_receivers: int,
    where: jax.Array | None = None,
    is_sorted: bool = False,
) -> jax.Array:
    """Smallest value at each receiver, ``out_i = min over e into i of x_e``.

    Args:
      values: ``[E, ...]`` floating, x.
      receivers: ``[E]`` int.
      num_receivers: rows of the result.
      where: ``[E]`` mask of the edges that count; None counts all.
      is_sorted: promise that the receivers are ascending.

    Returns:
      ``[num_receivers, ...]``; 0 where no edge counts.

    Raises:
      ValueError: shapes do not fit, or the values are not floating.

    Examples:
      >>> import jax.numpy as jnp
      >>> values, receivers = jnp.array([3.0, 1.0]), jnp.array([0, 0])
      >>> segment_min(values, receivers, num_receivers=2).tolist()
      [1.0, 0.0]

    References:
      Corso et al., Principal neighbourhood aggregation, NeurIPS 2020, section 2.
    """
    return _extreme(
        jax.ops.segment_min, jnp.inf, values, receivers, num_receivers, where, is_sorted
    )


def segment_mean(
    values: jax.Array,
    receivers: jax.Array,
    *,
    num_receivers: int,
    where: jax.Array | None = None,
    is_sorted: bool = False,
) -> jax.Array:
    """Mean value at each receiver, ``out_i = sum over e into i of x_e / n_i``.

    Args:
      values: ``[E, ...]`` floating, x; sums are taken in float32 or wider.
      receivers: ``[E]`` int; n_i of the edges that count go into i.
      num_receivers: rows of the result.
      where: ``[E]`` mask of the edges that count; None counts all.
      is_sorted: promise that the receivers are ascending.

    Returns:
      ``[num_receivers, ...]`` in the type of the values; 0 where no edge counts.

    Raises:
      ValueError: shapes do not fit, or the values are not floating.

    Examples:
      >>> import jax.numpy as jnp
      >>> values, receivers = jnp.array([3.0, 1.0]), jnp.array([0, 0])
      >>> segment_mean(values, receivers, num_receivers=2).tolist()
      [2.0, 0.0]

    References:
      Hamilton et al., GraphSAGE, NeurIPS 2017, equation 2 (the mean aggregator).
    """
    values, receivers, counts = _prepare(values, receivers, num_receivers, where)
    wide = jnp.promote_types(values.dtype, jnp.float32)
    kept = jnp.where(_like(counts, values), values, 0).astype(wide)
    total = _sum(kept, receivers, num_receivers, is_sorted)
    # A floating count would stop at 2 ** 24.
    number = _sum(counts.astype(jnp.int32), receivers, num_receivers, is_sorted)
    share = total / _like(jnp.maximum(number, 1).astype(wide), total)
    return share.astype(values.dtype)


def segment_softmax(
    logits: jax.Array,
    receivers: jax.Array,
    *,
    num_receivers: int,
    where: jax.Array | None = None,
    is_sorted: bool = False,
) -> jax.Array:
    """Softmax over the edges of each receiver, ``a_e = exp(x_e) / sum_e' exp(x_e')``.

    The sum runs over the edges e' with the receiver of e.  An edge whose logit is -inf
    counts as masked.  Where no edge of a receiver counts, all its weights are 0, so
    that the receiver takes in nothing; `jraph.segment_softmax` subtracts the maximum
    of such a segment, -inf, from itself and gives NaN.

    Args:
      logits: ``[E, ...]`` floating, x; exponentials and sums are taken in float32 or
        wider.
      receivers: ``[E]`` int.
      num_receivers: number of receivers.
      where: ``[E]`` mask of the edges that count; None counts all.
      is_sorted: promise that the receivers are ascending.

    Returns:
      ``[E, ...]`` weights in the type of the logits; those of a receiver sum to 1, or
      are all 0.

    Raises:
      ValueError: shapes do not fit, or the logits are not floating.

    Examples:
      >>> import jax.numpy as jnp
      >>> logits, receivers = jnp.array([1e4, 1e4, -jnp.inf]), jnp.array([0, 0, 1])
      >>> segment_softmax(logits, receivers, num_receivers=2).tolist()
      [0.5, 0.5, 0.0]

    References:
      Velickovic et al., Graph attention networks, ICLR 2018, equation 2.
    """
    logits = jnp.asarray(logits)
    if not num_receivers:
        _prepare(logits, receivers, num_receivers, where)
        return jnp.zeros_like(logits)
    power, total = segment_powers(logits, receivers, num_receivers, where, is_sorted)
    share = power / jnp.where(total > 0, total, 1)[receivers]
    return share.astype(logits.dtype)


def segment_powers(
    logits: jax.Array,
    receivers: jax.Array,
    num_receivers: int,
    where: jax.Array | None,
    is_sorted: bool,
) -> tuple[jax.Array, jax.Array]:
    """What a softmax divides: ``exp(x_e - top)``, and its sum at each receiver.

    Args:
      logits: ``[E, ...]``, x; the largest of each receiver is its top.
      receivers: ``[E]``.
      num_receivers: positive.
      where: ``[E]`` or None.
      is_sorted: promise that the receivers are ascending.

    Returns:
      ``[E, ...]`` and ``[num_receivers, ...]``, in float32 or wider; 0 for edges that
      do not count.
    """
    logits, receivers, counts = _prepare(logits, receivers, num_receivers, where)
    counts = _like(counts, logits) & (logits != -jnp.inf)
    wide = jnp.where(counts, logits, 0)
    wide = wide.astype(jnp.promote_types(logits.dtype, jnp.float32))
    # The weights do not depend on what is subtracted, so neither do derivatives.
    top = jax.ops.segment_max(
        jnp.where(counts, jax.lax.stop_gradient(wide), -jnp.inf),
        receivers,
        num_receivers,
        indices_are_sorted=is_sorted,
    )
    # Masked before the exponential as well as after: its derivative could be infinite.
    shifted = jnp.where(counts, wide - top[receivers], 0)
    power = jnp.where(counts, jnp.exp(shifted), 0)
    return power, _sum(power, receivers, num_receivers, is_sorted)


def _prepare(
    values: jax.Array,
    receivers: jax.Array,
    num_receivers: int,
    where: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Checked arrays, and the mask ``[E]`` of the edges that count."""
    values, receivers = jnp.asarray(values), jnp.asarray(receivers, jnp.int32)
    if receivers.ndim != 1 or values.shape[:1] != receivers.shape:
        raise ValueError(
            f"values {values.shape} and receivers {receivers.shape} must have one "
            "entry an edge: [E, ...] and [E]"
        )
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(f"values of type {values.dtype} must be floating")
    counts = (receivers >= 0) & (receivers < num_receivers)
    if where is not None:
        where = jnp.asarray(where)
        if where.shape != receivers.shape:
            raise ValueError(
                f"where {where.shape} must have the shape of receivers "
                f"{receivers.shape}"
            )
        counts &= where.astype(bool)
    return values, receivers, counts


def _like(rows: jax.Array, values: jax.Array) -> jax.Array:
    """``[R]`` with as many axes as ``[R, ...]``."""
    return rows.reshape(rows.shape + (1,) * (values.ndim - 1))


def _sum(
    values: jax.Array, receivers: jax.Array, num_receivers: int, is_sorted: bool
) -> jax.Array:
    return jax.ops.segment_sum(
        values, receivers, num_receivers, indices_are_sorted=is_sorted
    )


def _extreme(
    reduce: Callable[..., jax.Array],
    neutral: float,
    values: jax.Array,
    receivers: jax.Array,
    num_receivers: int,
    where: jax.Array | None,
    is_sorted: bool,
) -> jax.Array:
    values, receivers, counts = _prepare(values, receivers, num_receivers, where)
    kept = jnp.where(_like(counts, values), values, neutral)
    out = reduce(kept, receivers, num_receivers, indices_are_sorted=is_sorted)
    number = _sum(counts.astype(jnp.int32), receivers, num_receivers, is_sorted)
    return jnp.where(_like(number > 0, out), out, 0)
