"""Optimizers that touch only the rows of a table that a step has read.

A gradient with respect to a table ``[N, D]`` that is zero but for R rows is kept as
`Rows`.  The transformations here take it in the place of an array, and give an update
in the same form: a step then costs O(R D), whatever N.  For arrays they are those of
optax.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

Rate: TypeAlias = float | jax.Array | Callable[[jax.Array], Any]
"""A learning rate, or a schedule from steps done to one."""


class Rows(NamedTuple):
    """Some rows of a table: of its gradient, or of its update.

    Attributes:
      ids: ``[R]`` int32; N and above for rows that are not there.
      values: ``[R, D]``; where an id is there twice, its rows add up.
    """

    ids: jax.Array
    values: jax.Array


class LazyAdamState(NamedTuple):
    """State of `lazy_adam`.

    Attributes:
      count: ``[]`` int32, steps done.
      mu: first moments, like the parameters.
      nu: second moments.
    """

    count: jax.Array
    mu: Any
    nu: Any


class LazyAdagradState(NamedTuple):
    """State of `lazy_adagrad`.

    Attributes:
      count: ``[]`` int32, steps done.
      squares: sums of squared gradients, like the parameters, or one a row.
    """

    count: jax.Array
    squares: Any


def take(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows of a table, zeros for ids that are not there.

    Args:
      table: ``[N, D]``.
      ids: ``[R]`` int.

    Returns:
      ``[R, D]``.

    Examples:
      >>> take(jnp.array([[1.0], [2.0]]), jnp.array([1, 2])).tolist()
      [[2.0], [0.0]]
    """
    return table.at[ids].get(mode="fill", fill_value=0)


def sum_rows(rows: Rows, num_rows: int) -> Rows:
    """Each id once, with the sum of its rows; ids ascend.

    Args:
      rows: R rows of a table.
      num_rows: N of the table.

    Returns:
      R rows, of which those at the end have ids of N and above, all different.

    Examples:
      >>> rows = Rows(jnp.array([4, 1, 4]), jnp.array([[1.0], [2.0], [3.0]]))
      >>> found = sum_rows(rows, 5)
      >>> found.ids.tolist(), found.values.tolist()
      ([1, 4, 7], [[2.0], [4.0], [0.0]])
    """
    rows = Rows(*map(jnp.asarray, rows))
    size = rows.ids.shape[0]
    order = jnp.argsort(rows.ids)
    ids = rows.ids[order]
    is_first = jnp.concatenate([jnp.ones(min(size, 1), bool), ids[1:] != ids[:-1]])
    place = jnp.cumsum(is_first, dtype=jnp.int32) - 1
    values = jax.ops.segment_sum(
        rows.values[order], place, size, indices_are_sorted=True
    )
    outside = num_rows + jnp.arange(size, dtype=jnp.int32)
    distinct = outside.at[place].set(jnp.where(ids < num_rows, ids, outside[place]))
    return Rows(distinct, values)


