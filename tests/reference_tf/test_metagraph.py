"""Any graph of the network is paired by place, whatever its names and forms; faults are found."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from configurations import CONFIGURATIONS
from made_images import waves
from paired import paired
from sampling import one_in
from tensorflow.python.framework import function

import reference_tf
from converter.conversion import convert
from converter.fetch.sources import resolve
from efficientdet_spec import InputError, get_config
from parity.lockstep.comparison import compare
from parity.sides.naming import own_paths
from parity.sides.pytorch import FaithfulReferee
from parity.sides.tensorflow_graph import TensorflowReference
from reference_tf import metagraph
from reference_tf.metagraph import load_metagraph
from torch_model.checkpoint import from_arrays
from torch_model.decode import read_image
from torch_model.preprocess import preprocess

v1 = tf.compat.v1
TINY = get_config("tiny")
SIZE = TINY.image_size
VARIABLES = ("VarHandleOp", "VariableV2")
STEM = "efficientnet-tiny/stem"
FUSE = "fpn_cells/cell_0/fnode4"
POOL = f"{FUSE}/resample_2_8_9/max_pooling2d/MaxPool"


@pytest.fixture(scope="module")
def ours():
    return reference_tf.build(TINY, *SIZE)


@pytest.fixture(scope="module")
def exported(ours, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.meta"
    with ours.graph.as_default():
        v1.train.export_meta_graph(str(path), graph=ours.graph)
    return path.read_bytes()


@pytest.fixture
def meta(exported, tmp_path):
    """Writes the tiny model's MetaGraph after a change and returns the path.

    The change gets the MetaGraph and its operations by name.
    """

    def make(change=None):
        content = v1.MetaGraphDef.FromString(exported)
        if change:
            change(content, {node.name: node for node in content.graph_def.node})
        path = tmp_path / "changed.meta"
        path.write_bytes(content.SerializeToString())
        return path

    return make


def node_values(graph, prefix, images, ema=True):
    with reference_tf.open_session(graph.graph, 2) as session:
        graph.restore(session, prefix, ema=ema)
        return session.run(dict(graph.nodes), {graph.images: images})


def failing(graph, files, images):
    """Verdicts on the converted checkpoint with ``graph`` as reference, by node."""
    conversion = convert(files)
    model = from_arrays(conversion.config, conversion.arrays, "checkpoint")
    reference = TensorflowReference(graph)
    with reference_tf.open_session(graph.graph, 2) as session:
        graph.restore(session, files.prefix, ema=True)
        stream = partial(reference.stream, session, images)
        referee = FaithfulReferee(model, graph.kinds, images.shape)
        naming = own_paths(graph.kinds)
        pairing = paired(stream, model, naming, referee, images, graph.output_nodes)
        nodes = compare(pairing).nodes
    assert [node.name for node in nodes] == list(graph.nodes)
    return [node.name for node in nodes if not node.verdict.passes]


def built_in_images(height, width):
    return preprocess(waves(height, width), height, width)[None]


# Changes of form: the same network.


def rename(meta, nodes):
    names = {
        name: name if node.op in VARIABLES else f"tower/op_{number}"
        for number, (name, node) in enumerate(nodes.items())
    }
    for node in nodes.values():
        node.name = names[node.name]
        inputs = [name.removeprefix("^") for name in node.input]
        renamed = [":".join([names[x.split(":")[0]], *x.split(":")[1:]]) for x in inputs]
        del node.input[:]
        node.input.extend(renamed)


def chain_sums(meta, nodes):
    """``AddN`` as additions one after the other."""
    for node in [node for node in nodes.values() if node.op == "AddN"]:
        first, *middle, last = node.input
        for number, term in enumerate(middle):
            added = meta.graph_def.node.add(name=f"{node.name}/part_{number}", op="AddV2")
            added.input.extend([first, term])
            added.attr["T"].type = tf.float32.as_datatype_enum
            first = added.name
        node.op = "AddV2"
        node.attr.pop("N")
        node.input[:] = [first, last]


def native_swish(meta, nodes):
    """``x * sigmoid(x)`` with neither ``IdentityN`` nor a factor."""
    replaced = {}
    for node in [node for node in nodes.values() if node.op == "IdentityN"]:
        product, x, _ = node.input
        nodes[nodes[product].input[1]].input[0] = x
        replaced[node.name] = product
        meta.graph_def.node.remove(node)
    redirect(meta, replaced)


def redirect(meta, replaced):
    for node in meta.graph_def.node:
        node.input[:] = [replaced.get(name, name) for name in node.input]


def swish_function(meta, nodes):
    """Swish as TensorFlow 1.12 made it: a function of the graph."""

    @function.Defun(tf.float32, func_name="swish_f32", noinline=True)
    def swish(features):
        return features * tf.sigmoid(features)

    with tf.Graph().as_default() as graph:
        swish(tf.zeros([1]))
    meta.graph_def.library.CopyFrom(graph.as_graph_def().library)
    assert [one.signature.name for one in meta.graph_def.library.function] == ["swish_f32"]
    for node in [node for node in nodes.values() if node.op == "IdentityN"]:
        x = node.input[1]
        node.Clear()
        node.name = next(name for name, other in nodes.items() if other is node)
        node.op = "swish_f32"
        node.input.append(x)


def broadcast_upsampling(meta, nodes):
    """Nearest neighbours as the code of March 2020 took them: reshape, multiply, reshape."""

    def add(name, op, *inputs, **attributes):
        node = meta.graph_def.node.add(name=name, op=op)
        node.input.extend(inputs)
        for key, value in attributes.items():
            node.attr[key].type = value.as_datatype_enum
        return name

    def constant(name, value, dtype):
        add(name, "Const", dtype=dtype)
        tensor = tf.make_tensor_proto(value, dtype)
        meta.graph_def.node[-1].attr["value"].tensor.CopyFrom(tensor)
        return name

    types = {"T": tf.float32, "Tshape": tf.int32}
    found = [node for node in nodes.values() if node.op == "ResizeNearestNeighbor"]
    assert found
    for node in found:
        name, (x, size) = node.name, node.input
        height, width = tf.make_ndarray(nodes[size].attr["value"].tensor).tolist()
        before = [1, height // 2, 1, width // 2, 1, TINY.fpn_channels]
        shape = constant(f"{name}/before", before, tf.int32)
        spread = add(f"{name}/spread", "Reshape", x, shape, **types)
        ones = constant(f"{name}/ones", np.ones([1, 1, 2, 1, 2, 1]), tf.float32)
        product = add(f"{name}/mul", "Mul", spread, ones, T=tf.float32)
        after = constant(f"{name}/after", [1, height, width, TINY.fpn_channels], tf.int32)
        meta.graph_def.node.remove(node)
        add(name, "Reshape", product, after, **types)


def old_types(meta, nodes):
    """Reference variables, ``Add`` and the first fused batch norm."""
    for node in nodes.values():
        if node.op == "VarHandleOp":
            node.op = "VariableV2"
            node.attr.pop("allowed_devices", None)
            node.attr.pop("debug_name", None)
        elif node.op == "ReadVariableOp":
            node.op = "Identity"
            node.attr["T"].CopyFrom(node.attr.pop("dtype"))
        elif node.op == "AddV2":
            node.op = "Add"
        elif node.op == "FusedBatchNormV3":
            node.op = "FusedBatchNorm"
            node.attr.pop("U")
            node.attr.pop("exponential_avg_factor", None)


def surroundings(meta, nodes):
    """Preprocessing in front, devices that this machine has not, and unknown operations behind."""
    nodes["images"].op = "DecodeAndStandardise"
    nodes["images"].attr.pop("shape")
    nodes["images"].input.append("files")
    meta.graph_def.node.add(name="files", op="ReadFile")
    last = meta.graph_def.node.add(name="last", op="NoSuchOperation")
    last.input.append("class_net/class-predict/BiasAdd")
    for node in meta.graph_def.node:
        node.device = "/job:worker/device:TPU:3"
        node.attr["_class"].list.s.append(b"loc:@nowhere")


def swap(meta, nodes):
    """Factors and two terms the other way round, which changes no bit."""
    for node in nodes.values():
        if node.op in ("Mul", "AddV2"):
            node.input[:] = list(node.input)[::-1]


FORMS = {
    "as exported": [],
    "other names": [rename],
    "chains of sums": [chain_sums],
    "native swish": [native_swish],
    "a swish function": [swish_function],
    "up-sampling by broadcasting": [broadcast_upsampling],
    "old types": [old_types],
    "surroundings": [surroundings],
    "swapped": [swap],
    "all at once": [
        surroundings,
        chain_sums,
        old_types,
        broadcast_upsampling,
        swish_function,
        rename,
    ],
}


LIGHT = ("as exported", "native swish", "swapped", "all at once")
"""All forms but the first three of these are in the last, which so tries them too."""


@pytest.mark.parametrize(
    "form",
    [pytest.param(form, marks=() if form in LIGHT else pytest.mark.heavy) for form in FORMS],
)
def test_every_form_is_the_same_network(form, ours, meta, tiny_checkpoint):
    def change(content, nodes):
        for one in FORMS[form]:
            one(content, {node.name: node for node in content.graph_def.node})

    graph = load_metagraph(meta(change), TINY)
    assert list(graph.nodes) == list(ours.nodes)
    assert graph.kinds == ours.kinds
    assert graph.output_nodes == ours.output_nodes
    images = built_in_images(*SIZE)
    expected = node_values(ours, tiny_checkpoint / "model", images)
    values = node_values(graph, tiny_checkpoint / "model", images)
    assert [name for name in expected if not np.array_equal(values[name], expected[name])] == []


VARIANTS = CONFIGURATIONS


@pytest.mark.parametrize("name", one_in(8, VARIANTS))
def test_every_variant_is_paired(name, tmp_path):
    built = reference_tf.build(VARIANTS[name], 258, 402)
    content = v1.MetaGraphDef(graph_def=built.graph.as_graph_def())
    for change in (chain_sums, native_swish):
        change(content, {node.name: node for node in content.graph_def.node})
    rename(content, {node.name: node for node in content.graph_def.node})
    path = tmp_path / "model.meta"
    path.write_bytes(content.SerializeToString())
    graph = load_metagraph(path, VARIANTS[name])
    assert list(graph.nodes) == list(built.nodes)
    assert [tensor.shape for tensor in graph.nodes.values()] == [
        tensor.shape for tensor in built.nodes.values()
    ]
    assert (graph.height, graph.width) == (258, 402)


def test_other_names_are_counted(meta, ours):
    assert load_metagraph(meta(), TINY).notes == ()
    graph = load_metagraph(meta(rename), TINY)
    (note,) = graph.notes
    assert note.startswith(f"{len(ours.nodes)} of {len(ours.nodes)} node tensors have other names")
    assert all(tensor.name.startswith("tower/op_") for tensor in graph.nodes.values())


def test_the_order_of_two_is_not_noted(meta):
    assert load_metagraph(meta(swap), TINY).notes == ()


def test_only_what_leads_to_the_nodes_is_imported(meta):
    graph = load_metagraph(meta(surroundings), TINY)
    types = {operation.type for operation in graph.graph.get_operations()}
    assert not types & {"AssignVariableOp", "VarIsInitializedOp", "ReadFile", "NoSuchOperation"}
    assert {operation.device for operation in graph.graph.get_operations()} == {""}
    assert (graph.height, graph.width) == (128, 128)


def test_raw_values_are_restored(ours, meta, tiny_checkpoint):
    images = built_in_images(*SIZE)
    prefix = tiny_checkpoint / "model"
    expected = node_values(ours, prefix, images, ema=False)
    values = node_values(load_metagraph(meta(old_types), TINY), prefix, images, ema=False)
    assert all(np.array_equal(values[name], expected[name]) for name in expected)


def test_a_comparison_runs_against_it(meta, tiny_checkpoint, tmp_path):
    files = resolve(str(tiny_checkpoint), tmp_path)
    graph = load_metagraph(meta(rename), TINY)
    assert failing(graph, files, built_in_images(*SIZE)) == []


# Differences of value: paired, noted, and seen in a comparison.


def small_pool(meta, nodes):
    nodes[POOL].attr["ksize"].list.i[:] = [1, 2, 2, 1]


def other_epsilon(meta, nodes):
    nodes[f"{STEM}/tpu_batch_normalization/FusedBatchNormV3"].attr["epsilon"].f = 0.1


def other_fusion_epsilon(meta, nodes):
    tensor = tf.make_tensor_proto(0.5, tf.float32)
    nodes[f"{FUSE}/add_1/y"].attr["value"].tensor.CopyFrom(tensor)


def pixel_centres(meta, nodes):
    name = "fpn_cells/cell_0/fnode0/resample_1_4_5/ResizeNearestNeighbor"
    nodes[name].attr["half_pixel_centers"].b = True


def valid_stem(meta, nodes):
    nodes[f"{STEM}/conv2d/Conv2D"].attr["padding"].s = b"VALID"


def other_order(meta, nodes):
    nodes[f"{FUSE}/AddN_1"].input[:] = [f"{FUSE}/truediv{number}" for number in ("_2", "_1", "")]


VALUES = {
    "pool": (small_pool, f"operation {POOL} ksize is [1, 2, 2, 1]; in today's graph", True),
    "epsilon": (other_epsilon, "epsilon is 0.1; in today's graph it is 0.001", True),
    "fusion": (other_fusion_epsilon, f"{FUSE}/add_1 a constant input is [0.5]; in today's", True),
    # At a factor of two both conventions take the same pixels.
    "centres": (pixel_centres, "half_pixel_centers is True; in today's graph it is False", False),
    "order": (other_order, f"another order in {FUSE}/AddN_1; only roundings differ", False),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_difference_of_value_is_noted_and_seen(name, meta, tiny_checkpoint, tmp_path):
    change, note, visible = VALUES[name]
    graph = load_metagraph(meta(change), TINY)
    assert len(graph.notes) == 1
    assert note in graph.notes[0]
    files = resolve(str(tiny_checkpoint), tmp_path)
    nodes = failing(graph, files, built_in_images(*SIZE))
    expected = {
        "pool": "fpn.cells.0.nodes.4.resamples.2.pool",
        "epsilon": "backbone.stem_bn",
        "fusion": "fpn.cells.0.nodes.4.fuse",
    }
    assert nodes == ([expected[name]] if visible else [])


def test_another_padding_is_noted_with_its_shapes(meta):
    # The stem's output has odd sides then, but halves to the same ones from P2 on.
    graph = load_metagraph(meta(valid_stem), TINY)
    assert "padding is VALID; in today's graph it is SAME" in graph.notes[0]
    assert "backbone.stem_conv" in graph.notes[1]
    assert "has shape [1, 63, 63, 8], not [1, 64, 64, 8]" in graph.notes[1]


# Faults of structure: no partner, or too many.


def skip_batch_norm(meta, nodes):
    redirect(
        meta,
        {f"{STEM}/tpu_batch_normalization/FusedBatchNormV3": f"{STEM}/conv2d/Conv2D"},
    )


def wrong_input(meta, nodes):
    nodes[f"{FUSE}/mul_1"].input[0] = f"{FUSE}/resample_0_1_9/bn/FusedBatchNormV3"


def swapped_division(meta, nodes):
    node = nodes[f"{FUSE}/truediv"]
    node.input[:] = list(node.input)[::-1]


def python_function(meta, nodes):
    call = meta.graph_def.node.add(name="innocent", op="PyFunc")
    call.input.append(f"{STEM}/conv2d/Conv2D")
    nodes[f"{STEM}/tpu_batch_normalization/FusedBatchNormV3"].input[0] = "innocent"


def hidden_python_function(meta, nodes):
    meta.graph_def.node.add(name="innocent", op="PyFunc")
    nodes[f"{STEM}/IdentityN"].input[2] = "innocent"


def hidden_constant(meta, nodes):
    large = meta.graph_def.node.add(name="large", op="Const")
    large.CopyFrom(nodes[f"{STEM}/beta"])
    large.name = "large"
    for _ in range(3):
        large.attr["value"].tensor.tensor_shape.dim.add(size=1 << 20)
    nodes[f"{STEM}/IdentityN"].input[2] = "large"


def hostile_function(meta, nodes):
    swish_function(meta, nodes)
    meta.graph_def.library.function[0].node_def.add(name="file", op="ReadFile")


def without_variable(meta, nodes):
    nodes[f"{STEM}/tpu_batch_normalization/gamma"].op = "PlaceholderV2"


def channels_first(meta, nodes):
    nodes[f"{STEM}/conv2d/Conv2D"].attr["data_format"].s = b"NCHW"


def two_candidates(meta, nodes):
    """One pool made twice, once for each half of what it is multiplied with."""
    for name in ("twin_1", "twin_2"):
        twin = meta.graph_def.node.add()
        twin.CopyFrom(nodes[POOL])
        twin.name = name
    nodes[f"{FUSE}/mul_2"].input[0] = "twin_1"
    half = meta.graph_def.node.add(name="half", op="IdentityN")
    half.input.extend([f"{FUSE}/AddN_1", "twin_2"])
    redirect(meta, {POOL: "twin_1"})
    meta.graph_def.node.remove(nodes[POOL])
    for node in meta.graph_def.node:
        if node.name.startswith(f"{FUSE}/op_after_combine9/"):
            node.input[:] = [name.replace(f"{FUSE}/AddN_1", "half") for name in node.input]


def cycle(meta, nodes):
    nodes[f"{STEM}/conv2d/Conv2D"].input[1] = f"{STEM}/mul_1"


def exploding_sums(meta, nodes):
    last = f"{STEM}/conv2d/Conv2D"
    for number in range(200):
        node = meta.graph_def.node.add(name=f"double_{number}", op="AddV2")
        node.input.extend([last, last])
        last = node.name
    nodes[f"{STEM}/tpu_batch_normalization/FusedBatchNormV3"].input[0] = last


FAULTS = {
    "missing operation": (skip_batch_norm, r"FusedBatchNormV3:0, which nothing reads, .*Conv2D:0"),
    "wrong input": (wrong_input, r"fpn\.cells\.0\.nodes\.4\.fuse \(AddN.*nodes behind"),
    "swapped division": (swapped_division, r"fpn\.cells\.0\.nodes\.4\.fuse \(AddN"),
    "python in the way": (python_function, r"backbone\.stem_bn .*innocent \(PyFunc\)"),
    "python behind": (hidden_python_function, "innocent is a PyFunc, which does not belong"),
    "huge constant": (hidden_constant, "constant large is malformed or too large"),
    "hostile function": (hostile_function, r"which nothing reads, .*IdentityN \(swish_f32\)"),
    "lacking variable": (without_variable, "needs the variable .*gamma, which the graph lacks"),
    "channels first": (channels_first, "computes in NCHW"),
    "two candidates": (two_candidates, "resamples.2.pool may be any of twin_1:0, twin_2:0"),
    "cycle": (cycle, "has 0 convolutions with efficientnet-tiny/stem/conv2d/kernel"),
    "exploding sums": (exploding_sums, r"backbone\.stem_bn .*double_0 \(AddV2\)"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_another_structure_is_refused(name, meta):
    change, message = FAULTS[name]
    with pytest.raises(InputError, match=message):
        load_metagraph(meta(change), TINY)


def test_a_node_that_waits_for_a_later_one_is_refused(meta):
    def change(content, nodes):
        later = "efficientnet-tiny/blocks_0/conv2d/Conv2D"
        # A parallel way around it, so that there is no cycle.
        nodes["class_net/IdentityN"].input[2] = "box_net/IdentityN"
        assert nodes[later].op == "Conv2D"

    with pytest.raises(InputError, match=r"computes box_head.* before class_head"):
        load_metagraph(meta(change), TINY)


def test_another_model_is_refused(meta):
    with pytest.raises(InputError, match="0 convolutions with efficientnet-b0/stem"):
        load_metagraph(meta(), get_config("d0"))


def test_another_number_of_classes_is_refused(meta):
    with pytest.raises(InputError, match=r"class-predict/bias has shape \[63\], not \[27\]"):
        load_metagraph(meta(), TINY.with_classes(3))


def test_shapes_that_fit_nothing_are_refused(meta):
    def change(content, nodes):
        nodes[f"{STEM}/conv2d/Conv2D"].attr["strides"].list.i[:] = [1, 1, 1, 1]

    with pytest.raises(InputError, match="cannot be imported for images of 128x128 pixels"):
        load_metagraph(meta(change), TINY)


# Sizes and types.


def test_another_size_is_refused(meta):
    with pytest.raises(InputError, match="images of 128x128 pixels, but 96x128 was asked for"):
        load_metagraph(meta(), TINY, (96, 128))
    assert load_metagraph(meta(), TINY, (128, 128)).images.shape == [1, 128, 128, 3]


def test_a_graph_may_leave_its_size_open(meta):
    def change(content, nodes):
        nodes["images"].attr.pop("_output_shapes", None)
        nodes["images"].attr["shape"].shape.unknown_rank = True
        del nodes["images"].attr["shape"].shape.dim[:]

    graph = load_metagraph(meta(change), TINY)
    assert (graph.height, graph.width) == (None, None)
    assert graph.images.shape == [1, 128, 128, 3]
    # Its constants are those of 128x128 all the same.
    with pytest.raises(InputError, match="cannot be imported for images of 192x192"):
        load_metagraph(meta(change), TINY, (192, 192))


def test_a_batch_is_noted(meta):
    def change(content, nodes):
        nodes["images"].attr["shape"].shape.dim[0].size = 8
        nodes["images"].attr.pop("_output_shapes", None)

    graph = load_metagraph(meta(change), TINY)
    assert graph.notes == ("The graph was made for batches of 8 images; it is run on one.",)


def test_an_absurd_size_is_refused(meta):
    def change(content, nodes):
        nodes["images"].attr["shape"].shape.dim[1].size = 1 << 40
        nodes["images"].attr.pop("_output_shapes", None)

    with pytest.raises(InputError, match="at most 8192 a side"):
        load_metagraph(meta(change), TINY)


def test_double_precision_is_impossible(meta):
    with pytest.raises(InputError, match="computes in float32 and cannot be made float64"):
        load_metagraph(meta(), TINY, dtype="float64")


# Files.


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "holds 0 operations"),
        (b"meta_info_def { tensorflow_version: '1.15' }\n", "is no MetaGraph"),
        (b"\xff" * 1000, "is no MetaGraph"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "model.meta"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_metagraph(path, TINY)


def test_a_truncated_file_is_refused(exported, tmp_path):
    path = tmp_path / "model.meta"
    path.write_bytes(exported[: len(exported) // 2])
    with pytest.raises(InputError, match="complete and in binary form"):
        load_metagraph(path, TINY)


def test_a_huge_file_is_refused(tmp_path):
    path = tmp_path / "model.meta"
    with path.open("wb") as file:
        file.truncate(metagraph.MAX_BYTES + 1)
    with pytest.raises(InputError, match="has more than .* bytes"):
        load_metagraph(path, TINY)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.meta cannot be read \(No such file"):
        load_metagraph(tmp_path / "absent.meta", TINY)


def test_two_operations_of_one_name_are_refused(meta):
    def change(content, nodes):
        content.graph_def.node.add().CopyFrom(nodes["images"])

    with pytest.raises(InputError, match="operations with .* names"):
        load_metagraph(meta(change), TINY)


# A graph that came with a checkpoint.


@pytest.fixture(scope="module")
def official(test_data):
    return test_data / "official" / "efficientdet-d0.meta"


@pytest.mark.heavy
def test_a_released_graph_has_parity_at_every_node(official, test_data, tmp_path):
    graph = load_metagraph(official, get_config("d0"))
    assert (graph.height, graph.width) == (512, 512)
    (note,) = graph.notes
    assert note.startswith("53 of 531 node tensors have other names than today's graph gives them")
    photograph = min((test_data / "coco_tiny" / "val2017").glob("*.jpg"))
    images = preprocess(read_image(photograph), 512, 512)[None]
    files = resolve(str(test_data / "checkpoints" / "efficientdet-d0"), tmp_path)
    ours = node_values(reference_tf.build(graph.config, 512, 512), files.prefix, images)
    values = node_values(graph, files.prefix, images)
    assert len(values) == 531
    assert [name for name in ours if not np.array_equal(values[name], ours[name])] == []
    # Taps change the graph, so this comes last.
    graph = load_metagraph(official, get_config("d0"))
    assert failing(graph, files, images) == []
