"""A model from elsewhere, given as code and a list of names, goes through the comparison."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from sampling import one_in

import compare
from parity.detections.images import photograph_like

HERE = Path(__file__).parent
PARTIAL, COMPLETE = HERE / "names.json", HERE / "names_hookable.json"
SIZE = "192x256"
# All but P7's own, in whose windows at the border something is above zero.
POOLS = (
    "fpn.resample_p6.pool",
    *(
        f"fpn.cells.{cell}.nodes.{node}.resamples.{last}.pool"
        for cell in range(2)
        for node, last in ((4, 2), (5, 2), (6, 2), (7, 1))
    ),
)
STRIDED = ("backbone.stem_conv", *(f"backbone.blocks.{i}.depthwise_conv" for i in (1, 3, 4, 6)))
CLASS_NORMS = tuple(
    f"class_head.bns.{repeat}.P{level}" for repeat in range(2) for level in range(3, 8)
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("cv2") is None,
    reason="TensorFlow or OpenCV is not installed",
)


@pytest.fixture(scope="module", autouse=True)
def threads():
    """Comparisons set the number of threads of the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """An image file: the port is made for sides that are multiples of 32."""
    import cv2

    path = tmp_path_factory.mktemp("picture") / "picture.png"
    assert cv2.imwrite(str(path), photograph_like(192, 256))
    return path


@pytest.fixture(scope="module")
def check(tiny_checkpoint, picture, tmp_path_factory):
    """Compares what a function of a file makes; returns the exit code and the JSON result."""
    folder = tmp_path_factory.mktemp("compared")

    def call(function, names=PARTIAL, file="port.py", image=(picture,)):
        result = folder / f"{Path(file).stem}-{function}.json"
        arguments = ["nodes", tiny_checkpoint, "--size", SIZE, "--threads", "1"]
        arguments += ["--image", *image] if image else []
        arguments += ["--candidate", f"{HERE / file}:{function}"]
        arguments += ["--names", names] if names else []
        # More suspects than there are nodes without a module.
        arguments += ["--diagnose", "100", "--contributions", "0", "--json", result]
        code = compare.main([str(argument) for argument in arguments])
        return code, json.loads(result.read_text())

    return call


@pytest.fixture(scope="module")
def as_it_is(check):
    """The port with bare functions, where modules alone can be seen."""
    return check("build_in_thread")


@pytest.fixture(scope="module")
def hookable(check):
    """The port with a module for each step."""
    return check("build_hookable", COMPLETE)


def by_name(result):
    return {node["name"]: node for node in result["nodes"]}


def failing(result):
    """Names of nodes without parity, other than those that have no partner."""
    return {
        node["name"]
        for node in result["nodes"]
        if node["verdict"] not in ("exact", "rounding", "not covered")
    }


def unpaired(result, names=PARTIAL):
    """The nodes for which a names file gives nothing."""
    given = json.loads(names.read_text())
    return {name for name in by_name(result) if not {name, name.partition("@")[0]} & given.keys()}


def named(result, node):
    """The suspect that a node belongs to."""
    (suspect,) = [item for item in result["suspects"] if node in item["nodes"]]
    return suspect


def test_a_port_in_which_every_step_is_a_module_has_parity(hookable):
    code, result = hookable
    assert code == 0
    assert result["passes"] is True
    assert unpaired(result, COMPLETE) == set()
    assert {node["verdict"] for node in result["nodes"]} == {"exact", "rounding"}
    assert all(node["identical_inputs"] for node in result["nodes"])
    assert result["findings"] == result["suspects"] == []


@pytest.mark.parametrize("file, function", [("port.py", "build"), ("wrapped.py", "build_joined")])
def test_no_list_of_names_and_no_wrapper_is_needed(check, file, function):
    code, result = check(function, names=None, file=file)
    assert (code, result["outcome"]) == (0, "parity")
    assert {node["verdict"] for node in result["nodes"]} == {"exact", "rounding"}
    assert result["findings"] == result["suspects"] == []


@pytest.mark.parametrize(
    "function, slug, nodes",
    [
        ("zero_padded_pool", "pool-zero-padding", set(POOLS)),
        # Told in less time of the ports in other styles.
        pytest.param(
            *("forgotten_sigmoid", "left-out", {"backbone.blocks.2.se.gate"}),
            marks=pytest.mark.heavy,
        ),
    ],
)
def test_faults_are_named_without_names(check, function, slug, nodes):
    code, result = check(function, names=None)
    assert code == 1
    first = result["suspects"][0]
    assert first["slug"] == slug
    assert set(first["nodes"]) <= nodes
    assert {node for item in result["suspects"] for node in item["nodes"]} == nodes


@pytest.mark.heavy
def test_names_of_some_nodes_leave_the_others_to_what_is_found(check):
    """A file that names what is a module, for a port whose sums and gates are functions."""
    code, result = check("build")
    unnamed = unpaired(result)
    assert (code, result["outcome"]) == (0, "parity")
    assert {by_name(result)[name]["kind"] for name in unnamed} == {
        *("gate", "scale", "sum", "fusion", "up-sampling")
    }
    assert {node["verdict"] for node in result["nodes"]} == {"exact", "rounding"}
    assert result["findings"] == result["suspects"] == []
    _, without = check("build", names=None)
    assert [node["verdict"] for node in result["nodes"]] == [
        node["verdict"] for node in without["nodes"]
    ]


def test_what_runs_in_threads_cannot_be_seen_without_names(check):
    code, result = check("build_in_thread", names=None)
    assert (code, result["outcome"]) == (3, "not shown")
    assert "run in threads of their own" in result["not_shown"][0]
    assert {node["verdict"] for node in result["nodes"]} == {"not covered"}


