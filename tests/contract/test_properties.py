"""Every property of every row of the table.

Compilation is nearly all of the time these tests take, so that they compile with as
little optimisation as XLA offers, and share what is compiled.  A row that breaks a
property is named in the test: ``test_order_does_not_matter[gat]``.
"""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_vjp

import recjax.layers
import recjax.losses
import recjax.metrics
from contract import (
    attention,
    convolution,
    fusion,
    losses,
    metrics,
    relations,
    segments,
    table,
)
from contract.table import Case, answer, cast, draw, is_floating, is_mask, lay_out

CASES = (
    *convolution.CASES,
    *relations.CASES,
    *attention.CASES,
    *fusion.CASES,
    *segments.CASES,
    *losses.CASES,
    *metrics.CASES,
)
# By the names of XLA: should a later one not know them, any subset will do.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
OPTIONAL = {f.name for f in dataclasses.fields(Case) if str(f.type).endswith("| str")}
tested = set()


def rows(of: str | None = None):
    """The rows that a property applies to."""
    tested.add(of)
    some = [c for c in CASES if of is None or not isinstance(getattr(c, of), str)]
    return pytest.mark.parametrize("case", some, ids=[c.name for c in some])


@functools.cache
def quick(case):
    """`answer`, compiled, and a list with one entry a trace."""
    traces = []

    def counted(x):
        traces.append(case.name)
        return answer(case, x)

    return jax.jit(counted, compiler_options=QUICK), traces


def run(case, x, dtype=jnp.float32):
    return jax.device_get(quick(case)[0](cast(x, dtype)))


def assert_close(found, expected, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


def assert_near(found, expected, tolerance):
    """Close, relative to the largest entry of each array."""

    def one(a, b):
        atol = tolerance * np.max(np.abs(b), initial=0)
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=atol)

    jax.tree.map(one, found, expected)


def assert_finite(found):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_every_public_function_has_a_row():
    public = [
        getattr(module, name)
        for module in (recjax.layers, recjax.losses, recjax.metrics)
        for name in module.__all__
        if not name.startswith("init_")
    ]
    missing = {f for f in public if inspect.isfunction(f)} - {c.function for c in CASES}
    assert not missing, "add a row for each of these to tests/contract"
    assert len({c.name for c in CASES}) == len(CASES)


def test_every_property_is_tested_or_has_a_reason():
    assert tested - {None} == OPTIONAL
    for case in CASES:
        for name in OPTIONAL:
            assert getattr(case, name), (
                f"{case.name}: how is {name} tested, or why not?"
            )


@rows()
def test_reference(case):
    x = draw(case)
    assert_close(run(case, x)["out"], case.reference(x), case.tolerance)


@rows("jraph")
def test_jraph(case):
    x = draw(case)
    x = x if isinstance(case.mask, str) else case.mask.remove(case, x)
    theirs = jax.jit(case.jraph, compiler_options=QUICK)(cast(x, jnp.float32))
    assert_close(run(case, x)["out"], theirs, case.tolerance)


@rows()
def test_compiled_equals_eager(case):
    x = draw(case)
    eager = case.call(cast(x, jnp.float32))
    assert_close(run(case, x)["out"], eager, case.tolerance)


@rows()
def test_one_trace_serves_all_values(case):
    run(case, draw(case))
    before = len(quick(case)[1])
    run(case, draw(case, 1))
    assert len(quick(case)[1]) == before > 0


@rows()
def test_vmap_is_a_loop(case):
    x, other = (lay_out(case, draw(case, number)) for number in range(2))
    names = {n for n in x if is_floating(x[n]) or is_mask(x[n])}
    other = x | {n: other[n] for n in names}
    both = {
        n: jax.tree.map(lambda *pair: np.stack(pair), x[n], other[n]) for n in names
    }
    mapped = jax.vmap(case.call, ({n: 0 if n in names else None for n in x},))
    found = jax.jit(mapped, compiler_options=QUICK)(cast(x | both, jnp.float32))
    for b, one in enumerate((x, other)):
        row = jax.tree.map(lambda leaf, b=b: leaf[b], found)
        assert_close(row, run(case, one)["out"], case.tolerance)


@rows("padding")
def test_padded_equals_unpadded(case):
    small = draw(case, 0, table.smaller(case))
    found = run(case, table.pad(case, small, np.nan))
    assert_finite(found)
    axes = table.answer_axes(case, found)
    for letter in case.padding:
        first = np.arange(case.size(small, letter))
        found = table.take(letter, first, axes, found)
    assert_close(found, run(case, small), case.tolerance)


