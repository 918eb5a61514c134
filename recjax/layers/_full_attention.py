"""Softmax and linear attention without a graph: over all nodes, or along a sequence.

A masked node (or step) neither sends nor receives: its row of the result is 0, and what
it holds, NaN included, reaches neither the other rows nor any derivative.
"""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp


class _Tiles(NamedTuple):
    """Queries, keys and values, each ``[T, H, b, D]``: T blocks of b nodes."""

    queries: jax.Array
    keys: jax.Array
    values: jax.Array


_Normaliser: TypeAlias = tuple[jax.Array, jax.Array]


def full_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    where: jax.Array | None = None,
    block_size: int = 1024,
) -> jax.Array:
    """Attention of every node over all nodes, ``out_i = sum_j a_ij v_j``.

    ``a_ij = softmax over all j of (q_i . k_j / sqrt(D))``, for each head.  Scores are
    made block by block and forgotten, going forward and again for the derivative, so
    that memory grows as ``H (N D + block_size^2)`` while time grows as ``N^2``.  The
    derivative is written out: reverse mode only.

    Args:
      queries: ``[N, H, D]``, or ``[N, D]`` for one head without an axis.
      keys: shape of the queries.
      values: ``[N, H, D']`` or ``[N, D']``.
      where: ``[N]`` mask of the nodes that take part; None for all.
      block_size: queries, and keys, of one block, at most.

    Returns:
      ``[N, H, D']`` or ``[N, D']``, in the type of the values; scores and sums are
      taken in float32 or wider.

    Raises:
      ValueError: shapes do not fit, or the block size is not positive.

    Examples:
      >>> import jax.numpy as jnp
      >>> nodes = jnp.array([[0.0], [1.0], [5.0]])
      >>> same = jnp.zeros_like(nodes)
      >>> full_attention(same, same, nodes).tolist()
      [[2.0], [2.0], [2.0]]
      >>> full_attention(same, same, nodes, where=jnp.array([1, 1, 0])).tolist()
      [[0.5], [0.5], [0.0]]

    References:
      Milakov and Gimelshein, Online normalizer calculation for softmax, 2018,
      algorithm 3; Rabe and Staats, Self-attention does not need O(n^2) memory, 2021;
      Dao et al., FlashAttention, NeurIPS 2022, algorithms 1 and 4.
    """
    queries, keys, values, where = _prepare(queries, keys, values, where, axes=(2, 3))
    if block_size < 1:
        raise ValueError(f"block_size {block_size} must be at least 1")
    if queries.ndim == 2:
        one_head = (x[:, None] for x in (queries, keys, values))
        return full_attention(*one_head, where=where, block_size=block_size).squeeze(1)
    num = len(queries)
    if not num:
        return values
    blocks = -(-num // block_size)
    # Of even size: with a last block that is nearly empty, padding would be computed.
    size = -(-num // blocks)

    more = blocks * size - num
    wide = _wide(queries, keys, values)

    def tile(x):
        x = jnp.pad(x.astype(wide), ((0, more), (0, 0), (0, 0)))
        return x.reshape(blocks, size, *x.shape[1:]).swapaxes(1, 2)

    tiles = _Tiles(tile(queries) * queries.shape[-1] ** -0.5, tile(keys), tile(values))
    out = _blockwise(tiles, jnp.pad(where, (0, more)).reshape(blocks, size))
    out = out.swapaxes(1, 2).reshape(blocks * size, *values.shape[1:])
    return jnp.where(where[:, None, None], out[:num], 0).astype(values.dtype)


def sequence_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    where: jax.Array | None = None,
    causal: bool = False,
) -> jax.Array:
    """Attention along a sequence, ``out_t = sum_s a_ts v_s``.

    ``a_ts = softmax_s(q_t . k_s / sqrt(D))``, for each head, over all steps s of the
    sequence or over ``s <= t``; by `jax.nn.dot_product_attention`.

    Args:
      queries: ``[B, S, H, D]``, of B sequences of S steps.
      keys: shape of the queries.
      values: shape of the queries.
      where: ``[B, S]`` mask of the steps that take part; None for all.
      causal: whether a step sees no later one.

    Returns:
      ``[B, S, H, D]``; 0 at masked steps.  The softmax is taken in float32.

    Raises:
      ValueError: shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> steps = jnp.array([0.0, 1.0, 5.0]).reshape(1, 3, 1, 1)
      >>> same = jnp.zeros_like(steps)
      >>> sequence_attention(same, same, steps, causal=True).ravel().tolist()
      [0.0, 0.5, 2.0]

    References:
      Vaswani et al., Attention is all you need, NeurIPS 2017, equation 1.
    """
    queries, keys, values, where = _prepare(queries, keys, values, where, axes=(4,))
    if values.shape != keys.shape:
        raise ValueError(
            f"values {values.shape} must have the shape of keys {keys.shape}"
        )
    if not queries.size:
        return values
    out = jax.nn.dot_product_attention(
        queries, keys, values, mask=where[:, None, None, :], is_causal=causal
    )
    # A step that takes part sees itself, so the rows without any key are among these.
    return jnp.where(where[..., None, None], out, 0)


def linear_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    where: jax.Array | None = None,
) -> jax.Array:
    """Attention over all nodes in time linear in N, by a kernel for the softmax.

    ``out_i = f(q_i)^T (sum_j f(k_j) v_j^T) / (f(q_i) . sum_j f(k_j))`` for each head,
    with ``f(x) = elu(x) + 1``; the two sums are the same for all i.

    Args:
      queries: ``[N, H, D]``, or ``[N, D]`` for one head without an axis.
      keys: shape of the queries.
      values: ``[N, H, D']`` or ``[N, D']``.
      where: ``[N]`` mask of the nodes that take part; None for all.

    Returns:
      ``[N, H, D']`` or ``[N, D']``, in the type of the values; sums are taken in
      float32 or wider.

    Raises:
      ValueError: shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> nodes = jnp.array([[0.0], [1.0], [5.0]])
      >>> linear_attention(nodes, jnp.zeros_like(nodes), nodes).tolist()
      [[2.0], [2.0], [2.0]]

    References:
      Katharopoulos et al., Transformers are RNNs, ICML 2020, equations 4 to 7.
    """
    queries, keys, values, where = _prepare(queries, keys, values, where, axes=(2, 3))
    if queries.ndim == 2:
        one_head = (x[:, None] for x in (queries, keys, values))
        return linear_attention(*one_head, where=where).squeeze(1)
    wide = _wide(queries, keys, values)
    mask = where[:, None, None]
    queries = _positive(queries.astype(wide))
    keys = jnp.where(mask, _positive(keys.astype(wide)), 0)
    # A mean in place of the sum, which a large graph could take out of range.
    keys = keys / jnp.maximum(jnp.sum(where), 1).astype(wide)
    memory = jnp.einsum("nhd,nhv->hdv", keys, values.astype(wide))
    out = jnp.einsum("nhd,hdv->nhv", queries, memory)
    mass = jnp.einsum("nhd,hd->nh", queries, keys.sum(0))[..., None]
    kept = mask & (mass > 0)
    return jnp.where(kept, out / jnp.where(kept, mass, 1), 0).astype(values.dtype)


