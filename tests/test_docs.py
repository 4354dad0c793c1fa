"""The documents hold: snippets run, command lines are understood, links lead somewhere."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from documents import PAGES, ROOT, anchors, blocks, command_lines, dead_links
from made_images import waves

import torch_model
from efficientdet_parity.command_line import COMMANDS, COMPARISONS, CONVERT
from efficientdet_spec import InputError, get_config
from parity.commands.asking.command_line import command_parser, parse
from torch_model.saving import save_backbone

RUN = ("README.md", "docs/convert.md", "docs/library.md")
"""Documents whose Python is run, all blocks of one in order, as a reader types them."""

NOT_RUN = {
    "docs/third-party.md": "parts of tests/third_party/port.py and wrapped.py, which are run there",
}
"""Documents whose Python is not run, and why."""

PORT = "import efficientdet_parity as ep\n\n\ndef build():\n    return ep.load('d0.pth')\n"
"""The reader's own module, which the documents import."""

NEEDED = ("tensorflow", "cv2", "simplejpeg", "pycocotools", "jinja2")

needs_all = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason="not all optional packages are installed",
)


@pytest.fixture(scope="module")
def threads():
    """Comparisons set the number of threads of the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def stage(tiny_checkpoint, tiny_pth, tmp_path, monkeypatch, threads):
    """A folder with all files that the documents name; the tiny model is in the place of D0.

    It is the working directory, and modules are imported from it.
    """
    import cv2

    for name in ("efficientdet-d0", "out/demo/efficientdet-d0"):
        shutil.copytree(tiny_checkpoint, tmp_path / name)
    for name in ("d0.pth", "efficientdet-d0.pth"):
        shutil.copy(tiny_pth, tmp_path / name)
    (tmp_path / "val2017").mkdir()
    for number, place in enumerate(("photo.jpg", "val2017/1.jpg", "val2017/2.jpg")):
        assert cv2.imwrite(str(tmp_path / place), waves(120, 140, seed=number))
    (tmp_path / "instances_val2017.json").write_text(json.dumps(annotations()))
    (tmp_path / "my_port.py").write_text(PORT)
    write_backbone(tmp_path / "b0.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_port", None)


def write_backbone(path):
    """A file with the untrained backbone of D0, as of ``convert --backbone``."""
    state = torch_model.build(get_config("d0")).backbone.state_dict()
    arrays = {
        f"backbone.{name}": value.numpy()
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    save_backbone(path, get_config("d0"), arrays, {})


def annotations():
    """Of the two images in ``val2017``."""
    box = {"category_id": 1, "bbox": [5.0, 4.0, 75.0, 60.0], "area": 4500.0, "iscrowd": 0}
    return {
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": 120, "width": 140} for n in (1, 2)],
        "annotations": [box | {"id": n, "image_id": n} for n in (1, 2)],
        "categories": [{"id": 1, "name": "thing"}],
    }


def run(page):
    """Run the Python of a document; what its names stand for at the end. Files are written."""
    namespace = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        if block.file:
            with open(block.file, "w") as file:
                file.write(block.text)
            continue
        # Padded, so that a traceback has the document's own line.
        exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), namespace)
    return namespace


def pytest_of(folder):
    """Run the tests of a folder with this project's plugin."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "efficientdet_parity.pytest_plugin"]
    paths = os.pathsep.join([str(ROOT), str(folder)])
    environment = os.environ | {"PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_every_document_with_python_is_run_or_says_why_not():
    shown = {page for page in PAGES if blocks(page, "python")}
    assert shown == set(RUN) | set(NOT_RUN)


@needs_all
def test_the_readmes_snippets(stage, capsys):
    found = run("README.md")
    assert found["result"].passes
    assert "PARITY" in capsys.readouterr().out
    # The port of the second recipe has the mistake that the text below it shows.
    broken = found["ep"].compare("port.py:build", "efficientdet-d0", images=["photo.jpg"])
    said = "batch norm with epsilon 1e-05 instead of 0.001"
    assert said in broken.text() and said in (ROOT / "README.md").read_text("utf-8")


@needs_all
def test_the_librarys_snippets(stage, capsys):
    found = run("docs/library.md")
    out = capsys.readouterr().out
    assert found["first"].passes and found["result"].passes
    # A passed comparison, an evaluation, and the cause of the mistake.
    assert out.count("True") == 3
    assert set(found["evaluation"].ap) == {"tensorflow", "torch"}
    assert (stage / "report" / "index.html").is_file() and (stage / "nodes.json").is_file()


@needs_all
def test_the_snippets_of_converting(stage):
    found = run("docs/convert.md")
    assert len(found["class_outputs"]) == len(found["box_outputs"]) == 5


# The plugin has tests of its own; this holds the document's lines against it.
@pytest.mark.heavy
@needs_all
def test_the_snippets_of_testing(stage):
    page = "docs/library.md"
    for block in (*blocks(page, "python"), *blocks(page, "ini")):
        if block.file:
            (stage / block.file).write_text(block.text)
    done = pytest_of(stage)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def rooms():
    """The folders that the project's description lists as packages."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = re.findall(r'"([\w.]+)",', text.partition("packages = [")[2].partition("]")[0])
    return {name.rpartition(".")[2] for name in listed}


def unnamed(folders, text):
    """The folders that a text does not name."""
    return {name for name in folders if not re.search(rf"\b{name}/", text)}


def test_the_house_has_every_room():
    (house,) = [block for block in blocks("README.md") if block.text.startswith("efficientdet_par")]
    assert unnamed(rooms(), house.text) == set()
    assert unnamed({"judge", "attic"}, house.text) == {"attic"}
    named = set(re.findall(r"(\w+)/", house.text)) - {"tests", "benchmarks", "docs", "contract"}
    assert named <= rooms()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("documents.ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# What is `here`?\n\n## Twice\n\n## Twice\n")
    assert anchors(tmp_path / "there.md") == {"what-is-here", "twice", "twice-1"}
    (tmp_path / "page.md").write_text(
        "[a](there.md) [b](there.md#what-is-here) [c](there.md#gone) [d](gone.md) [e](#gone) "
        "[f](https://example.org/x) `[g](code.md)`\n```\n[h](block.md)\n```\n# Here\n[i](#here)\n"
    )
    assert dead_links("page.md") == ["there.md#gone", "gone.md", "#gone"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working directory with the files, without content, that command lines of documents name."""
    for name in ("port.py", "names.json", "photo.jpg", "instances_val2017.json"):
        (tmp_path / name).touch()
    (tmp_path / "val2017").mkdir()
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_command_lines_are_understood(page, files):
    commands = {
        "efficientdet-parity": COMMANDS,
        "python compare.py": COMPARISONS,
        "python convert.py": (CONVERT,),
    }
    for program, line in command_lines(page):
        words = shlex.split(line.partition(" > ")[0])
        if "COMMAND" in words or words[0].startswith("--"):
            continue
        known = commands[program]
        parse(command_parser(program, "", known), known, words).settings()


def test_an_option_that_is_none_is_found(tmp_path, monkeypatch, files):
    monkeypatch.setattr("documents.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(
        "```\n$ efficientdet-parity nodes A \\\n    --nonsense\n```\n"
    )
    with pytest.raises(InputError, match="--nonsense"):
        test_command_lines_are_understood("page.md", files)


def test_the_page_on_hyperparameters_has_each():
    from converter.hparams.keys import HONOURED

    page = (ROOT / "docs" / "hyperparameters.md").read_text()
    for key, item in HONOURED.items():
        assert f"| `{key}` | {item.meaning} | {item.place} |\n" in page