def lazy_adam(
    learning_rate: Rate, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam, whose moments decay at the rows of a gradient only.

    For `Rows`, moments and parameters of other rows stay as they are: a row that is
    read every time goes as under `optax.adam`; a row that is read now and then keeps
    its moments in between, where dense Adam would let them decay and go on moving it.
    The correction of the bias goes by the steps of the run, not of the row.  These are
    the semantics of TensorFlow Addons' LazyAdam and of PyTorch's SparseAdam.

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the first moment.
      b2: decay of the second.
      eps: added to the root of the second.

    Returns:
      The transformation: arrays and `Rows` in, the same out; see `apply_updates`.

    Examples:
      >>> adam = lazy_adam(0.1)
      >>> params = {"nodes": jnp.zeros((1000, 1))}
      >>> grads = {"nodes": Rows(jnp.array([7, 3]), jnp.array([[1.0], [-2.0]]))}
      >>> updates, state = adam.update(grads, adam.init(params))
      >>> apply_updates(params, updates)["nodes"][jnp.array([3, 7, 8]), 0].round(3)
      Array([ 0.1, -0.1, 0. ], dtype=float32)

    References:
      Kingma and Ba, Adam, ICLR 2015; tfa.optimizers.LazyAdam; torch.optim.SparseAdam.
    """

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        again = jax.tree.map(jnp.zeros_like, params)
        return LazyAdamState(jnp.zeros((), jnp.int32), zeros, again)

    def update(updates, state, params=None):
        del params
        rate, count = _rate(learning_rate, state.count), state.count + 1
        corrections = 1 - b1**count, 1 - b2**count

        def one(grad, mu, nu):
            ids, grad, (m, v) = _open(grad, mu, nu)
            m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
            first, second = m / corrections[0], v / corrections[1]
            step = (-rate * first / (jnp.sqrt(second) + eps)).astype(m.dtype)
            return _close(ids, step, (mu, m), (nu, v))

        step, mu, nu = _each(one, updates, state.mu, state.nu)
        return step, LazyAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def lazy_adagrad(
    learning_rate: Rate,
    initial_accumulator_value: float = 0.1,
    eps: float = 1e-7,
    *,
    one_a_row: bool = False,
) -> optax.GradientTransformation:
    """Adagrad; at the rows of a gradient only it is the same as at all rows.

    A row whose gradient is zero does not move under Adagrad, so that nothing is lost.

    Args:
      learning_rate: a number or a schedule.
      initial_accumulator_value: where the sums of squares start.
      eps: added to them.
      one_a_row: keep one sum a row of a table, of the mean square of its gradient: the
        state is then smaller than the table by a factor of D.

    Returns:
      The transformation, as `lazy_adam`.

    Examples:
      >>> adagrad = lazy_adagrad(0.1, one_a_row=True)
      >>> adagrad.init({"nodes": jnp.zeros((5, 64))}).squares["nodes"].shape
      (5, 1)

    References:
      Duchi et al., Adaptive subgradient methods, JMLR 2011; Naumov et al., Deep
      learning recommendation model (DLRM), 2019, released code (one sum a row).
    """

    def init(params):
        def start(x):
            shape = (*x.shape[:-1], 1) if one_a_row and x.ndim > 1 else x.shape
            return jnp.full(shape, initial_accumulator_value, x.dtype)

        return LazyAdagradState(jnp.zeros((), jnp.int32), jax.tree.map(start, params))

    def update(updates, state, params=None):
        del params
        rate = _rate(learning_rate, state.count)

        def one(grad, squares):
            ids, grad, (total,) = _open(grad, squares)
            square = grad**2
            if total.shape != square.shape:
                square = jnp.mean(square, axis=-1, keepdims=True)
            total = total + square
            scale = jnp.where(total > 0, jax.lax.rsqrt(total + eps), 0.0)
            return _close(
                ids, (-rate * scale * grad).astype(grad.dtype), (squares, total)
            )

        step, squares = _each(one, updates, state.squares)
        return step, LazyAdagradState(state.count + 1, squares)

    return optax.GradientTransformation(init, update)


def apply_updates(params: Any, updates: Any) -> Any:
    """The parameters after an update: `optax.apply_updates` that knows `Rows`.

    Args:
      params: a tree of arrays.
      updates: the same tree, of arrays and `Rows`.

    Returns:
      The parameters.

    Examples:
      >>> rows = Rows(jnp.array([1, 9]), jnp.array([[0.5], [4.0]]))
      >>> apply_updates(jnp.zeros((2, 1)), rows).tolist()
      [[0.0], [0.5]]
    """

    def one(update, param):
        if not isinstance(update, Rows):
            return optax.apply_updates(param, update)
        step = update.values.astype(param.dtype)
        return param.at[update.ids].add(step, mode="drop")

    return jax.tree.map(one, updates, params, is_leaf=_is_rows)


def _is_rows(x: Any) -> bool:
    return isinstance(x, Rows)


def _rate(rate: Rate, count: jax.Array) -> Any:
    return rate(count) if callable(rate) else rate


def _open(grad: Any, *states: jax.Array) -> tuple:
    """Ids (None for all), the gradient there, and the states there."""
    if not _is_rows(grad):
        return None, grad, states
    grad = sum_rows(grad, states[0].shape[0])
    return grad.ids, grad.values, tuple(take(state, grad.ids) for state in states)


def _close(ids: jax.Array | None, step: jax.Array, *states: tuple) -> tuple:
    """The update, and the states with what is new of them."""
    if ids is None:
        return step, *(new for _, new in states)
    kept = {"mode": "drop", "indices_are_sorted": True, "unique_indices": True}
    return Rows(ids, step), *(old.at[ids].set(new, **kept) for old, new in states)


def _each(one: Callable, grads: Any, *states: Any) -> tuple:
    """The results of ``one`` over all leaves, a tree each."""
    leaves, tree = jax.tree.flatten(grads, is_leaf=_is_rows)
    columns = [tree.flatten_up_to(state) for state in states]
    found = [one(*row) for row in zip(leaves, *columns, strict=True)]
    return tuple(tree.unflatten(column) for column in zip(*found, strict=True))