def _wide(*arrays: jax.Array) -> jnp.dtype:
    return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)


def _positive(x: jax.Array) -> jax.Array:
    """``elu(x) + 1``, without the cancellation of (exp(x) - 1) + 1 below 0."""
    return jnp.where(x > 0, x + 1, jnp.exp(jnp.where(x > 0, 0, x)))


def _prepare(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    where: jax.Array | None,
    *,
    axes: tuple[int, ...],
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Checked arrays, 0 where masked, and the mask: ``[N]``, or ``[B, S]``."""
    queries, keys, values = (jnp.asarray(x) for x in (queries, keys, values))
    if queries.ndim not in axes or queries.shape != keys.shape:
        raise ValueError(
            f"queries {queries.shape} and keys {keys.shape} must have one shape, with "
            f"{' or '.join(map(str, axes))} axes"
        )
    if values.ndim != keys.ndim or values.shape[:-1] != keys.shape[:-1]:
        raise ValueError(
            f"values {values.shape} must have the axes of keys {keys.shape}, but for "
            "the last"
        )
    shape = keys.shape[:2] if keys.ndim == 4 else keys.shape[:1]
    if where is None:
        return queries, keys, values, jnp.ones(shape, bool)
    where = jnp.asarray(where)
    if where.shape != shape:
        raise ValueError(f"where {where.shape} must be {shape}: keys are {keys.shape}")
    where = where.astype(bool)
    mask = where.reshape(shape + (1,) * (keys.ndim - len(shape)))
    # Before any arithmetic: NaN times 0 is NaN, in derivatives too.
    queries, keys, values = (jnp.where(mask, x, 0) for x in (queries, keys, values))
    return queries, keys, values, where


def _scores(queries: jax.Array, keys: jax.Array, where: jax.Array) -> jax.Array:
    """Scores ``[H, b, b]`` of a block of queries and one of keys, -inf where masked."""
    scores = jnp.einsum("hqd,hkd->hqk", queries, keys)
    return jnp.where(where[None, None, :], scores, -jnp.inf)


@jax.custom_vjp
def _blockwise(tiles: _Tiles, where: jax.Array) -> jax.Array:
    """The result ``[T, H, b, D']``, where the mask is ``[T, b]``."""
    return _forward(tiles, where)[0]


def _forward(tiles: _Tiles, where: jax.Array) -> tuple[jax.Array, _Normaliser]:
    """The result, and the largest score and the mass of each row, ``[T, H, b]``.

    Their logarithmic sum would do for the derivative, but at a score of 1e4 it is
    rounded to 1e-3.
    """
    rest = (tiles.keys, tiles.values, where)

    def one_query_block(queries):
        def step(carry, block):
            top, mass, out = carry
            keys, values, where = block
            scores = _scores(queries, keys, where)
            higher = jnp.maximum(top, scores.max(-1))
            # 0 while only masked keys went by: -inf minus itself is NaN.
            base = jnp.where(higher == -jnp.inf, 0, higher)
            shrink = jnp.exp(top - base)
            power = jnp.exp(scores - base[..., None])
            mass = mass * shrink + power.sum(-1)
            out = out * shrink[..., None] + jnp.einsum("hqk,hkv->hqv", power, values)
            return (higher, mass, out), None

        shape, dtype = queries.shape[:-1], queries.dtype
        start = (
            jnp.full(shape, -jnp.inf, dtype),
            jnp.zeros(shape, dtype),
            jnp.zeros((*shape, tiles.values.shape[-1]), dtype),
        )
        (top, mass, out), _ = jax.lax.scan(step, start, rest)
        mass = jnp.where(mass > 0, mass, 1)
        return out / mass[..., None], (jnp.where(top == -jnp.inf, 0, top), mass)

    return jax.lax.map(one_query_block, tiles.queries)


def _blockwise_fwd(tiles, where):
    out, normaliser = _forward(tiles, where)
    return out, (tiles, where, out, normaliser)


def _blockwise_bwd(residuals, grad):
    tiles, where, out, (top, mass) = residuals
    # The derivative of a softmax: a_ij (grad_i . v_j - grad_i . out_i).
    shift = jnp.sum(grad * out, -1)

    def one_query_block(grad_rest, block):
        queries, grad, shift, top, mass = block

        def step(grad_queries, block):
            keys, values, where, grad_keys, grad_values = block
            scores = _scores(queries, keys, where)
            share = jnp.exp(scores - top[..., None]) / mass[..., None]
            grad_share = jnp.einsum("hqv,hkv->hqk", grad, values)
            grad_scores = share * (grad_share - shift[..., None])
            grad_queries += jnp.einsum("hqk,hkd->hqd", grad_scores, keys)
            grad_keys += jnp.einsum("hqk,hqd->hkd", grad_scores, queries)
            grad_values += jnp.einsum("hqk,hqv->hkv", share, grad)
            return grad_queries, (grad_keys, grad_values)

        rest = (tiles.keys, tiles.values, where, *grad_rest)
        grad_queries, grad_rest = jax.lax.scan(step, jnp.zeros_like(queries), rest)
        return grad_rest, grad_queries

    start = (jnp.zeros_like(tiles.keys), jnp.zeros_like(tiles.values))
    blocks = (tiles.queries, grad, shift, top, mass)
    (grad_keys, grad_values), grad_queries = jax.lax.scan(
        one_query_block, start, blocks
    )
    return _Tiles(grad_queries, grad_keys, grad_values), None


_blockwise.defvjp(_blockwise_fwd, _blockwise_bwd)
