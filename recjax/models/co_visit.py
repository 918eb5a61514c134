"""CoVisit: items that users went through within minutes of each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from recjax.models._filters import by_users
from recjax.models._histories import (
    Events,
    Histories,
    as_histories,
    history_matrix,
    unit_histories,
    weight_of,
    weighted_hot,
)
from recjax.models._nodes import node_counts
from recjax.sparse import Layout, neighbour_sum
from recjax.types import Context, ItemLists, Params


@dataclasses.dataclass(frozen=True)
class CoVisit:
    r"""A graph of items from the times of behaviours, and two steps on it.

    Events a and b of one user, on items i and j, at times t, with behaviours of the
    weights v, give

    .. math::
      k_{ab} = e^{-|t_a - t_b| / \tau}, \qquad n_a = 1 + \sum_{b} k_{ab}, \qquad
      W_{ij} = \sum_{(a, b)} v_a v_b\, \frac{k_{ab}}{\sqrt{n_a n_b}}

    for pairs at most ``8 tau`` apart and i other than j: what is visited in one go is
    alike, and an event in a long row of others says less.  With x the sum of the
    weights w of the user's events on each item, and d the row sums of W,

    .. math::
      s = x W + \lambda\, x W D^{-1/2} W D^{-1/2}, \qquad
      s_{ui} \leftarrow \rho\, s_{ui} \ \text{ where } x_{ui} > 0.

    Nothing is trained.  ``rho`` below 1 lists what is new to a user before what was
    visited and not taken; public splits that take a held-out pair out of all behaviours
    reward 0.

    It needs the times of the rows: a context of `recjax.data.make_relation_context`.
    Its place among other models, and what each part is worth, is in
    ``experiments/retail_rocket_behaviours.py``.

    Examples:
      >>> import numpy as np
      >>> from recjax.data import make_relation_context
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(
      ...     np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 0]),
      ...     times=np.array([0, 60, 0, 900, 5]),
      ... )
      >>> spec, context = make_relation_context(train, Spec(3, 3), names=("click",))
      >>> model = CoVisit()
      >>> params = model.solve(context)
      >>> state = model.embed(params, context)
      >>> model.score(params, state, np.array([2]), np.arange(3)).argmax().item()
      1

    References:
      Davidson et al., The YouTube video recommendation system, RecSys 2010
      (co-visitation counts); the kernel in time, the weights by behaviour and the
      second step are ours.
    """

    weights: tuple[float, ...] = ()
    """w, of what a user did, by behaviour; none are 1 for all."""
    pair_weights: tuple[float, ...] = ()
    """v, of the two events of a pair, likewise."""
    scale: float = 120.0
    """tau, in seconds."""
    second_step: float = 0.1
    """lambda, of two steps on the graph."""
    known: float = 1.0
    """rho, of items that the user has visited."""

    def solve(self, context: Context) -> Params:
        """W by rows, the second step's ``D^{-1/2}``, and the users' histories.

        Raises:
          ValueError: the edges have no times, or a setting is out of range.
        """
        if not (self.scale > 0 and self.second_step >= 0):
            raise ValueError(
                f"scale {self.scale} must be positive and second_step "
                f"{self.second_step} at least 0"
            )
        found, matrix = history_matrix(context, self.weights)
        if found.ages is None:
            raise ValueError(
                "co_visit needs the times of the rows on the edges: make the context "
                "with make_relation_context (--relations) of rows with times"
            )
        graph = _pairs(
            found, found.ages, weight_of(found, self.pair_weights), self.scale
        )
        size = node_counts(context)[1]
        items = scipy.sparse.csr_array(graph, shape=(size, size))
        items.setdiag(0)
        items.eliminate_zeros()
        degree = np.asarray(items.sum(axis=1)).ravel()
        root = np.divide(1, np.sqrt(degree), out=np.zeros(size), where=degree > 0)
        rows = as_histories(items)
        return jax.device_put(
            {
                "graph": rows._asdict(),
                "senders": np.repeat(np.arange(size), np.diff(rows.pointer)),
                "root": root.astype(np.float32),
                "history": as_histories(matrix)._asdict(),
            }
        )

    def embed(self, params: Params, context: Context) -> Histories:
        """The users' weighted histories."""
        del context
        return Histories(**params["history"])

    def score(
        self, params: Params, state: Histories, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Scores ``[B, C]``; a pass over the graph of items for 32 users."""

        def block(users):
            x = weighted_hot(state, users, params["root"].shape[0])
            once, root = _step(params, x), params["root"][:, None]
            # D^-1/2 W D^-1/2 (W x), for W is symmetric.
            out = once + self.second_step * root * _step(params, root * once)
            return jnp.where(x > 0, self.known * out, out)[items].T

        return by_users(block, users)

    def fold_in(
        self, params: Params, context: Context, state: Histories, histories: ItemLists
    ) -> Histories:
        """Newcomers' items all weigh 1."""
        del params, context, state
        return unit_histories(histories)


def _step(params: Params, x: jax.Array) -> jax.Array:
    """``W x`` of columns ``[I, B]``."""
    graph = params["graph"]
    return neighbour_sum(
        x,
        graph["weights"],
        graph["items"],
        params["senders"],
        num_receivers=len(x),
        layout=Layout(graph["pointer"]),
    )


def _pairs(
    found: Events, ages: np.ndarray, weight: np.ndarray, scale: float
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Entries of W: values, and the two items of each, in both directions."""
    order = np.lexsort((found.items, -ages, found.users))
    users, ages = found.users[order], ages[order]
    left, right = [], []
    # One round for each distance between two events in a user's row of events; as soon
    # as no two so far from each other are near in time, none farther are.
    for lag in range(1, len(order)):
        apart = ages[:-lag] - ages[lag:]
        near = (users[lag:] == users[:-lag]) & (apart <= 8 * scale)
        if not near.any():
            break
        left.append(np.flatnonzero(near))
        right.append(left[-1] + lag)
    first = np.concatenate([np.zeros(0, np.int64), *left])
    second = np.concatenate([np.zeros(0, np.int64), *right])
    kernel = np.exp((ages[second] - ages[first]) / scale)
    crowd = np.ones(len(order))
    for end in (first, second):
        crowd += np.bincount(end, kernel, minlength=len(order))
    items, weight = found.items[order], weight[order]
    values = kernel / np.sqrt(crowd[first] * crowd[second])
    values = values * weight[first] * weight[second]
    ends = items[first], items[second]
    return np.tile(values, 2), (
        np.concatenate(ends),
        np.concatenate(ends[::-1]),
    )
