"""Every promise of docs/security.md has a test, and its limits are those of the code."""

import ast
import re

import pytest
from documents import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
PROMISES = re.findall(r"^\| (.+?) \| `(tests/[\w/]+\.py)::(\w+)` \|$", PAGE, re.MULTILINE)


def test_every_promise_names_a_test():
    promised = PAGE.partition("## Promised")[2].partition("\n## ")[0]
    rows = [line for line in promised.splitlines() if line.startswith("| ")][1:]
    assert len(PROMISES) == len(rows) > 15


@pytest.mark.parametrize(("promise", "path", "name"), PROMISES, ids=lambda text: text[:60])
def test_the_test_of_a_promise_exists(promise, path, name):
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_limits_are_those_of_the_code():
    from converter.fetch import packings, streams
    from converter.hdf5 import child, file, listing
    from converter.hparams import plain_yaml
    from converter.tensorflow_files import bundle, graph_def, object_graph, string_tensors, table
    from efficientdet_spec import encoded
    from parity.detections import annotation_values, brought, shard_files
    from parity.process import json_text
    from parity.results import reading
    from torch_model import container, pickled, safetensors

    limits = PAGE.partition("## Limits of size")[2].partition("\n## ")[0]
    mebi = 2**20
    for words in (
        f"{bundle.MAX_INDEX_BYTES // mebi} MiB, {table._MAX_PAIRS:,} tensors",
        f"names of {bundle._MAX_NAME:,} characters",
        f"{string_tensors.MAX_BYTES // mebi} MiB, {string_tensors.MAX_STRINGS:,} texts",
        f"{object_graph.MAX_BYTES // mebi} MiB, {object_graph.MAX_NODES:,} objects, "
        f"{object_graph.MAX_REFERENCES:,} references, paths of {object_graph.MAX_PATH:,} char",
        f"{graph_def.MAX_FILE_BYTES // 2**30} GiB, {graph_def._MAX_FIELDS:,} fields, names of "
        f"{graph_def._MAX_NAME:,} bytes and {graph_def._MAX_TEXT_BYTES // mebi} MiB in all; its "
        f"constants 2^{graph_def._MAX_ELEMENTS.bit_length() - 1} elements",
        f"{child.MOST_OBJECTS:,} groups and datasets, {child._MOST_DEPTH} deep; "
        f"{child._MOST_NAMES:,} names and {child._MOST_ATTRIBUTE // mebi} MiB an attribute",
        f"told of it {listing.MOST_BYTES // mebi} MiB; "
        f"a packed tensor {listing.MOST_UNPACKED // mebi} MiB",
        f"{child.MEMORY // mebi:,} MiB of address space, {child.SECONDS} seconds of computing, "
        f"{child._FILES} open files; an answer is awaited for {file.SECONDS:.0f} seconds",
        f"{pickled.MAX_BYTES // mebi} MiB and {pickled.MAX_INSTRUCTIONS:,} instructions, "
        f"{pickled.MAX_DIMENSIONS} dimensions",
        f"{safetensors.MAX_HEADER // mebi} MiB, {safetensors.MAX_VALUES:,} values",
        f"{packings.MAX_BYTES // 2**30} GiB unpacked, {packings.MAX_MEMBERS:,} members",
        f"of a tar {packings._HEADER_BYTES // 1024} KiB; the table of contents of a ZIP "
        f"{packings._DIRECTORY_BYTES // mebi} MiB; {streams.MAX_PARTS:,} gzip files",
        f"table of contents {container._MAX_DIRECTORY // mebi} MiB",
        f"2^{encoded.MAX_PIXELS.bit_length() - 1} pixels, {encoded.MAX_SIDE:,} a side",
        f"the file {encoded.MAX_FILE_BYTES // mebi} MiB",
        f"{annotation_values.MAX_BYTES // 2**30} GiB, {annotation_values.MAX_OBJECTS:,} objects",
        f"{brought.MAX_BYTES // mebi} MiB, {json_text.MAX_VALUES:,} values",
        f"{reading.MAX_BYTES // mebi} MiB, {json_text.MAX_VALUES:,} values",
        f"{plain_yaml.MAX_BYTES // 1024} KiB, {plain_yaml.MAX_DEPTH} levels deep, "
        f"{plain_yaml.MAX_NODES:,} values",
        f"a shard {shard_files.MAX_BYTES // mebi} MiB",
    ):
        assert words in limits, words
