"""Pages: all results are on them, none of it is markup, and all or nothing is written."""

import base64
import json
import re
import shutil
import zlib

import jinja2
import made_results as made
import pytest
from handmade import distance, finding, node
from shown_pages import Page, problems

import compare
from efficientdet_spec import InputError
from parity.judge.verdict import Verdict
from reports.pages import render as module
from reports.pages.render import packed, render

HOSTILE = ('"><img src=x onerror=alert(1)>', "</script><script>alert(1)</script>", "{{ 7 * 6 }}")


@pytest.fixture
def pages(tmp_path):
    """Renders results and reads a page of it."""

    def make(name="efficientdet-d0", data=True, **results):
        made.write_all(tmp_path / "results", **results)
        render(tmp_path / "results", tmp_path / "out", data=data)
        return Page((tmp_path / "out" / f"{name}.html").read_text("utf-8"))

    return make


def test_everything_is_on_the_page(pages, tmp_path):
    page = pages()
    assert problems(page) == []
    for part in (
        "Parity : the port is right",
        "Yes: 4 of 4 nodes agree on 1 input",
        "score below 0.3 are not drawn",
        "Worst own error",
        "How the verdict comes about",
        "Nearest to their limit",
        "COCO metrics",
        "95 % of 300 resamples",
        "TensorFlow's NMS",
        "8 detections matched one to one",
        "excluded: training step counter",
        "python compare.py report all --out site",
        "root mean square",
        "the faithful model",
        "a note",
    ):
        assert part.lower() in page.text.lower(), part
    assert "Seeded weights" not in page.text
    assert page.of("img")[0]["src"] == "efficientdet-d0/one.png"
    charts = {item["data-chart"] for item in page.of("div") if "data-chart" in item}
    assert charts and charts == set(page.data["chart-options"]) - {"nodes"}
    assert len(page.data["node-data"]["verdict"]["rows"]) == 4
    assert page.data["node-data"]["closeups"] == {"1": "closeup-0"}
    sections = [item["href"] for item in page.of("a") if item.get("href", "").startswith("#")]
    assert {"#coco", "#nodes", "#closeups", "#self-check", "#glossary"} <= set(sections)


def test_files_beside_the_pages(pages, tmp_path):
    page = pages()
    out = tmp_path / "out"
    linked = [
        item.get("src") or item.get("href")
        for tag in ("script", "link", "img", "a")
        for item in page.of(tag)
    ]
    for name in linked:
        if name and not name.startswith(("#", "data:")):
            assert (out / name).is_file(), name
    assert {path.name for path in out.iterdir()} == {
        "assets", "efficientdet-d0", "efficientdet-d0.html",
        "index.html", "index.md", "junit.xml", "report.json",
    }  # fmt: skip
    copied = {path.name for path in (out / "efficientdet-d0").iterdir()}
    assert {"nodes.json", "coco.json", "nodes.csv", "one.png", "self-check.json"} <= copied
    assert (out / "efficientdet-d0" / "one.png").read_bytes() == made.PICTURE
    assert json.loads((out / "report.json").read_text())["models"][0]["outcome"] == "parity"
    assert not list(out.rglob("*.tmp"))


def test_pages_within_the_package_use_its_own_files(tmp_path, monkeypatch):
    package = tmp_path / "package"
    shutil.copytree(module._STATIC, package / "static")
    monkeypatch.setattr(module, "_STATIC", package / "static")
    made.write_all(tmp_path / "results")
    render(tmp_path / "results", package / "published")
    assert not (package / "published" / "assets").exists()
    for name in ("efficientdet-d0", "index"):
        page = Page((package / "published" / f"{name}.html").read_text("utf-8"))
        sheets = [item["href"] for item in page.of("link") if item["rel"] == "stylesheet"]
        files = sheets + [item["src"] for item in page.of("script") if "src" in item]
        assert files and all(name.startswith("../static/") for name in files)
        assert all((package / "published" / name).is_file() for name in files)
    # A folder of the same depth elsewhere gets copies.
    render(tmp_path / "results", tmp_path / "published")
    assert (tmp_path / "published" / "assets" / "echarts.min.js").is_file()


