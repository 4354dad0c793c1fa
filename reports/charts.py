"""All charts of a report's pages, from the results to ECharts' options."""

from reports.chart import Chart
from reports.closeup_charts import closeup_charts
from reports.coco_charts import coco_charts
from reports.node_charts import node_charts
from reports.timing_charts import timing_charts

__all__ = ["Chart", "closeup_charts", "coco_charts", "node_charts", "timing_charts"]
