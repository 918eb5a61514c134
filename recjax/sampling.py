"""Random choices of training, on device: keys in, static shapes out.

Negatives are drawn by inverting the running sum of integer item weights from which
the user's known items are cut out, so that none is ever drawn and none has to be
rejected and drawn again.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from recjax.lists import search_row
from recjax.types import Batch, Context, ItemLists, NegativeTable

# Integer weights sum to about this much: room for exact uint32 arithmetic.
_TOTAL_MASS = 2**30


def make_negative_table(
    seen: ItemLists, item_counts: np.ndarray, *, power: float = 0.0
) -> NegativeTable:
    """The table for drawing items with probability in proportion to count^power.

    Weights are rounded to integers that sum to about 2^30 (at least 1 each), which
    makes the arithmetic of drawing exact; with ``power=0`` every weight is 1.

    Args:
      seen: items never drawn for a user, ``[n]`` in all.
      item_counts: ``[I]``.
      power: 0 is uniform, 1 is popularity; word2vec used 0.75.

    Returns:
      The table, as NumPy arrays.

    Raises:
      ValueError: power is negative or not finite.

    Examples:
      >>> import numpy as np
      >>> from recjax.types import ItemLists
      >>> seen = ItemLists(np.array([0, 2]), np.array([0, 2]))
      >>> table = make_negative_table(seen, np.ones(4))
      >>> table.mass.tolist(), table.unseen_before.tolist()
      ([1, 2, 3, 4], [0, 1])
    """
    if not (np.isfinite(power) and power >= 0):
        raise ValueError(f"negative power {power} must be finite and at least 0")
    counts = np.asarray(item_counts, np.float64)
    if power == 0:
        weight = np.ones(len(counts), np.int64)
    else:
        # A count of 1 for items nobody took: they can be negatives too.
        weight = np.maximum(counts, 1.0) ** power
        weight *= _TOTAL_MASS / weight.sum()
        weight = np.maximum(np.rint(weight), 1).astype(np.int64)
    mass = np.cumsum(weight)
    items = np.asarray(seen.items)
    running = np.cumsum(weight[items])
    starts = np.concatenate([[0], running])[np.asarray(seen.pointer)]
    seen_before = running - weight[items]
    seen_before -= np.repeat(starts[:-1], np.diff(seen.pointer))
    unseen_before = mass[items] - weight[items] - seen_before
    return NegativeTable(mass.astype(np.uint32), seen, unseen_before.astype(np.uint32))


def unseen_mass(table: NegativeTable, users: jax.Array) -> jax.Array:
    """Total weight of the items that each user does not know.

    Args:
      table: see `make_negative_table`.
      users: ``[B]`` int.

    Returns:
      ``[B]`` uint32.
    """
    begin, end = table.seen.pointer[users], table.seen.pointer[users + 1]
    total = table.mass[-1]
    if table.seen.items.shape[0] == 0:
        return jnp.broadcast_to(total, users.shape)
    last = jnp.maximum(end - 1, 0)
    known = table.mass[table.seen.items[last]] - table.unseen_before[last]
    return jnp.where(end > begin, total - known, total)


def _multiply_high(x: jax.Array, y: jax.Array) -> jax.Array:
    """The upper 32 bits of a product of uint32, by halves."""
    x_low, x_high, y_low, y_high = x & 0xFFFF, x >> 16, y & 0xFFFF, y >> 16
    first, second = x_high * y_low, x_low * y_high
    middle = (x_low * y_low >> 16) + (first & 0xFFFF) + (second & 0xFFFF)
    return x_high * y_high + (first >> 16) + (second >> 16) + (middle >> 16)


def uniform_below(key: jax.Array, shape: tuple[int, ...], high: jax.Array) -> jax.Array:
    """Integers below ``high``, uint32: 64 random bits times high, over 2^64.

    `jax.random.randint` takes the remainder of 32 bits where high passes 2^16, which
    near 2^30 makes some numbers a quarter more likely than others.

    Args:
      key: a PRNG key.
      shape: of the result.
      high: uint32, of a shape that spreads to it; where it is 0, so is the result.

    Returns:
      The integers.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> high = jnp.array([1, 0], jnp.uint32)
      >>> uniform_below(jax.random.key(0), (2,), high).tolist()
      [0, 0]
    """
    # In one row: the same bits as in that shape, compiled several times faster.
    bits = jax.random.bits(key, (2 * math.prod(shape),), jnp.uint32)
    bits = bits.reshape(2, *shape)
    low = bits[0] * high
    carry = low + _multiply_high(bits[1], high) < low
    return _multiply_high(bits[0], high) + carry.astype(jnp.uint32)


def sample_negatives(
    key: jax.Array, table: NegativeTable, users: jax.Array, num: int
) -> tuple[jax.Array, jax.Array]:
    """Draws items that the users do not know, with replacement.

    Args:
      key: a PRNG key; the same key gives the same draw.
      table: see `make_negative_table`.
      users: ``[B]`` int.
      num: draws M for each user.

    Returns:
      Items ``[B, M]`` int32, and whether the user has any unknown item ``[B]``; the
      items of a user who knows everything mean nothing.

    Examples:
      >>> import jax, numpy as np
      >>> from recjax.types import ItemLists
      >>> seen = ItemLists(np.array([0, 2]), np.array([0, 1]))
      >>> table = jax.device_put(make_negative_table(seen, np.ones(3)))
      >>> key, users = jax.random.key(0), jax.numpy.array([0])
      >>> sample_negatives(key, table, users, 4)[0].tolist()
      [[2, 2, 2, 2]]
    """
    unseen = unseen_mass(table, users)
    draw = uniform_below(key, (users.shape[0], num), unseen[:, None])
    if table.seen.items.shape[0] > 0:
        below = search_row(table.seen.pointer, table.unseen_before, users, draw)
        last = jnp.maximum(table.seen.pointer[users][:, None] + below - 1, 0)
        known = table.mass[table.seen.items[last]] - table.unseen_before[last]
        draw = draw + jnp.where(below > 0, known, 0)
    items = jnp.searchsorted(table.mass, draw, side="right").astype(jnp.int32)
    return jnp.minimum(items, table.mass.shape[0] - 1), unseen > 0


def negative_log_probability(
    table: NegativeTable, users: jax.Array, items: jax.Array
) -> jax.Array:
    """Log probability with which `sample_negatives` draws items for users.

    Args:
      table: see `make_negative_table`.
      users: ``[B]`` int.
      items: ``[B, M]`` int, unknown to the users.

    Returns:
      ``[B, M]`` float32.

    Examples:
      >>> import jax, numpy as np
      >>> from recjax.types import ItemLists
      >>> seen = ItemLists(np.array([0, 2]), np.array([0, 1]))
      >>> table = jax.device_put(make_negative_table(seen, np.ones(4)))
      >>> users, items = jax.numpy.array([0]), jax.numpy.array([[3]])
      >>> float(jax.numpy.exp(negative_log_probability(table, users, items))[0, 0])
      0.5
    """
    before = jnp.where(items > 0, table.mass[items - 1], 0)
    weight = (table.mass[items] - before).astype(jnp.float32)
    unseen = unseen_mass(table, users).astype(jnp.float32)
    return jnp.log(weight) - jnp.log(jnp.maximum(unseen, 1.0))[:, None]


def uniform_rows(key: jax.Array, rows: jax.Array, width: int) -> jax.Array:
    """Uniform numbers between 0 and 1 for rows of a large table, cheaply.

    The numbers of a row depend on the key and on its id alone: whoever asks for some
    of the rows gets those of the whole table.  Row r has a SplitMix stream of its own,
    ``w_c = mix(s + c g)``, whose start s and odd step g are the two words that
    `jax.random.fold_in` makes of a threefry key and r; each word gives two numbers
    ``(k + 1/2) / 2^16``.  That costs a fraction of `jax.random.uniform`, which for the
    noise or the dropout of a whole table would cost more than a neighbour sum.

    Args:
      key: a PRNG key.
      rows: ``[B]`` int, ids.
      width: D.

    Returns:
      ``[B, D]`` float32, above 0 and below 1.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> key = jax.random.key(0)
      >>> table = uniform_rows(key, jnp.arange(4), 3)
      >>> bool((uniform_rows(key, jnp.array([2, 1]), 3) == table[2:0:-1]).all())
      True

    References:
      Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA
      2014 (streams; of 32 bits here, mixed by the last step of MurmurHash3).
    """
    # Of the kind whose derived keys are two well mixed words, whatever the given one.
    words = jax.random.bits(key, (2,), jnp.uint32)
    own = jax.random.wrap_key_data(words, impl="threefry2x32")
    start, step = jax.random.key_data(
        jax.vmap(lambda r: jax.random.fold_in(own, r))(rows)
    ).T
    count = jnp.arange(1, (width + 1) // 2 + 1, dtype=jnp.uint32)
    word = start[:, None] + count[None] * (step | 1)[:, None]
    word = (word ^ word >> 16) * jnp.uint32(0x85EBCA6B)
    word = (word ^ word >> 13) * jnp.uint32(0xC2B2AE35)
    word ^= word >> 16
    halves = jnp.concatenate([word & 0xFFFF, word >> 16], axis=1)[:, :width]
    # By way of int32, which a CPU turns into floats several at a time.
    return (halves.astype(jnp.int32).astype(jnp.float32) + 0.5) * 2.0**-16


def epoch_rows(
    key: jax.Array, num_rows: int, batch_size: int
) -> tuple[jax.Array, jax.Array]:
    """A random order of rows, cut into batches; the last one is padded.

    Args:
      key: a PRNG key.
      num_rows: n.
      batch_size: B.

    Returns:
      Rows ``[steps, B]`` int32 and their weight ``[steps, B]``: 1, or 0 for padding.

    Examples:
      >>> import jax
      >>> rows, weight = epoch_rows(jax.random.key(0), 5, 3)
      >>> sorted(rows.ravel().tolist()), weight.tolist()
      ([0, 0, 1, 2, 3, 4], [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    """
    steps = -(-num_rows // batch_size)
    order = jax.random.permutation(key, num_rows).astype(jnp.int32)
    rows = jnp.pad(order, (0, steps * batch_size - num_rows))
    weight = (jnp.arange(steps * batch_size) < num_rows).astype(jnp.float32)
    return rows.reshape(steps, batch_size), weight.reshape(steps, batch_size)


def sample_user_pairs(key: jax.Array, context: Context, num: int) -> jax.Array:
    """Pairs drawn user by user: a random user with a pair, then one of its pairs.

    Every such user is equally likely, however many pairs it has (the sampling of
    LightGCN's released code); a random pair would favour the busy ones.

    Args:
      key: a PRNG key.
      context: the training data.
      num: pairs B.

    Returns:
      Rows ``[B]`` of the training pairs.

    References:
      He et al., LightGCN, SIGIR 2020 (released code, uniform sampling of users).
    """
    user_key, item_key = jax.random.split(key)
    # The k-th user with a pair begins at the k-th change of the sorted user column.
    starts = jnp.concatenate(
        [jnp.ones(1, bool), context.users[1:] != context.users[:-1]]
    )
    rank = jnp.cumsum(starts)
    drawn = jax.random.randint(user_key, (num,), 1, rank[-1] + 1)
    users = context.users[jnp.searchsorted(rank, drawn)]
    begin, end = (
        jnp.searchsorted(context.users, users, side=side) for side in ("left", "right")
    )
    return jax.random.randint(item_key, (num,), begin, end)


def make_batch(
    key: jax.Array,
    context: Context,
    users: jax.Array,
    items: jax.Array,
    weight: jax.Array,
    num_negatives: int,
    relations: jax.Array | None = None,
) -> Batch:
    """Adds negatives to training pairs.

    Args:
      key: a PRNG key.
      context: the training data.
      users: ``[B]`` int.
      items: ``[B]`` int.
      weight: ``[B]``, 0 for padding.
      num_negatives: M.
      relations: ``[B]`` int behaviours; None where there is one.

    Returns:
      The batch; rows of users who know every item get weight 0 where M > 0.
    """
    if num_negatives == 0:
        none = jnp.zeros((users.shape[0], 0), jnp.int32)
        return Batch(users, items, none, weight, relations)
    negatives, possible = sample_negatives(key, context.negatives, users, num_negatives)
    return Batch(users, items, negatives, weight * possible, relations)
