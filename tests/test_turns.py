"""A part of a model that learns first in each epoch, against a plain loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.data import make_context, synthetic
from recjax.models import MF
from recjax.training import Training, fit, init_state, make_epoch
from recjax.types import Spec

LOG = synthetic(num_users=12, num_items=9, num_groups=2, rows_per_user=4)
SPEC = Spec(12, 9)
ADAM = optax.adam(0.1)


@dataclasses.dataclass(frozen=True)
class Guided(MF):
    """Matrix factorisation whose loss is pulled to a point that learns first."""

    first_params = ("point",)
    broken: bool = False

    def init(self, key, spec):
        return super().init(key, spec) | {"point": jnp.zeros(self.dim)}

    def first_steps(self, context):
        return 3

    def first_loss(self, params, context, key):
        goal = jax.random.normal(key, (self.dim,)) + params["nodes"].mean(0)
        loss = jnp.sum(jnp.square(params["point"] - goal))
        return jnp.where(self.broken, jnp.nan, loss), {"miss": loss}

    def refresh(self, params, context, key):
        return context._replace(prepared={"pull": params["point"]})

    def loss(self, params, context, batch, key):
        loss, aux = super().loss(params, context, batch, key)
        pull = jnp.mean(jnp.square(params["nodes"] - context.prepared["pull"][None]))
        # It stands still, whatever its derivative.
        return loss + pull + jnp.sum(params["point"]), aux


MODEL = Guided(dim=4)


@pytest.fixture(scope="module")
def context():
    return make_context(LOG.interactions, SPEC)


def test_an_epoch_is_the_first_turn_and_then_the_rest(context):
    state = init_state(MODEL, ADAM, SPEC, jax.random.key(0))
    point, rest = state.params["point"], {"nodes": state.params["nodes"]}
    moments = ADAM.init({"point": point})
    order, steps_key = jax.random.split(jax.random.fold_in(state.key, 0))
    del order
    num_steps = -(-len(context.users) // 16)
    losses = []
    for key in jax.random.split(jax.random.fold_in(steps_key, num_steps + 1), 3):
        loss, grad = jax.value_and_grad(
            lambda p, key=key: MODEL.first_loss(rest | {"point": p}, context, key)[0]
        )(point)
        update, moments = ADAM.update({"point": grad}, moments)
        point = point + update["point"]
        losses.append(loss)

    # With the point given, what is left is a model of one turn.
    @dataclasses.dataclass(frozen=True)
    class Pulled(MF):
        def refresh(self, params, context, key):
            return context._replace(prepared={"pull": point})

        def loss(self, params, context, batch, key):
            loss, aux = super().loss(params, context, batch, key)
            pull = jnp.mean(
                jnp.square(params["nodes"] - context.prepared["pull"][None])
            )
            return loss + pull + jnp.sum(point), aux

    plain = state._replace(
        params=jax.tree.map(jnp.copy, rest), opt_state=ADAM.init(rest)
    )
    plain = plain._replace(key=jnp.copy(state.key), epoch=jnp.copy(state.epoch))
    plain, expected = make_epoch(Pulled(dim=4), ADAM, batch_size=16)(plain, context)
    state, logs = make_epoch(MODEL, ADAM, batch_size=16)(state, context)
    np.testing.assert_allclose(state.params["point"], point, rtol=1e-5)
    np.testing.assert_allclose(
        state.params["nodes"], plain.params["nodes"], rtol=1e-4, atol=1e-6
    )
    first, _ = state.opt_state
    np.testing.assert_allclose(first[0].mu["point"], moments[0].mu["point"], rtol=1e-5)
    # What is logged says both turns.
    np.testing.assert_allclose(logs["miss"], np.mean(losses), rtol=1e-5)
    total = expected["loss"] + np.mean(losses)
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-4)


def test_a_first_turn_that_is_not_finite_stops_the_run(context):
    with pytest.raises(FloatingPointError, match="epoch 1"):
        fit(
            Guided(dim=4, broken=True),
            context,
            SPEC,
            training=Training(epochs=2, batch_size=16),
        )
