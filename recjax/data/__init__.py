"""Data: sources are read, cleaned, split, prepared once, and moved to the device.

The flow is ``read -> clean -> split -> write``, which `prepare` does in one go, and
then ``load -> make_context``.
"""

from recjax.data._add_feature import add_feature, has_feature
from recjax.data._clean import Cleaning, clean
from recjax.data._columns import Columns
from recjax.data._dataset import Dataset
from recjax.data._describe import describe
from recjax.data._home import data_home
from recjax.data._log import Log, Step
from recjax.data._prepare import DEFAULT_CLEANING, find, open_dataset, prepare
from recjax.data._read import SOURCES, read
from recjax.data._split import Split, split, split_hash
from recjax.data._store import load, open_part, write
from recjax.data._texts import item_texts
from recjax.data._triples import (
    dataset_relations,
    graph_triples,
    relation_names,
    split_relations,
)
from recjax.data.graph import attribute_pairs, make_context
from recjax.data.relations import Triples, make_relation_context
from recjax.data.synthetic import synthetic

__all__ = [
    "DEFAULT_CLEANING",
    "SOURCES",
    "Cleaning",
    "Columns",
    "Dataset",
    "Log",
    "Split",
    "Step",
    "Triples",
    "add_feature",
    "attribute_pairs",
    "clean",
    "data_home",
    "dataset_relations",
    "describe",
    "find",
    "graph_triples",
    "has_feature",
    "item_texts",
    "load",
    "make_context",
    "make_relation_context",
    "open_dataset",
    "open_part",
    "prepare",
    "read",
    "relation_names",
    "split",
    "split_hash",
    "split_relations",
    "synthetic",
    "write",
]
