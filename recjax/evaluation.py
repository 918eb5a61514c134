"""Full-ranking evaluation."""

import difflib
import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax import metrics as rank_metrics
from recjax.area import area_under_curve
from recjax.lists import contains, lengths
from recjax.ranking import rank
from recjax.recommendation import check_users, embed, user_batches
from recjax.recommendation import recommend as recommend
from recjax.sharding import put
from recjax.top_k import top_k
from recjax.types import Context, ItemLists, Params, Scorer

_OF_HITS = {
    "recall": rank_metrics.recall_metric,
    "precision": rank_metrics.precision_metric,
    "f1": rank_metrics.f1_metric,
    "hit_rate": rank_metrics.hit_rate_metric,
    "ndcg": rank_metrics.ndcg_metric,
    "mrr": rank_metrics.mrr_metric,
    "map": rank_metrics.map_metric,
}
_OF_EXPOSURE = {
    "coverage": rank_metrics.coverage_metric,
    "gini": rank_metrics.gini_metric,
}
METRICS = (*_OF_HITS, "average_popularity", *_OF_EXPOSURE, "auc")
"""Names that `evaluate` takes."""


class _Plan(NamedTuple):
    """What the compiled step of one batch depends on; hashable."""

    num_items: int
    ks: tuple[int, ...]
    metrics: tuple[str, ...]
    chunk_size: int | None
    max_targets: int
    mesh: Mesh | None


@overload
def evaluate(
    model: Scorer,
    params: Params,
    context: Context,
    targets: ItemLists,
    *,
    users: np.ndarray | None = None,
    seen: ItemLists | None = None,
    ks: Sequence[int] = (20,),
    metrics: Sequence[str] = ("recall", "ndcg"),
    batch_size: int = 8192,
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    per_user: Literal[False] = False,
) -> dict[str, float]: ...


@overload
def evaluate(
    model: Scorer,
    params: Params,
    context: Context,
    targets: ItemLists,
    *,
    users: np.ndarray | None = None,
    seen: ItemLists | None = None,
    ks: Sequence[int] = (20,),
    metrics: Sequence[str] = ("recall", "ndcg"),
    batch_size: int = 8192,
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    per_user: Literal[True],
) -> tuple[dict[str, float], dict[str, np.ndarray]]: ...


