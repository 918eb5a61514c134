"""The product as a Pallas kernel: one program a receiver, no atomic additions.

Deterministic by construction, and no array of a vector an edge is ever written: each
program fetches the rows of some edges at once, keeps their sums in registers, and
writes its receiver's row.  It is compiled on GPUs and interpreted on CPU.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton

# Edges whose rows a program fetches together, and warps of a program: of eleven pairs
# on an H200, the one that did well at widths 64 and 256, in float32 and in bfloat16.
_EDGES = 16
_WARPS = 4


def pallas_sum(x, weight, senders, receivers, row_pointer, num_receivers):
    """Each program walks the edges of its receiver and adds up rows of ``x``."""
    del receivers
    if not (num_receivers and x.size and weight.size):
        return jnp.zeros((num_receivers, x.shape[1]), x.dtype)
    width = x.shape[1]
    # Triton wants powers of two.
    x = jnp.pad(x, ((0, 0), (0, pl.next_power_of_2(width) - width)))
    call = functools.partial(
        pl.pallas_call,
        _kernel,
        grid=(num_receivers,),
        in_specs=[pl.BlockSpec(memory_space=pl.ANY)] * 4,
        out_specs=pl.BlockSpec((1, x.shape[1]), lambda row: (row, 0)),
        # Mosaic, the default on GPUs, wants rows of 128 numbers and more.
        compiler_params=pltriton.CompilerParams(num_warps=_WARPS),
        out_shape=jax.ShapeDtypeStruct((num_receivers, x.shape[1]), x.dtype),
    )
    out = jax.lax.platform_dependent(
        row_pointer,
        senders,
        weight,
        x,
        cpu=call(interpret=True),
        default=call(interpret=False),
    )
    return out[:, :width]


def _kernel(row_pointer, senders, weight, x, out):
    row = pl.program_id(0)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    begin, end = row_pointer[row], row_pointer[row + 1]
    lanes, columns = (jnp.arange(n, dtype=jnp.int32) for n in (_EDGES, x.shape[1]))

    def add(step, total):
        edge = begin + step * _EDGES + lanes
        there = edge < end
        sender = pltriton.load(senders.at[edge], mask=there, other=0)
        share = pltriton.load(weight.at[edge], mask=there, other=0)
        rows = pltriton.load(
            x.at[sender[:, None], columns[None]], mask=there[:, None], other=0
        )
        return total + share.astype(wide)[:, None] * rows.astype(wide)

    start = jnp.zeros((_EDGES, x.shape[1]), wide)
    # Not `pl.cdiv`, whose divisor becomes 64 bits wide where these are enabled.
    steps = (end - begin + _EDGES - 1) // jnp.int32(_EDGES)
    total = jax.lax.fori_loop(0, steps, add, start)
    out[0] = jnp.sum(total, axis=0).astype(out.dtype)
