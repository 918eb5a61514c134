"""One contract for every trained model, and what each model alone promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from models.towers import TOWER, WEIGHTS, tokens_of

from recjax.alignments import AlignUniform, Contrast, Distil, Reconstruct
from recjax.data import (
    Triples,
    attribute_pairs,
    make_context,
    make_relation_context,
    synthetic,
)
from recjax.evaluation import evaluate
from recjax.lists import item_lists
from recjax.models import (
    BM3,
    CRGCN,
    FREEDOM,
    KAR,
    LATTICE,
    MBGCN,
    MF,
    MGCN,
    MMGCN,
    MMHCL,
    NCL,
    NGCF,
    RGCN,
    SGL,
    VBPR,
    Aligned,
    AlphaRec,
    Attended,
    BehaviourGCN,
    DiffMM,
    Diffusion,
    DirectAU,
    GraphAlignment,
    GraphTransformer,
    Hybrid,
    LGMRec,
    LightGCN,
    LightGCNPP,
    ModalGCN,
    RelationAttention,
    SimGCL,
    Tuned,
    UltraGCN,
    XSimGCL,
    with_tower,
)
from recjax.objectives import BCE, BPR, SampledSoftmax, Softmax
from recjax.recommendation import embed
from recjax.reduce import BATCH_AXIS
from recjax.sampling import make_batch
from recjax.sharding import Parallel, make_mesh, shard_context, table_shardings
from recjax.training import init_state, make_epoch
from recjax.training._batches import own_rows
from recjax.types import BatchVectors, Feature, Interactions, Spec, prepare

LOG = synthetic(num_users=24, num_items=20, num_groups=2, rows_per_user=6)
PAIRS, NAMES = attribute_pairs(LOG.items, ("group",))
WIDTHS = {"image": 5, "text": 16}
SPEC = Spec(24, 20, len(NAMES), tuple(WIDTHS.items()))


def feature(width):
    """Random vectors; some items have none."""
    values = np.random.default_rng(width).normal(size=(20, width)).astype(np.float32)
    present = np.arange(20) % width != 2
    return Feature(np.where(present[:, None], values, 0), present)


FEATURES = {name: feature(width) for name, width in WIDTHS.items()}

# Every third row is a buy, and every item belongs to a group.
KINDS = LOG.interactions._replace(
    relations=(np.arange(LOG.interactions.num_rows) % 3 == 0).astype(np.int32)
)
GROUPS = Triples(
    PAIRS[0] + 24, np.zeros(len(PAIRS[0]), np.int64), PAIRS[1] + 44, ("group",), NAMES
)

# They read the relations of edges.
TYPED = {
    "behaviour gcn": BehaviourGCN(dim=8),
    "crgcn": CRGCN(dim=8, objective=BPR(), init_scale=0.1),
    "mbgcn": MBGCN(dim=8),
    "rgcn": RGCN(dim=8, layers=1, objective=BPR(), init_scale=0.1),
    "relation attention": RelationAttention(dim=8, init_scale=0.1),
}

MODELS = TYPED | {
    "mf": MF(dim=8, objective=BPR()),
    "mf softmax": MF(dim=8, objective=Softmax()),
    "lightgcn bpr": LightGCN(dim=8, layers=2, objective=BPR(), init_scale=0.1),
    "lightgcn bce": LightGCN(dim=8, layers=2, objective=BCE(num_negatives=3)),
    "lightgcn softmax": LightGCN(dim=8, objective=Softmax()),
    "lightgcn sampled": LightGCN(dim=8, objective=SampledSoftmax(num_negatives=5)),
    "mmhcl": MMHCL(dim=8, contrast_rows=10),
    "mmhcl softmax": MMHCL(dim=8, neighbours=3, objective=Softmax()),
    "lgmrec": LGMRec(dim=8),
    "lgmrec softmax": LGMRec(dim=8, hyperedge_layers=2, objective=Softmax()),
    "diffmm": DiffMM(dim=8, diffusion=Diffusion(hidden=6, users=9), contrast_rows=12),
    "diffmm pairs": DiffMM(
        dim=8,
        diffusion=Diffusion(hidden=6),
        contrast="pairs",
        generated_items=2,
        objective=Softmax(),
    ),
    "graph alignment": GraphAlignment(dim=8, hidden=6),
    "graph alignment, bare": GraphAlignment(dim=8, hidden=0, num_negatives=1),
    "bm3": BM3(
        dim=16, norm_weight=0.01, dropout=0.3, feature_weight=0.2, init_scale=0.1
    ),
    "freedom": FREEDOM(dim=8, neighbours=4, drop=0.5, init_scale=0.1),
    "freedom softmax": FREEDOM(dim=8, neighbours=4, objective=Softmax()),
    "lattice": LATTICE(dim=8, content_dim=6, neighbours=4, init_scale=0.1),
    "lattice softmax": LATTICE(
        dim=8, item_layers=2, objective=Softmax(), init_scale=0.1
    ),
    "mgcn": MGCN(dim=8, neighbours=4, init_scale=0.1),
    "mgcn softmax": MGCN(dim=8, item_layers=2, objective=Softmax(), init_scale=0.1),
    "mmgcn": MMGCN(dim=8, content_dim=6, layers=2),
    "mmgcn softmax": MMGCN(dim=8, content_dim=6, layers=1, objective=Softmax()),
    "modal gcn": ModalGCN(dim=8, neighbours=4),
    "vbpr": VBPR(dim=8, content_dim=6),
    "vbpr sampled": VBPR(
        dim=8, content_dim=6, objective=SampledSoftmax(num_negatives=5)
    ),
    "ngcf": NGCF(dim=8, layers=2),
    "ngcf softmax": NGCF(dim=8, layers=1, objective=Softmax()),
    "lightgcn++": LightGCNPP(dim=8),
    "lightgcn++ softmax": LightGCNPP(dim=8, objective=Softmax()),
    "ultragcn": UltraGCN(dim=8, num_negatives=5, negative_weight=5.0, neighbours=3),
    "graph transformer": GraphTransformer(dim=8, heads=2),
    "graph transformer bpr": GraphTransformer(dim=8, objective=BPR(), init_scale=0.1),
    "sgl": SGL(dim=8, layers=2, drop=0.2),
    "simgcl": SimGCL(dim=8, layers=2),
    "simgcl softmax": SimGCL(dim=8, layers=2, objective=Softmax()),
    "xsimgcl": XSimGCL(dim=8, layers=3, contrast_layer=2),
    "xsimgcl softmax": XSimGCL(dim=8, layers=2, objective=Softmax()),
    "directau": DirectAU(dim=8, layers=2),
    "directau, mf": DirectAU(dim=8, layers=0, gamma=1.0),
    "ncl": NCL(dim=8, clusters=4, structure=0.1, prototype=0.1),
    "alpharec": AlphaRec(dim=8, hidden=32, objective=Softmax()),
    "alpharec linear": AlphaRec(dim=16, linear=True, layers=1, feature="text"),
    "aligned contrast": Aligned(
        LightGCN(dim=8, layers=2, init_scale=0.1), Contrast(weight=0.1)
    ),
    "aligned contrast bpr": Aligned(MF(dim=8, objective=BPR()), Contrast()),
    "aligned reconstruct": Aligned(
        LightGCN(dim=8, layers=2, objective=BPR(num_negatives=2), init_scale=0.1),
        Reconstruct(share=0.1),
    ),
    "aligned distil": Aligned(
        LightGCN(dim=8, layers=2, init_scale=0.1), Distil(teacher="both")
    ),
    "aligned uniform": Aligned(MF(dim=8, objective=BPR()), AlignUniform(), "text"),
    "hybrid": Hybrid(dim=8, skip="own", fusion="apart"),
    "hybrid shared": Hybrid(
        dim=8, skip="shared", attended=Attended("shared", history=4)
    ),
    "hybrid tower": Hybrid(
        dim=8, fusion="gated", text=Tuned(TOWER, rank=2, rows=9, chunk=4)
    ),
    "kar": KAR(LightGCN(dim=8, layers=2), hidden=6),
    "kar graph alignment": KAR(
        GraphAlignment(dim=16, hidden=8), shared=1, specific=1, hidden=4, feature="text"
    ),
}


@pytest.fixture(scope="module")
def plain():
    """What no model has prepared, and a tower for those that have a place for one."""
    context = make_context(LOG.interactions, SPEC, attributes=PAIRS, features=FEATURES)
    return with_tower(context, WEIGHTS, tokens_of(20))


@pytest.fixture(scope="module")
def typed():
    """Sizes and context with views, buys and groups as relations of edges."""
    return make_relation_context(
        KINDS, SPEC, names=("view", "buy"), triples=GROUPS, features=FEATURES
    )


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]


@pytest.fixture(scope="module")
def spec(model, typed):
    return typed[0] if model in TYPED.values() else SPEC


@pytest.fixture(scope="module")
def params(model, spec):
    return model.init(jax.random.key(1), spec)


@pytest.fixture(scope="module")
def state(model, params, context):
    return embed(model, params, context)


@pytest.fixture(scope="module")
def context(model, params, plain, typed):
    """With all that the model makes before training, and before an epoch."""
    context = prepare(model, typed[1] if model in TYPED.values() else plain)
    if hasattr(model, "refresh"):
        context = model.refresh(params, context, jax.random.key(3))
    return context


def batch_of(model, context, size=16):
    rows = jnp.arange(size) * 7 % context.users.shape[0]
    return make_batch(
        jax.random.key(2),
        context,
        context.users[rows],
        context.items[rows],
        jnp.ones(size),
        model.num_negatives,
        None if context.relations is None else context.relations[rows],
    )


def assert_close(left, right, tolerance=1e-5):
    def one(x, y):
        # Where large terms cancel, what is left is as inexact as they are.
        atol = 1e-6 * max(1.0, float(np.max(np.abs(y), initial=0)))
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=atol)

    jax.tree.map(one, left, right)


# Compiled once for all tests of a model: op by op would take several times as long.
@functools.partial(jax.jit, static_argnums=0)
def gradient(model, params, context, batch):
    def loss(params):
        return model.loss(params, context, batch, jax.random.key(0))

    return jax.value_and_grad(loss, has_aux=True)(params)


def test_compiled_equals_eager_and_derivatives_are_finite(model, params, context):
    batch = batch_of(model, context)
    compiled, derivatives = gradient(model, params, context, batch)
    assert_close(compiled, model.loss(params, context, batch, jax.random.key(0)))
    leaves = jax.tree.leaves(derivatives)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert any(np.abs(leaf).max() > 0 for leaf in leaves)


def test_padding_a_batch_changes_nothing(model, params, context):
    batch = batch_of(model, context)
    extra = batch_of(model, context, size=5)
    padded = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), batch, extra)
    padded = padded._replace(weight=jnp.where(jnp.arange(21) < 16, 1.0, 0.0))
    assert_close(
        gradient(model, params, context, padded),
        gradient(model, params, context, batch),
    )


def test_eight_devices_equal_one(model, params, context):
    """On a mesh that splits the batch by four, and tables and graphs by two."""
    mesh = make_mesh(data=4, model=2)
    batch = batch_of(model, context)
    split = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    spread = jax.device_put(params, table_shardings(params, SPEC, mesh))
    on_eight = gradient(model, spread, shard_context(context, Parallel(mesh)), split)
    assert len(split.users.sharding.device_set) == 8
    assert_close(on_eight, gradient(model, params, context, batch))


def test_a_pmap_of_split_batches_equals_one_device(model, params, context):
    """Whose rows do not divide evenly, and of which one does not count."""
    if not getattr(model, "splits_batch", False):
        return
    batch = batch_of(model, context, size=15)
    batch = batch._replace(weight=batch.weight.at[4].set(0.0))

    def of(params, context, batch, device):
        batch = own_rows(batch, device)
        found = gradient.__wrapped__(model, params, context, batch)
        return jax.lax.pmean(found, BATCH_AXIS)

    run = jax.pmap(of, axis_name=BATCH_AXIS, in_axes=(None,) * 3 + (0,), out_axes=None)
    found = run(params, context, batch, np.arange(8))
    assert_close(found, gradient(model, params, context, batch))


def test_equal_configurations_trace_once(model, params, context):
    count = 0

    def counted(model, params, context):
        nonlocal count
        count += 1
        return model.embed(params, context)

    compiled = jax.jit(counted, static_argnums=0)
    copy = type(model)(**{f: getattr(model, f) for f in model.__dataclass_fields__})
    assert copy == model and hash(copy) == hash(model)
    compiled(model, params, context)
    compiled(copy, params, context)
    assert count == 1


def test_it_learns_a_small_graph_by_heart(model, spec, context):
    adam = optax.adam(0.03)
    run_epoch = make_epoch(model, adam, batch_size=48)
    state = init_state(model, adam, spec, jax.random.key(0))
    # All pairs that are trained on; the seen ones are of the target alone.
    pairs = np.asarray(context.users), np.asarray(context.items)
    seen = item_lists(*pairs, spec.num_users)
    nothing = item_lists(np.zeros(0, int), np.zeros(0, int), SPEC.num_users)

    def recall():
        return evaluate(model, state.params, context, seen, seen=nothing, ks=(6,))[
            "recall@6"
        ]

    before, first = recall(), None
    for _ in range(80):
        state, logs = run_epoch(state, context)
        first = logs["loss"].mean() if first is None else first
    assert logs["loss"].mean() < first
    # A list that is the same for everyone cannot be each user's own.
    assert recall() > (before if model == MODELS["graph alignment, bare"] else 0.7)


def test_scores_of_a_block_do_not_depend_on_the_block(model, params, state):
    users, items = jnp.array([3, 0, 23]), jnp.array([19, 4, 4, 0])
    everything = model.score(params, state, jnp.arange(24), jnp.arange(20))
    block = model.score(params, state, users, items)
    np.testing.assert_allclose(block, everything[users][:, items], rtol=1e-5, atol=1e-6)


def test_newcomers_with_a_training_list_are_scored_like_one_another(
    model, params, context, state
):
    lists = item_lists(np.array([0, 0, 2, 2]), np.array([3, 7, 3, 7]), 3)
    fold_in = jax.jit(type(model).fold_in, static_argnums=0)
    state = fold_in(model, params, context, state, lists)
    scores = model.score(params, state, jnp.arange(3), jnp.arange(20))
    assert scores.shape == (3, 20)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[0], scores[2])


def test_lightgcn_embeds_by_powers_of_the_matrix(plain):
    model = LightGCN(dim=4, layers=3, objective=BPR())
    params = model.init(jax.random.key(0), SPEC)
    graph = plain.graph
    matrix = np.zeros((46, 46))
    matrix[graph.receivers, graph.senders] = graph.edges["weight"]
    nodes = params["nodes"]
    powers = [np.linalg.matrix_power(matrix, k) @ nodes for k in range(4)]
    expected = sum(powers) / 4
    found = model.embed(params, plain)
    np.testing.assert_allclose(found.users, expected[:24], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.items, expected[24:44], rtol=1e-4, atol=1e-6)


def test_lightgcn_folds_in_as_if_the_user_were_in_the_graph():
    """Exactly so for a user whose arrival changes no other node's vector."""
    # Users 0 and 1 have the same two items; user 1 starts from a zero vector, and the
    # items' vectors are held still by taking them from the graph with both.
    train = Interactions(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    spec = Spec(2, 2)
    context = make_context(train, spec)
    model = LightGCN(dim=3, layers=3, objective=BPR())
    params = model.init(jax.random.key(0), spec)
    params["nodes"] = params["nodes"].at[1].set(0.0)
    state = model.embed(params, context)
    lists = item_lists(np.array([0, 0]), np.array([0, 1]), 1)
    folded = model.fold_in(params, context, state, lists)
    np.testing.assert_allclose(folded.users[0], state.users[1], rtol=1e-5)


def test_mf_folds_in_by_least_squares():
    context = make_context(LOG.interactions, SPEC)
    model = MF(dim=4, fold_in_ridge=0.5, objective=BPR(), init_scale=0.1)
    params = model.init(jax.random.key(0), SPEC)
    lists = item_lists(np.array([0, 0]), np.array([2, 9]), 1)
    folded = model.fold_in(params, context, model.embed(params, context), lists)
    items = np.asarray(params["nodes"][24:], np.float64)
    row = np.zeros(20)
    row[[2, 9]] = 1.0
    # The minimiser of |row - items p|^2 + ridge |p|^2 has a zero derivative.
    p = np.asarray(folded.users[0], np.float64)
    np.testing.assert_allclose(items.T @ (items @ p - row) + 0.5 * p, 0, atol=1e-6)


def test_graph_alignment_is_its_equations(plain):
    model = GraphAlignment(dim=5, hidden=3)
    params = jax.device_get(model.init(jax.random.key(0), SPEC))
    nodes = params["nodes"]
    graph = jax.device_get(plain.graph)
    matrix = np.zeros((46, 46))
    matrix[graph.receivers, graph.senders] = graph.edges["weight"]
    layer = params["layer"]
    h = nodes @ layer["self"]["kernel"] + layer["self"]["bias"]
    h = np.maximum(h + matrix @ nodes @ layer["neighbour"]["kernel"], 0)
    pair = np.concatenate([h[3], h[24 + 11]])
    hidden = np.maximum(pair @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
    logit = hidden @ params["output"]["kernel"] + params["output"]["bias"]
    state = model.embed(params, plain)
    score = model.score(params, state, jnp.array([3]), jnp.array([11]))
    np.testing.assert_allclose(score[0], logit, rtol=1e-4, atol=1e-6)


def test_objectives_are_their_losses(plain):
    """BPR through the model is the loss of its scores, written out."""
    model = MF(dim=8, objective=BPR(num_negatives=2), l2=0.0)
    params = model.init(jax.random.key(0), SPEC)
    batch = batch_of(model, plain)
    users = np.asarray(params["nodes"])[batch.users]
    items = np.asarray(params["nodes"])[24:]
    own = (users * items[batch.items]).sum(1)
    others = np.einsum("bd,bmd->bm", users, items[batch.negatives])
    expected = np.log1p(np.exp(others - own[:, None])).mean()
    loss, _ = model.loss(params, plain, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("objective", [Softmax(), SampledSoftmax(num_negatives=5)])
def test_softmax_objectives_compare_cosines(plain, objective):
    """The length of a vector changes nothing, its direction does."""
    batch = batch_of(objective, plain)
    keys = jax.random.split(jax.random.key(0), 3)
    vectors = BatchVectors(
        *(
            jax.random.normal(key, (*ids.shape, 4))
            for key, ids in zip(
                keys, (batch.users, batch.items, batch.negatives), strict=True
            )
        )
    )
    expected = objective(vectors, plain, batch)
    scaled = BatchVectors(2 * vectors.users, 3 * vectors.items, 5 * vectors.negatives)
    np.testing.assert_allclose(objective(scaled, plain, batch), expected, rtol=1e-5)
    turned = vectors._replace(users=-vectors.users)
    assert abs(objective(turned, plain, batch) - expected) > 1e-2
