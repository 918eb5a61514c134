"""Attention over typed edges, whose scores the edges keep as features."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from recjax.layers._attention import attend, keep_live
from recjax.layers._edges import read_relations, rows_of
from recjax.sparse import edge_dot
from recjax.types import Params


def init_edge_attention(
    key: jax.Array, width: int, heads: int, *, width_edge: int
) -> Params:
    """Parameters of `edge_attention`.

    Args:
      key: a PRNG key.
      width: D of the nodes and of the relations.
      heads: H; divides D.
      width_edge: F of the edge features.

    Returns:
      ``{"query", "key", "value": [D, H, D / H], "read", "write": [F, H]}``, the first
      three and ``read`` by Glorot; ``write`` is 0, so that edges begin unchanged.

    Raises:
      ValueError: the heads do not divide the width.

    Examples:
      >>> import jax
      >>> params = init_edge_attention(jax.random.key(0), 8, 2, width_edge=3)
      >>> params["query"].shape, params["read"].shape
      ((8, 2, 4), (3, 2))
    """
    if heads < 1 or width % heads:
        raise ValueError(f"heads {heads} must divide the width {width}")
    keys = jax.random.split(key, 4)
    init = nn.initializers.glorot_uniform()

    def projection(key: jax.Array) -> jax.Array:
        return init(key, (width, width)).reshape(width, heads, width // heads)

    names = ("query", "key", "value")
    return {
        name: projection(key) for name, key in zip(names, keys[:3], strict=True)
    } | {
        "read": init(keys[3], (width_edge, heads)),
        "write": jnp.zeros((width_edge, heads)),
    }


def edge_attention(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    relations: jax.Array,
    features: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Softmax attention that reads relation and features of an edge, and updates them.

    For each head, over the edges e from j into i with the relation vector z_e,

    ``s_e = (q_i . k_j + q_i . W_k z_e) / sqrt(D / H) + R f_e``,
    ``out_i = sum over e of softmax(s)_e v_j`` and ``f_e' = f_e + W s_e``.

    Edge features are few numbers an edge: no vector of the nodes' width is kept for
    one.  An edge counts where its weight is not 0 and its relation is one of the R.

    Args:
      params: from `init_edge_attention`.
      graph: N nodes, E edges, with ``edges["relation"]`` ``[E]`` int.
      nodes: ``[N, D]``.
      relations: ``[R, D]``, z.
      features: ``[E, F]``, f.

    Returns:
      Nodes ``[N, D]``, heads side by side, 0 where no edge counts; and features
      ``[E, F]``, 0 for edges that do not count.

    Raises:
      ValueError: shapes do not fit, or the graph has no senders, receivers or
        relations.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges={"relation": jnp.array([0, 1])}, globals=None,
      ...     senders=jnp.array([1, 2]), receivers=jnp.array([0, 0]),
      ...     n_node=jnp.array([3]), n_edge=jnp.array([2]),
      ... )
      >>> one = jnp.ones((1, 1, 1))
      >>> params = {"query": one, "key": one, "value": one,
      ...     "read": jnp.ones((1, 1)), "write": jnp.ones((1, 1))}
      >>> out, features = edge_attention(
      ...     params, graph, jnp.array([[1.0], [2.0], [4.0]]),
      ...     jnp.array([[2.0], [0.0]]), jnp.array([[0.5], [0.5]]),
      ... )
      >>> out.tolist(), features.tolist()
      ([[3.0], [0.0], [0.0]], [[5.0], [5.0]])

    References:
      Shaw et al., Self-attention with relative position representations, NAACL 2018
      (relations in the keys); Hussain et al., Global self-attention as a replacement
      for graph convolution (EGT), KDD 2022 (scores update the edges).
    """
    nodes, relations, features = (jnp.asarray(x) for x in (nodes, relations, features))
    width, heads, _ = params["query"].shape
    if nodes.shape[1:] != (width,) or relations.shape[1:] != (width,):
        raise ValueError(
            f"nodes {nodes.shape} and relations {relations.shape} must be rows of the "
            f"width {width} of the parameters"
        )
    edges, relation = read_relations(graph, nodes.dtype, len(relations))
    if features.shape != (len(edges.senders), params["read"].shape[0]):
        raise ValueError(
            f"features {features.shape} must be rows of width "
            f"{params['read'].shape[0]}, one for each of {len(edges.senders)} edges"
        )
    counts = edges.counts[:, None]
    nodes = keep_live(nodes, edges.counts, edges.senders, edges.receivers)
    # Before any arithmetic: NaN times 0 is NaN, in derivatives too.
    features = jnp.where(counts, features, 0)
    query, key, value = (
        jnp.einsum("nd,dhe->nhe", nodes, params[name])
        for name in ("query", "key", "value")
    )
    query = query * query.shape[-1] ** -0.5
    scores = edge_dot(key, query, edges.senders, edges.receivers, layout=edges.layout)
    # One number for each node, head and relation; an edge looks its own up.
    of_relations = jnp.einsum("rd,dhe->rhe", relations, params["key"])
    of_nodes = jnp.einsum("nhe,rhe->nrh", query, of_relations)
    places = edges.receivers * len(relations) + relation
    scores += rows_of(of_nodes.reshape(-1, heads), places)
    scores += features @ params["read"]
    scores = jnp.where(counts, scores, 0)
    out = attend(
        scores, value, edges.senders, edges.receivers, edges.counts, edges.layout
    )
    written = (scores @ params["write"].T).astype(features.dtype)
    return out.reshape(len(nodes), width), features + written