def evaluate(
    model: Scorer,
    params: Params,
    context: Context,
    targets: ItemLists,
    *,
    users: np.ndarray | None = None,
    seen: ItemLists | None = None,
    ks: Sequence[int] = (20,),
    metrics: Sequence[str] = ("recall", "ndcg"),
    batch_size: int = 8192,
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    per_user: bool = False,
) -> dict[str, float] | tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics of the full ranking of all items that a user has not seen.

    The mean is over users with at least one target, taken in float64 from values of
    single users, so that neither the batch nor the chunk size matters.  A target that
    is also among the seen items can never be hit, and still counts as a target.

    Args:
      model: any `recjax.types.Scorer`.
      params: its parameters.
      context: the training data.
      targets: the held-out items of each user; U lists.
      users: ids of the users to rank for; those without a target do not count.  None
        for all users with a target.
      seen: U lists of items that are not ranked; None for ``context.seen``, the
        training items.  To report on a test part, a user's validation items may be
        put here too.
      ks: cutoffs.
      metrics: any of `METRICS`.  Those of the lists are `recjax.metrics` at each k;
        ``coverage`` and ``gini`` are of all lists together; ``average_popularity`` is
        by training counts; ``auc`` is of all unseen items, has no cutoff, and costs a
        pass over the scores for each target of the user with most targets in a batch.
      batch_size: users ranked at a time, at most.
      chunk_size: items scored at a time, see `recjax.ranking.rank`.
      mesh: from `recjax.sharding.make_mesh`; users are split over ``data``, the items
        that are scored for them over ``model``.  The values are the same bits on any.
      per_user: also return the value of each user, for tests of significance.

    Returns:
      Values by names such as ``"recall@20"`` and ``"auc"``; 0 where no user counts.
      With ``per_user``, also a dict of ``"user"`` ``[U']`` int32 ids, ascending, and
      one array ``[U']`` for each metric that is a mean over users; for ``auc`` NaN
      marks a user who has none, because nothing is left but targets.

    Raises:
      ValueError: for an unknown metric, a cutoff or batch size that is not positive,
        user ids out of range, or lists of another number of users.

    Examples:
      >>> from recjax.data.graph import make_context
      >>> from recjax.lists import item_lists
      >>> from recjax.models import Popular
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]))
      >>> context = make_context(train, Spec(num_users=3, num_items=3))
      >>> params = Popular().solve(context)
      >>> targets = item_lists([1, 2], [0, 2], num_users=3)
      >>> evaluate(Popular(), params, context, targets, ks=(1,), metrics=("recall",))
      {'recall@1': 0.5}
    """
    _check_metrics(metrics)
    if not ks or min(ks) < 1 or batch_size < 1:
        raise ValueError(f"ks {tuple(ks)} and batch_size {batch_size} must be positive")
    seen = context.seen if seen is None else seen
    num_users = context.seen.pointer.shape[0] - 1
    for name, lists in (("targets", targets), ("seen", seen)):
        if lists.pointer.shape[0] != num_users + 1:
            raise ValueError(
                f"{name} hold lists of {lists.pointer.shape[0] - 1} users, the context "
                f"has {num_users}: make them by item_lists with that num_users"
            )
    counts = np.diff(np.asarray(targets.pointer))
    chosen = np.arange(num_users) if users is None else np.unique(np.asarray(users))
    chosen = check_users(chosen, num_users)
    chosen = chosen[counts[chosen] > 0]
    # Users with as many targets share a batch: AUC makes a pass for each target.
    chosen = chosen[np.argsort(counts[chosen], kind="stable")]

    num_items = context.item_counts.shape[0]
    most = int(counts[chosen].max()) if "auc" in metrics and len(chosen) else 1
    plan = _Plan(
        num_items,
        tuple(sorted(set(ks))),
        tuple(dict.fromkeys(metrics)),
        chunk_size,
        # Rounded up, so that near numbers do not compile anew.
        1 << (most - 1).bit_length(),
        mesh,
    )
    state = embed(model, params, context, mesh)
    exposure = np.zeros((len(plan.ks), num_items), np.int32)
    if mesh is None:
        seen, targets, exposure = jax.device_put((seen, targets, exposure))
    else:
        whole = NamedSharding(mesh, PartitionSpec())
        seen, targets, exposure = jax.tree.map(
            lambda x: put(x, whole), (seen, targets, exposure)
        )
    parts = 1 if mesh is None else mesh.shape["data"]
    values, waiting = [], None
    for batch, valid in user_batches(chosen, batch_size, parts):
        step, exposure = _evaluate_batch(
            model,
            params,
            state,
            seen,
            targets,
            context.item_counts,
            batch,
            valid,
            exposure,
            plan,
        )
        # Fetched once the next batch is under way: the device never waits, and no
        # more than two batches are in memory.
        if waiting is not None:
            values.append(jax.device_get(waiting))
        waiting = step
    if waiting is not None:
        values.append(jax.device_get(waiting))

    order = np.argsort(chosen)
    table = {"user": chosen[order]}
    for name in values[0] if values else ():
        column = np.concatenate([step[name] for step in values])
        table[name] = column[: len(chosen)][order]
    summary = _summary(plan, table, exposure)
    return (summary, table) if per_user else summary


def _check_metrics(metrics: Sequence[str]) -> None:
    for name in metrics:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=3, cutoff=0.4)
            raise ValueError(
                f"unknown metric {name!r}, perhaps {' or '.join(near or METRICS)}? "
                "Cutoffs are given by ks"
            )


def _summary(
    plan: _Plan, table: dict[str, np.ndarray], exposure: jax.Array
) -> dict[str, float]:
    summary = {}
    for name in plan.metrics:
        if name == "auc":
            area = table.get("auc", np.zeros(0))
            area = area[~np.isnan(area)].astype(np.float64)
            summary["auc"] = float(area.mean()) if len(area) else 0.0
            continue
        for index, k in enumerate(plan.ks):
            key = f"{name}@{k}"
            if name in _OF_EXPOSURE:
                summary[key] = float(_OF_EXPOSURE[name](exposure[index]))
            else:
                column = table.get(key, np.zeros(0)).astype(np.float64)
                summary[key] = float(column.mean()) if len(column) else 0.0
    return summary


@functools.partial(jax.jit, static_argnames=("model", "plan"), donate_argnums=8)
def _evaluate_batch(
    model: Scorer,
    params: Params,
    state: Any,
    seen: ItemLists,
    targets: ItemLists,
    item_counts: jax.Array,
    users: jax.Array,
    valid: jax.Array,
    exposure: jax.Array,
    plan: _Plan,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Metrics ``[B]`` of each user by name, and the exposure ``[len(ks), I]``."""

    def measure(params, state, seen, targets, item_counts, users, valid):
        values, shown = _measure(
            model, params, state, seen, targets, item_counts, users, valid, plan
        )
        if plan.mesh is None:
            return values, shown
        values = jax.tree.map(lambda x: lax.all_gather(x, "data", tiled=True), values)
        return values, lax.psum(shown, "data")

    if plan.mesh is not None:
        whole, rows = PartitionSpec(), PartitionSpec("data")
        measure = jax.shard_map(
            measure,
            mesh=plan.mesh,
            in_specs=(whole,) * 5 + (rows,) * 2,
            out_specs=whole,
            check_vma=False,
        )
    values, shown = measure(params, state, seen, targets, item_counts, users, valid)
    return values, exposure + shown