@rows("mask")
def test_masked_equals_removed(case):
    x = draw(case)
    found = run(case, x)
    for held in (np.nan, np.inf, -1e30):
        assert_close(run(case, case.mask.fill(case, x, held)), found, 0)
    for grad in jax.tree.leaves(case.mask.hidden(case, x, found["grads"])):
        assert grad.size and not grad.any()
    removed = run(case, case.mask.remove(case, x))
    assert_close(case.mask.restrict(case, x, found), removed, case.tolerance)


@rows("mask")
def test_without_a_mask_everything_counts(case):
    x, name = draw(case), case.mask_name
    whole = run(case, x | {name: jax.tree.map(np.ones_like, x[name])})["out"]
    bare = cast(x | {name: None}, jnp.float32)
    found = jax.jit(case.call, compiler_options=QUICK)(bare)
    assert_close(found, whole, case.tolerance)


@rows("mask")
def test_nothing_counts(case):
    x, name = draw(case), case.mask_name
    x = x | {name: jax.tree.map(np.zeros_like, x[name])}
    found = run(case, x)
    assert_finite(found)
    assert_close(found["out"], case.reference(x), case.tolerance)


@rows("order")
def test_order_does_not_matter(case):
    x = draw(case)
    found = run(case, x)
    axes = table.answer_axes(case, found)
    for letter in case.order:
        order = np.random.default_rng(2).permutation(case.size(x, letter))
        moved = run(case, table.reorder(case, x, letter, order))
        assert_close(moved, table.take(letter, order, axes, found), case.tolerance)


@rows("layout")
def test_layout_changes_nothing(case):
    known = [lay_out(case, draw(case))]
    if len({case.points[end] for end in case.layout}) == 1:
        both_ways = table.mirror(case, draw(case))
        known.append(lay_out(case, both_ways, symmetric=True))
    for x in known:
        without = run(case, x | {"layout": None})
        assert_close(run(case, x), without, case.tolerance)


@rows()
def test_eight_devices_equal_one(case):
    mesh = Mesh(np.array(jax.devices()), ("all",))
    x = cast(lay_out(case, draw(case)), jnp.float32)

    def split(letters, leaf):
        divides = bool(letters) and leaf.shape[0] % len(jax.devices()) == 0
        spec = PartitionSpec("all") if divides else PartitionSpec()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    parts = table.along(split, case.all_axes, x)
    assert any(not leaf.is_fully_replicated for leaf in jax.tree.leaves(parts))
    found = jax.jit(case.call, compiler_options=QUICK)(parts)
    assert_close(found, run(case, x)["out"], case.tolerance)


@rows("derivatives")
def test_numeric_derivatives(case):
    step, tolerance = case.derivatives
    x = draw(case)
    if case.mask_name and is_floating(x[case.mask_name]):
        # At a weight of 0, an edge appears: that is no place for a derivative.
        x = case.mask.remove(case, x)
    x = lay_out(case, x)
    names = [n for n in case.axes if is_floating(x[n])]

    def function(floats):
        return run(case, x | floats, jnp.float64)["out"]

    def pull(floats, seed):
        return (run(case, x | floats | {"seed": seed}, jnp.float64)["grads"],)

    with jax.enable_x64(True):
        floats = {n: x[n] for n in names}
        out = function(floats)
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(out))
        assert_close(out, case.reference(x), tolerance)
        check_vjp(
            function,
            lambda floats: (function(floats), functools.partial(pull, floats)),
            (floats,),
            atol=tolerance,
            rtol=tolerance,
            eps=step,
        )


@rows("bfloat16")
def test_bfloat16_is_near_float32(case):
    x = cast(draw(case), jnp.bfloat16)
    found = jax.jit(case.call, compiler_options=QUICK)(x)
    rounded = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64) if is_floating(leaf) else leaf,
        jax.device_get(x),
    )
    for leaf in jax.tree.leaves(found):
        # A mean over the rows of a batch is taken, and stays, in float32.
        is_wide = case.wide or leaf.ndim == 0
        assert leaf.dtype == (jnp.float32 if is_wide else jnp.bfloat16)
    assert_near(found, case.reference(rounded), case.bfloat16)


@rows("large")
def test_large_logits(case):
    x = draw(case)
    for size in (1e4, -1e4):
        for spread in (0, 1):
            large = {
                n: jax.tree.map(lambda leaf, a=spread, b=size: b * leaf**a, x[n])
                for n in case.large
            }
            found = run(case, x | large)
            assert_finite(found)
            assert_near(found["out"], case.reference(x | large), 1e-3)


@rows("empty")
def test_empty(case):
    for sizes in case.empty:
        x = draw(case, 0, tuple(sizes.items()))
        found = run(case, x)
        assert_finite(found)
        assert_close(found["out"], case.reference(x), case.tolerance)