PUBLISHED = sorted(module._STATIC.parent.glob("published*/*.html"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_pages_find_their_files(path):
    page = Page(path.read_text("utf-8"))
    for tag, key in (("script", "src"), ("link", "href"), ("a", "href")):
        for item in page.of(tag):
            address = item.get(key) or "#"
            assert address.startswith(("#", "data:")) or (path.parent / address).is_file(), address


def test_there_is_one_copy_of_echarts():
    assert [path.parent.name for path in module._STATIC.parent.rglob("echarts*.js")] == ["vendor"]


def test_names_break_behind_their_parts():
    told = {"<b>.convs_0": "&lt;b&gt;.<wbr>convs_<wbr>0", "/tmp/a.py": "/tmp/<wbr>a.<wbr>py"}
    assert {name: str(module.breakable(name)) for name in told} == told


@pytest.mark.parametrize("name", ["assets", "efficientdet-d0"])
def test_a_folder_of_the_pages_that_is_a_link_is_not_followed(pages, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(elsewhere)
    with pytest.raises(InputError, match=f"{name} is a link, so that what is written to"):
        pages()
    assert not list(elsewhere.iterdir())


def test_without_data(pages, tmp_path):
    page = pages(data=False)
    assert not (tmp_path / "out" / "efficientdet-d0").exists()
    assert page.of("img") == [] and "nodes.csv" not in page.text
    assert len(page.data["node-data"]["verdict"]["rows"]) == 4


def test_a_fault_is_named_with_its_node(pages, tmp_path):
    page = pages(nodes=made.nodes(failing=True))
    assert problems(page) == []
    assert "Difference : the port is not right" in page.text
    assert "No: 4 of 5 nodes agree, 1 differs." in page.text
    assert "What is wrong there: padded with zeros." in page.text
    assert {"href": "#node=fpn.resample_p6.pool"} in page.of("a")
    assert page.data["node-data"]["suspects"] == {"2": 0} and "suspect-0" in page.ids()
    index = Page((tmp_path / "out" / "index.html").read_text("utf-8"))
    assert "fpn.resample_p6.pool : padded with zeros" in index.text
    assert "Difference : 0 of 1 model with parity, 1 with a difference" in index.text


def test_what_the_verdict_covers_stands_beside_it(pages):
    page = pages(nodes=made.two_inputs())
    assert "What this verdict covers 4 of 4 nodes, on 1 input (96x128)." in page.text
    assert "photo.jpg 2×96×128 parity" in page.text
    told = page.data["node-data"]["reason"]["texts"]
    assert any("inputs: photo.jpg" in text for text in told)


def test_seeded_weights_are_said_in_large(tmp_path):
    run = made.run("efficientdet-d7x", trained=False, note="No trained checkpoint: 404")
    made.write(tmp_path / "results", "efficientdet-d7x", run, nodes=made.nodes())
    render(tmp_path / "results", tmp_path / "out")
    page = Page((tmp_path / "out" / "efficientdet-d7x.html").read_text("utf-8"))
    assert "Seeded weights. This model is not trained" in page.text
    assert {"class": "banner"} in page.of("p") and "No trained checkpoint: 404" in page.text
    assert "seeded weights" in Page((tmp_path / "out" / "index.html").read_text("utf-8")).text


def test_a_model_that_failed_has_a_page(tmp_path):
    steps = [made.step("convert", "failed", 2, "the file is cut short", result=None)]
    made.write(tmp_path / "results", run_values=made.run("efficientdet-d0", steps=steps))
    summary = render(tmp_path / "results", tmp_path / "out")
    assert not summary.passes
    for name in ("efficientdet-d0", "index"):
        page = Page((tmp_path / "out" / f"{name}.html").read_text("utf-8"))
        assert "Not shown" in page.text and "the file is cut short" in page.text
        assert problems(page) == []


@pytest.mark.parametrize(
    "complete, failing, code", [(True, False, 0), (True, True, 1), (False, False, 3)]
)
def test_the_command_ends_as_the_results_do(tmp_path, capsys, complete, failing, code):
    run = made.run("efficientdet-d0", complete=complete)
    run["planned"] = [{"name": "coco", "title": "Evaluate"}] if not complete else []
    made.write(tmp_path / "results", run_values=run, nodes=made.nodes(failing=failing))
    arguments = ["report", "--from", tmp_path / "results", "--out", tmp_path / "out"]
    assert compare.main([str(item) for item in arguments]) == code
    word = {0: "PARITY", 1: "DIFFERENCE", 3: "NOT SHOWN"}[code]
    assert f"efficientdet-d0: {word}: " in capsys.readouterr().out


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_that_a_result_holds_is_markup(tmp_path, hostile):
    bad = node(hostile, Verdict.NOT_COVERED, hostile)
    values = made.nodes(
        bad, findings=[finding(place=hostile, text=hostile)], candidate=hostile, failing=True
    )
    guilty = values["suspects"][0]
    texts = {"evidence": [hostile], "patterns": [hostile], "diagnosis": hostile}
    values["suspects"] = [{**guilty, **texts, "nodes": [hostile]}]
    values["closeups"] = [made.closeup(hostile)]
    values["environment"] = {hostile: hostile}
    conversion = made.conversion()
    conversion["ledger"]["notes"] = [hostile]
    conversion["ledger"]["variables"][2]["reason"] = hostile
    values["coverage"]["text"] = [hostile]
    values["inputs"][0]["source"] = hostile
    coco = made.coco(annotations=hostile, complete=False)
    coco["categories"][0]["name"] = hostile
    coco["images"]["torch"]["failures"][0]["reason"] = hostile
    coco["stage_swap"]["rows"][0]["title"] = hostile
    coco["published"]["text"] = hostile
    detect = made.detect()
    detect["images"][0]["file"] = hostile
    check = made.self_check()
    check["faults"][1]["title"] = hostile
    failed = made.step("seed", "failed", 2, hostile, title=hostile)
    steps = [made.step("convert"), made.step("nodes"), failed]
    run = made.run(
        "efficientdet-d0", source=hostile, command=hostile, note=hostile, model=hostile, steps=steps
    )
    made.write(
        tmp_path / "results", run_values=run, nodes=values, conversion=conversion, coco=coco,
        detect=detect, self_check=check,
    )  # fmt: skip
    render(tmp_path / "results", tmp_path / "out")
    for name in ("efficientdet-d0", "index"):
        page = Page((tmp_path / "out" / f"{name}.html").read_text("utf-8"))
        assert problems(page) == [], name
        assert hostile in page.text
    shown = Page((tmp_path / "out" / "efficientdet-d0.html").read_text("utf-8"))
    # Each of the texts put in above reaches the reader as it is.
    assert shown.text.count(hostile) > 15
    assert hostile in json.dumps(shown.data["node-data"]["reason"]["texts"]) or any(
        character.isdigit() for character in hostile
    )


def test_the_check_for_markup_sees_it():
    bad = Page(
        '<a href="#gone"></a><img src=x onerror=alert(1)><script>alert(1)</script>'
        '<script src="https://example.com/a.js"></script><p id=a></p><p id=a></p>'
    )
    found = problems(bad)
    for expected in ("img onerror", "script inline", "id a twice", "anchor #gone", "img x"):
        assert expected in found
    assert any("https://example.com" in item for item in found)


def test_unescaped_text_would_be_seen(pages, monkeypatch):
    make = module._environment

    def careless(addresses):
        environment = make(addresses)
        environment.autoescape = False
        return environment

    monkeypatch.setattr(module, "_environment", careless)
    page = pages(nodes=made.nodes(failing=True, candidate=HOSTILE[0]))
    assert "img onerror" in problems(page)


def test_packed_data_is_no_markup():
    values = {"</script>": ["<!--", "\u2028", 1.5, None]}
    text = packed(values)
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", text)
    assert json.loads(zlib.decompress(base64.b64decode(text))) == values
    with pytest.raises(ValueError):
        packed({"x": float("nan")})


def test_nothing_is_written_where_a_page_fails(tmp_path, monkeypatch):
    made.write_all(tmp_path / "results")
    made.write_all(tmp_path / "results", "second")
    original = module.model_page

    def fails(results, row, *, data):
        if results.slug == "second":
            raise RuntimeError("half way")
        return original(results, row, data=data)

    monkeypatch.setattr(module, "model_page", fails)
    with pytest.raises(RuntimeError):
        render(tmp_path / "results", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_index_is_written_last(tmp_path, monkeypatch):
    made.write_all(tmp_path / "results")
    written = []
    original = module._write
    monkeypatch.setattr(
        module, "_write", lambda output: (written.append(output.path.name), original(output))
    )
    render(tmp_path / "results", tmp_path / "out")
    assert written[-1] == "index.html" and written.index("efficientdet-d0.html") < len(written) - 1


def test_a_word_that_a_template_misses_is_an_error():
    environment = module._environment({})
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ nothing }}").render()


def test_a_folder_that_cannot_be_made(tmp_path):
    made.write_all(tmp_path / "results")
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="out cannot be made a folder|assets cannot be made"):
        render(tmp_path / "results", tmp_path / "out")


def test_again_into_the_same_folder_and_beside_the_results(tmp_path):
    made.write_all(tmp_path)
    render(tmp_path, tmp_path)
    first = (tmp_path / "efficientdet-d0.html").read_bytes()
    render(tmp_path, tmp_path)
    assert (tmp_path / "efficientdet-d0.html").read_bytes() == first
    assert json.loads((tmp_path / "efficientdet-d0" / "nodes.json").read_text())["passes"]


@pytest.mark.parametrize(
    "odd",
    [
        {"from_exact": distance(float("nan"), float("nan")), "own": distance(float("inf"))},
        {
            "free": None,
            "own": None,
            "from_exact": None,
            "limit": None,
            "reference_from_exact": None,
        },
        {"kind": None, "shape": None, "verdict": Verdict.NOT_COVERED, "reason": "no partner"},
        {"shape": (1, 7), "detectable": None},
    ],
)
def test_nodes_of_which_little_is_known(pages, odd):
    values = made.nodes(node("odd", **odd))
    page = pages(nodes=values)
    assert problems(page) == []
    assert len(page.data["node-data"]["verdict"]["rows"]) == 5


def test_a_comparison_without_nodes(pages):
    values = {**made.nodes(), "nodes": [], "passes": False}
    page = pages(nodes=values)
    assert problems(page) == [] and "no node was compared" in page.text


def test_a_page_of_many_nodes_is_small(tmp_path):
    many = [
        node(f"fpn.cells.{cell}.nodes.{place}.resamples.{part}.conv", reason=f"{cell}.5 of {place}")
        for cell in range(20)
        for place in range(20)
        for part in range(5)
    ]
    made.write(tmp_path / "results", nodes=made.nodes(*many))
    render(tmp_path / "results", tmp_path / "out", data=False)
    assert (tmp_path / "out" / "efficientdet-d0.html").stat().st_size < 500_000


def test_a_lone_surrogate_ends_nothing(pages):
    page = pages(nodes=made.nodes(node("odd", reason="\ud800")))
    assert problems(page) == []
