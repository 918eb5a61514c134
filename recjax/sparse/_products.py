"""The product itself, one function an implementation, without derivatives.

``x`` is ``[S, D]``, ``weight``, ``senders`` and ``receivers`` are ``[E]``.  A row
pointer ``[num_receivers + 1]`` is there where the edges are sorted by receiver.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import sparse as jax_sparse

from recjax.sparse._pallas import pallas_sum


def csr_sum(x, weight, senders, receivers, row_pointer, num_receivers):
    """A compressed-row product: Eigen on CPU; on GPU cuSPARSE where JAX is told to.

    ``JAX_BCOO_CUSPARSE_LOWERING=1`` tells it; a gather and a scatter without it.
    """
    del receivers
    # The kernels know float32 and float64 only.
    wide = jnp.promote_types(x.dtype, jnp.float32)
    matrix = jax_sparse.BCSR(
        (weight.astype(wide), senders, row_pointer), shape=(num_receivers, x.shape[0])
    )
    return (matrix @ x.astype(wide)).astype(x.dtype)


def segment_sum(x, weight, senders, receivers, row_pointer, num_receivers):
    """Gather, multiply, segment sum; any order of edges where there is no pointer."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    # Without a node there is no edge, but indexing refuses before it finds out.
    rows = x[senders] if len(x) else x
    out = jax.ops.segment_sum(
        rows.astype(wide) * weight.astype(wide)[:, None],
        receivers,
        num_receivers,
        indices_are_sorted=row_pointer is not None,
    )
    return out.astype(x.dtype)


@functools.cache
def make_product(implementation: str | None, num_receivers: int) -> Callable:
    """The product as a function of arrays, with a batching rule of its own."""

    def run(x, weight, senders, receivers, row_pointer):
        args = (x, weight, senders, receivers, row_pointer)
        csr, segment, pallas = (
            functools.partial(kind, num_receivers=num_receivers)
            for kind in (csr_sum, segment_sum, pallas_sum)
        )
        kinds = {"csr": csr, "segment": segment, "pallas": pallas}
        if implementation is not None:
            return kinds[implementation](*args)
        if row_pointer is None:
            return segment(*args)
        return jax.lax.platform_dependent(*args, cpu=csr, default=segment)

    product = jax.custom_batching.custom_vmap(run)

    @product.def_vmap
    def batch(axis_size, batched, x, *edges):
        if not any(jax.tree.leaves(batched[1:])):
            # Shared weights: the batch becomes extra feature columns of one product.
            width = axis_size * x.shape[2]
            columns = jnp.moveaxis(x, 0, 1).reshape(x.shape[1], width)
            out = product(columns, *edges)
            out = out.reshape(num_receivers, axis_size, x.shape[2])
            return jnp.moveaxis(out, 1, 0), True
        args, tree = jax.tree.flatten((x, *edges))
        mapped = jax.tree.leaves(batched)

        def one(moving):
            moving = iter(moving)
            own = [
                next(moving) if flag else arg
                for flag, arg in zip(mapped, args, strict=True)
            ]
            return product(*jax.tree.unflatten(tree, own))

        moving = [arg for flag, arg in zip(mapped, args, strict=True) if flag]
        return jax.lax.map(one, moving), True

    return product
