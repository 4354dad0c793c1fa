"""Entries of checkpoints without files, and what keeps a ledger of them from being complete."""

from collections import Counter

import numpy as np

from converter.mappings.official import iterate_pairs
from converter.tensorflow_files.bundle import BundleEntry
from converter.variables import EMA


def entry(name, shape=(), dtype="<f4"):
    dtype = np.dtype(dtype)
    names = {
        "<f4": "DT_FLOAT",
        "<f2": "DT_HALF",
        "<i8": "DT_INT64",
        "<i4": "DT_INT32",
        "<f8": "DT_DOUBLE",
    }
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    return BundleEntry(name, dtype, names[dtype.str], tuple(shape), 0, 0, size, 0)


def shapes_of(config):
    return {
        name: shape
        for pair in iterate_pairs(config)
        for name, shape in pair.variable_shapes.items()
    }


def checkpoint(config, raw=True, ema=True):
    """The entries of a checkpoint of a model, in the order of an index file."""
    entries = {}
    for name, shape in shapes_of(config).items():
        if raw:
            entries[name] = entry(name, shape)
        if ema:
            entries[f"{name}/{EMA}"] = entry(f"{name}/{EMA}", shape)
    return with_entries(entries, entry("global_step", (), "<i8"))


def with_entries(entries, *added):
    return dict(sorted({**entries, **{item.name: item for item in added}}.items()))


def without(entries, *names):
    assert entries.keys() >= set(names)
    return {name: item for name, item in entries.items() if name not in names}


def sentences(ledger):
    return [str(finding) for finding in ledger.findings]


def unaccounted(ledger, entries):
    """What keeps a ledger from being complete."""
    rows = Counter(row.variable for row in ledger.rows)
    filled = Counter(source.pair.parameter for source in ledger.sources)
    used = Counter(name for source in ledger.sources for name in source.variables)
    return [
        *ledger.findings,
        *(f"{name} in {count} rows" for name, count in rows.items() if count != 1),
        *(f"{name} in no row" for name in entries.keys() - rows.keys()),
        *(f"{name} in a row, not in the file" for name in rows.keys() - entries.keys()),
        *(f"{name} filled {count} times" for name, count in filled.items() if count != 1),
        *(
            f"{pair.parameter} not filled"
            for pair in iterate_pairs(ledger.config)
            if pair.parameter not in filled
        ),
        *(f"{name} used {count} times" for name, count in used.items() if count != 1),
        *(
            f"{row.variable}: {row.use}, though sources say otherwise"
            for row in ledger.rows
            if (row.use != "excluded") != (row.variable in used)
        ),
        *(f"{row.variable} without a reason" for row in ledger.rows if not row.reason),
    ]
