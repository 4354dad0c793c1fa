"""No package and no module of the rooms depends on itself, by whatever way round."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("efficientdet_spec", "converter", "torch_model", "reference_tf", "parity", "reports")


def modules():
    """Every module's file by its name."""
    found = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(files):
    """The modules among ``files`` that each of them imports, wherever in it."""
    graph = defaultdict(set)
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    graph[name] |= {inner if inner in files else node.module} & files.keys()
            elif isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & files.keys()
        graph[name].discard(name)
    return graph


def between_packages(graph, files):
    """The same of packages, which are what lies in one folder."""
    packages = {name: name if path.name == "__init__.py" else name.rpartition(".")[0]
                for name, path in files.items()}  # fmt: skip
    found = defaultdict(set)
    for name, others in graph.items():
        found[packages[name]] |= {packages[other] for other in others} - {packages[name]}
    return found


def between_rooms(graph):
    """The same of rooms, each with all that lies in it."""

    def room(name):
        return ".".join(name.split(".")[:2]) if name.startswith("parity.") else name.split(".")[0]

    found = defaultdict(set)
    for name, others in graph.items():
        found[room(name)] |= {room(other) for other in others} - {room(name)}
    return found


def circle(graph):
    """A circle; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_module_depends_on_itself():
    assert circle(imports(modules())) == []


def test_no_package_depends_on_itself():
    files = modules()
    assert circle(between_packages(imports(files), files)) == []


def test_no_room_depends_on_itself():
    assert circle(between_rooms(imports(modules()))) == []


@pytest.mark.parametrize(
    "line", ["import room.b.x", "from room.b import x", "from room.b.x import f"]
)
def test_a_circle_is_seen(tmp_path, line):
    texts = {"room.a.x": line, "room.b.x": "def f():\n    from room.a import y", "room.a.y": ""}
    files = {"room.a": tmp_path / "a" / "__init__.py", "room.b": tmp_path / "b" / "__init__.py"}
    files |= {name: tmp_path / f"{name}.py" for name in texts}
    for name, path in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(texts.get(name, ""), "utf-8")
    graph = imports(files)
    assert circle(graph) == []
    assert set(circle(between_packages(graph, files))) == {"room.a", "room.b"}
