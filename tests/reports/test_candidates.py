"""Pages of a candidate's detections call it by its name, and nobody else."""

import json

import made_results as made

from reports.charts import coco_charts, timing_charts
from reports.pages.detections import coco_section
from reports.pages.key_figures import facts
from reports.pages.render import render
from reports.reading.results import read_results
from reports.tables.summary import summarise

NAME = "port.py:build"


def written(folder, delta=-0.01):
    """Results with nodes, an evaluation and pictures of a candidate."""
    coco = made.of_candidate(made.coco(delta=delta))
    steps = [made.step(name) for name in ("nodes", "coco")]
    steps[1]["result"] = "coco/coco.json"
    run = made.run("efficientdet-d0", steps=steps)
    made.write(folder, run_values=run, nodes=made.nodes(), coco=coco)
    return made.as_record(coco)


def test_tables_charts_and_figures(tmp_path):
    coco = written(tmp_path)
    section = coco_section(coco)
    assert section.metrics.head[1:3] == ["TensorFlow", NAME]
    assert f"{NAME} minus TensorFlow" in section.metrics.caption
    assert coco.candidate in section.sides and coco.notes[0] in section.notes
    assert any(f"0 only {NAME}'s" in line for line in section.matching)
    charts = [*coco_charts(coco), *timing_charts(made.as_record(made.run("d0", steps=[])), coco)]
    told = json.dumps([[item.explanation, item.option, item.table] for item in charts])
    assert NAME in told and "PyTorch" not in told and "var(--candidate)" not in told
    (results,) = read_results(tmp_path)
    row = summarise(results)
    assert row.figures.AP.candidate == 0.24 and row.figures.AP.torch is None
    found = {fact.label: fact.value for fact in facts(results, row)}
    assert found[f"AP {NAME}"] == "0.240000" and "AP PyTorch" not in found


def test_a_page_blames_the_candidates_network_and_not_the_stages(tmp_path):
    written(tmp_path / "results")
    render(tmp_path / "results", tmp_path / "pages")
    page = (tmp_path / "pages" / "efficientdet-d0.html").read_text()
    assert NAME in page and "between official pre- and postprocessing" in page
    assert "the stages around it are the official ones" in page
    assert "make the one that changes the figures like TensorFlow" not in page
