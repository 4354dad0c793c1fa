"""All charts of a report's pages, from the results to ECharts' options."""

from reports.charts.chart import Chart
from reports.charts.closeups import closeup_charts
from reports.charts.coco import coco_charts
from reports.charts.nodes import node_charts
from reports.charts.timing import timing_charts

__all__ = ["Chart", "closeup_charts", "coco_charts", "node_charts", "timing_charts"]
