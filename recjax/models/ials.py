"""iALS: matrix factorisation of implicit feedback by alternating least squares."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from recjax.lists import locate, transpose_lists
from recjax.models._dot import dot_bound, dot_score
from recjax.types import Context, Embeddings, ItemLists, Params

# Numbers of the d x d arrays that are held at a time (8 MB), of either kind.
_NUMBERS = 2**21
# Entries of a list that one product takes: lists are padded to multiples of it.
_SEGMENT = 16


@dataclasses.dataclass(frozen=True)
class IALS:
    r"""iALS: vectors that rebuild all of the matrix, unobserved entries at low weight.

    .. math::
      \sum_{(u, i) \in S} (p_u \cdot q_i - 1)^2
      + \alpha_0 \sum_{u, i} (p_u \cdot q_i)^2
      + \lambda \Big( \sum_u (|I_u| + \alpha_0 I)^\nu |p_u|^2
      + \sum_i (|U_i| + \alpha_0 U)^\nu |q_i|^2 \Big)

    with S the interactions.  One side given, the other is a least-squares problem a
    row, solved by Cholesky; a sweep solves the users, then the items:

    .. math::
      p_u = \Big( \sum_{i \in I_u} q_i q_i^T + \alpha_0 Q^T Q
      + \lambda (|I_u| + \alpha_0 I)^\nu \, 1 \Big)^{-1} \sum_{i \in I_u} q_i

    Only the items' vectors are kept: users, and newcomers, are solved from them, which
    is half a sweep more than in the paper's code.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]))
      >>> context = make_context(train, Spec(num_users=3, num_items=3))
      >>> model = IALS(dim=2, sweeps=8)
      >>> params = model.solve(context)
      >>> state = model.embed(params, context)
      >>> model.score(params, state, np.arange(3), np.arange(3)).argmax(axis=1)[2]
      Array(2, dtype=int32)

    References:
      Hu et al., Collaborative filtering for implicit feedback datasets, ICDM 2008;
      Rendle et al., Revisiting the performance of iALS on item recommendation
      benchmarks, RecSys 2022 (the objective with alpha_0 and nu).
    """

    dim: int = 128
    """Width d of the vectors; more is better, at a cost of d^2 an interaction."""
    sweeps: int = 16
    """Times that users and items are solved."""
    unobserved_weight: float = 0.1
    """Alpha_0, the weight of every entry that is not an interaction, in addition to the
    weight 1 of those that are."""
    l2: float = 0.003
    """Lambda; positive."""
    frequency_power: float = 1.0
    """Nu: how much more often seen rows are regularised more."""
    init_scale: float = 0.1
    """The items start from N(0, init_scale^2 / d)."""
    seed: int = 0
    """Of that start."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)

    def solve(self, context: Context) -> Params:
        """The items' vectors ``[I, d]``."""
        if self.l2 <= 0 or self.unobserved_weight < 0:
            raise ValueError(
                f"l2 {self.l2} must be positive and unobserved_weight "
                f"{self.unobserved_weight} not negative"
            )
        return {"items": _solve(self, context)}

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The items' vectors, and the users' that go with them."""
        items = params["items"]
        return Embeddings(_solve_rows(self, items, context.seen), items)

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers are solved like users of the training data."""
        del context
        return state._replace(users=_solve_rows(self, params["items"], histories))


@functools.partial(jax.jit, static_argnums=0)
def _solve(model: IALS, context: Context) -> jax.Array:
    num_items = context.item_counts.shape[0]
    users_of = transpose_lists(context.seen, num_items)

    def sweep(items, _):
        users = _solve_rows(model, items, context.seen)
        return _solve_rows(model, users, users_of), None

    start = jax.random.normal(jax.random.key(model.seed), (num_items, model.dim))
    start *= model.init_scale / model.dim**0.5
    return lax.scan(sweep, start, length=model.sweeps)[0]


@functools.partial(jax.jit, static_argnums=0)
def _solve_rows(model: IALS, other: jax.Array, lists: ItemLists) -> jax.Array:
    """One side ``[R, d]`` from its R lists and the other side ``[C, d]``."""
    pointer, num_rows = lists.pointer, lists.pointer.shape[0] - 1
    dim, entries = model.dim, lists.items.shape[0]
    held = max(1, _NUMBERS // dim**2)
    weight = model.unobserved_weight
    common = weight * jnp.matmul(other.T, other, precision="highest")
    chunk = max(1, min(held, num_rows))

    def solve(first):
        rows = jnp.minimum(first + jnp.arange(chunk), num_rows - 1)
        sizes = pointer[rows + 1] - pointer[rows]
        segments = -(-sizes // _SEGMENT)
        total = segments.sum()

        def add(carry):
            position, left, right = carry
            positions = position + jnp.arange(held, dtype=jnp.int32)
            row, part, real = locate(jnp.zeros_like(segments), segments, positions)
            offset = _SEGMENT * part[:, None] + jnp.arange(_SEGMENT)[None]
            inside = real[:, None] & (offset < sizes[row][:, None])
            entry = jnp.where(inside, pointer[rows[row]][:, None] + offset, 0)
            vectors = jnp.where(inside[..., None], other[lists.items[entry]], 0.0)
            square = jnp.einsum("psd,pse->pde", vectors, vectors, precision="highest")
            row = jnp.where(real, row, chunk)
            left = left.at[row].add(square, mode="drop")
            right = right.at[row].add(vectors.sum(axis=1), mode="drop")
            return position + held, left, right

        ridge = model.l2 * (sizes + weight * len(other)) ** model.frequency_power
        left = common[None] + ridge[:, None, None] * jnp.eye(dim)[None]
        carry = (jnp.int32(0), left, jnp.zeros((chunk, dim)))
        if entries:
            carry = lax.while_loop(lambda c: c[0] < total, add, carry)
        _, left, right = carry
        factor = jax.scipy.linalg.cho_factor(left, lower=True)
        return jax.scipy.linalg.cho_solve(factor, right[..., None])[..., 0]

    found = lax.map(solve, jnp.arange(0, num_rows, chunk))
    return found.reshape(-1, dim)[:num_rows]