def _measure(
    model: Scorer,
    params: Params,
    state: Any,
    seen: ItemLists,
    targets: ItemLists,
    item_counts: jax.Array,
    users: jax.Array,
    valid: jax.Array,
    plan: _Plan,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """As `_evaluate_batch`, for the users of one device."""
    values = {}
    exposure = jnp.zeros((len(plan.ks), plan.num_items), jnp.int32)
    if any(name != "auc" for name in plan.metrics):
        items = _best_items(model, params, state, seen, users, plan)
        hits = contains(targets, users, items)
        num_relevant = lengths(targets, users)
        for index, k in enumerate(plan.ks):
            for name in plan.metrics:
                if name in _OF_HITS:
                    values[f"{name}@{k}"] = _OF_HITS[name](
                        hits, num_relevant, k=k, reduce_fn=None
                    )
                elif name == "average_popularity":
                    values[f"{name}@{k}"] = rank_metrics.average_popularity_metric(
                        items, item_counts, k=k, reduce_fn=None
                    )
            shown = valid[:, None] & (items[:, :k] >= 0)
            shown = jnp.where(shown, items[:, :k], plan.num_items)
            exposure = exposure.at[index, shown].add(1, mode="drop")
    if "auc" in plan.metrics:
        values["auc"] = area_under_curve(
            model,
            params,
            state,
            seen,
            targets,
            users,
            num_items=plan.num_items,
            max_targets=plan.max_targets,
            chunk_size=plan.chunk_size,
        )
    return values, exposure


def _best_items(
    model: Scorer,
    params: Params,
    state: Any,
    seen: ItemLists,
    users: jax.Array,
    plan: _Plan,
) -> jax.Array:
    """Lists ``[B, k]``; on a mesh from the best of each device's share of the items."""
    parts = 1 if plan.mesh is None else plan.mesh.shape["model"]
    candidates = None
    if parts > 1:
        share = -(-plan.num_items // parts)
        candidates = lax.axis_index("model") * share + jnp.arange(share)
    items, scores = rank(
        model,
        params,
        state,
        seen,
        users,
        num_items=plan.num_items,
        k=plan.ks[-1],
        chunk_size=plan.chunk_size,
        candidates=candidates,
    )
    if parts > 1:
        # Shares in the order of their ids, and top_k is stable: of equal scores the
        # lowest id stays first.
        items, scores = (
            lax.all_gather(x, "model", axis=1, tiled=True) for x in (items, scores)
        )
        _, place = top_k(scores.T, plan.ks[-1])
        items = jnp.take_along_axis(items, place, axis=1)
    return items