def test_a_size_for_which_it_is_not_made_is_told_apart(check):
    """Of the generated inputs one has odd sides, where this port pads otherwise than the model."""
    code, result = check("build_hookable", COMPLETE, image=())
    assert (code, result["outcome"]) == (1, "difference")
    told = [(item["height"], item["width"], item["outcome"]) for item in result["inputs"]]
    assert told == [(192, 256, "parity"), (97, 193, "difference")]
    failures = [node for node in result["nodes"] if node["verdict"] not in ("exact", "rounding")]
    assert {node["input"] for node in failures} == {1}
    stem = by_name(result)["backbone.stem_conv"]
    assert stem["verdict"] == "function differs"
    assert stem["reason"] == "its shape is [2, 48, 96, 8], the reference's [2, 49, 97, 8]"


def test_what_cannot_be_paired_is_named_and_not_passed_over(as_it_is):
    code, result = as_it_is
    # Nothing is found to differ, and that is not parity.
    assert (code, result["outcome"]) == (3, "not shown")
    assert result["passes"] is False
    assert result["sentence"].startswith("NOT SHOWN: nothing was found to differ, but ")
    missing = [node for node in result["nodes"] if node["verdict"] == "not covered"]
    assert {node["name"] for node in missing} == unpaired(result)
    assert {node["kind"] for node in missing} == {"gate", "scale", "sum", "fusion", "up-sampling"}
    assert {node["reason"] for node in missing} == {"the candidate has no such node"}
    assert {name for item in result["suspects"] for name in item["nodes"]} == unpaired(result)


def test_what_can_be_paired_passes(as_it_is):
    code, result = as_it_is
    assert failing(result) == set()
    assert result["findings"] == []
    assert len(result["nodes"]) - result["counts"]["not covered"] == 268


def test_nodes_behind_bare_functions_are_judged_with_wider_limits(as_it_is, hookable):
    nodes, certain = by_name(as_it_is[1]), by_name(hookable[1])
    behind = {
        name for name, node in nodes.items() if node["shape"] and not node["identical_inputs"]
    }
    assert {
        "backbone.blocks.0.project_conv",
        "backbone.blocks.3.expand_conv",
        "fpn.cells.1.nodes.7.act",
    } <= behind
    # Each reads a sum, a gated feature or a fusion; what follows them has the reference's again.
    assert not {name for name in behind if name.endswith(("_bn", ".bn", "pointwise"))}
    for name in behind:
        assert nodes[name]["verdict"] in ("exact", "rounding"), name
        assert nodes[name]["from_exact"]["finite"]
        assert certain[name]["detectable"] < nodes[name]["detectable"] < 1e-3, name


@pytest.mark.parametrize(
    ("fault", "slug", "where"),
    one_in(
        3,
        [
            ("wrong_epsilon", "epsilon", CLASS_NORMS),
            ("zero_padded_pool", "pool-zero-padding", POOLS),
            ("symmetric_padding", "padding-symmetric", STRIDED),
        ],
    ),
)
def test_each_fault_is_found_where_it_is_and_named(check, fault, slug, where):
    code, result = check(fault)
    assert code == 1
    assert failing(result) == set(where)
    assert {by_name(result)[name]["verdict"] for name in where} == {"function differs"}
    assert {named(result, name)["slug"] for name in where} == {slug}


def test_a_fault_in_a_bare_function_comes_to_light_behind_it(check):
    code, result = check("forgotten_sigmoid_in_thread")
    assert code == 1
    assert failing(result) == {"backbone.blocks.2.project_conv"}
    assert not by_name(result)["backbone.blocks.2.project_conv"]["identical_inputs"]


def test_a_fault_in_a_bare_function_is_found_beside_names(check):
    code, result = check("forgotten_sigmoid")
    assert code == 1
    assert failing(result) == {f"backbone.blocks.2.se.{name}" for name in ("gate", "scale")}
    assert named(result, "backbone.blocks.2.se.gate")["slug"] == "left-out"


@pytest.fixture
def prefixed(tmp_path):
    """The complete names for a port inside a wrapper."""
    path = tmp_path / "names.json"
    names = json.loads(COMPLETE.read_text())
    path.write_text(json.dumps({node: f"model.{module}" for node, module in names.items()}))
    return path


@pytest.mark.heavy
def test_joined_outputs_need_the_wrapper_in_a_thread_alone(check, prefixed):
    code, result = check("build_joined", COMPLETE, "wrapped.py")
    assert (code, result["passes"]) == (0, True)
    code, result = check("build_joined_in_thread", COMPLETE, "wrapped.py")
    assert (code, result["outcome"]) == (3, "not shown")
    reasons = {node["reason"] for node in result["nodes"] if node["verdict"] == "not covered"}
    assert reasons == {"the candidate returns 2 tensors, not 10"}
    code, result = check("build", prefixed, "wrapped.py")
    assert (code, result["passes"]) == (0, True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"backbone.stem_bn": "bb.stem.norm"}, "names the submodule 'bb.stem.norm'"),
        ({"backbone.stem.bn": "bb.stem.2"}, "names the node 'backbone.stem.bn'"),
        ({"class_head.acts.0": ["cls.act"]}, "a list of 5 paths, one for each level"),
    ],
)
def test_wrong_names_are_refused(tiny_checkpoint, tmp_path, capsys, change, says):
    names = tmp_path / "names.json"
    names.write_text(json.dumps(json.loads(PARTIAL.read_text()) | change))
    candidate = f"{HERE / 'port.py'}:build"
    fixed = ["--size", SIZE, "--candidate", candidate, "--names", str(names)]
    assert compare.main(["nodes", str(tiny_checkpoint), *fixed]) == 2
    assert says in capsys.readouterr().err
