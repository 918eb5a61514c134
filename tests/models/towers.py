"""A large model that is small: what tests train along with a graph."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Words:
    """The mean of word vectors, through two stacked layers, of unit length."""

    dim: int = 5
    words: int = 7

    def init(self, key):
        keys, shape = jax.random.split(key, 3), (2, self.dim, self.dim)
        layers = {
            "query": {
                "kernel": jax.random.normal(keys[1], shape) / 2,
                "bias": jnp.zeros((2, self.dim)),
            },
            "value": {"kernel": jax.random.normal(keys[2], shape) / 2},
        }
        word = jax.random.normal(keys[0], (self.words, self.dim))
        return {"word": word, "layers": layers}

    def encode(self, params, tokens):
        def layer(x, one):
            wide = jnp.tanh(x @ one["query"]["kernel"] + one["query"]["bias"][None])
            return x + wide @ one["value"]["kernel"], None

        x, _ = jax.lax.scan(layer, params["word"][tokens].mean(1), params["layers"])
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)


TOWER = Words()
WEIGHTS = TOWER.init(jax.random.key(9))


def tokens_of(num_items):
    """Three words of each item."""
    return np.random.default_rng(8).integers(0, TOWER.words, (num_items, 3))
