// Draws the charts of a page with ECharts, each when it comes near the screen.
// Options come as JSON, which payload.js unpacks; colours in them are CSS variables, so that they follow the theme.
"use strict";

document.addEventListener("pagedata", () => {
  const source = document.getElementById("chart-options");
  if (!source || typeof echarts === "undefined") return;
  const options = JSON.parse(source.textContent);
  // Charts along depth share the names of the nodes.
  for (const option of Object.values(options)) {
    if (option.nodes_on_axis) option.xAxis.data = options.nodes;
  }
  const places = [...document.querySelectorAll("[data-chart]")];
  const drawn = new Map();

  function resolved(value, styles) {
    if (typeof value === "string") {
      const found = /^var\((--[a-z-]+)\)$/.exec(value);
      if (found) return styles.getPropertyValue(found[1]).trim();
      return value === "inherit" ? getComputedStyle(document.body).fontFamily : value;
    }
    if (Array.isArray(value)) {
      return typeof value[0] === "number" ? value : value.map((item) => resolved(item, styles));
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, resolved(item, styles)]),
    );
  }

  const FORMATS = {
    number: (value) => String(value),
    percent: (value) => `${(100 * value).toFixed(1)} %`,
    seconds: (value) => `${value} s`,
    bytes: (value) => `${(value / 1e9).toFixed(2)} GB`,
  };

  function shown(value) {
    if (typeof value !== "number") return "none";
    return Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(2)
      : String(Number(value.toPrecision(4)));
  }

  function figure(value) {
    const parts = Array.isArray(value) ? value : [value];
    return parts.map(shown).join(", ");
  }

  // Tooltips are plain text: names in results are data, not markup.
  function tooltip(option) {
    return (found) => {
      const items = Array.isArray(found) ? found : [found];
      const title = items[0].axisValueLabel || items[0].name || "";
      const lines = items
        .map((item) => {
          const value = option.nodes_on_axis && Array.isArray(item.value) ? item.value[1] : item.value;
          return value === null || value === undefined || Number.isNaN(value)
            ? null
            : `${item.seriesName}: ${figure(value)}`;
        })
        .filter(Boolean);
      return [title, ...lines].filter(Boolean).join("\n");
    };
  }

  function complete(name) {
    const styles = getComputedStyle(document.documentElement);
    const option = resolved(options[name], styles);
    option.tooltip = {
      ...option.tooltip,
      renderMode: "richText",
      formatter: tooltip(option),
      backgroundColor: styles.getPropertyValue("--surface").trim(),
      borderColor: styles.getPropertyValue("--line").trim(),
      textStyle: { color: styles.getPropertyValue("--ink").trim(), fontSize: 12 },
    };
    for (const axis of [option.xAxis, option.yAxis]) {
      if (axis && axis.type === "log") {
        axis.axisLabel = { ...axis.axisLabel, formatter: shown };
      }
    }
    for (const [axis, format] of Object.entries(option.formats || {})) {
      const found = option[`${axis}Axis`];
      found.axisLabel = { ...found.axisLabel, formatter: FORMATS[format] };
      for (const series of option.series) {
        if (series.label && series.label.show) {
          series.label.formatter = (item) => FORMATS[format](item.value);
        }
      }
    }
    return option;
  }

  function clicked(name, item) {
    const data = item.data;
    let node = data && typeof data === "object" ? data.node : undefined;
    if (!node && options[name].nodes_on_axis) {
      const axis = options[name].xAxis.data;
      const value = data && typeof data === "object" && !Array.isArray(data) ? data.value : data;
      node = axis[Array.isArray(value) ? value[0] : item.dataIndex];
    }
    if (node) location.hash = `#node=${encodeURIComponent(node)}`;
  }

  function draw(place) {
    const name = place.dataset.chart;
    if (drawn.has(name) || !options[name]) return;
    const chart = echarts.init(place, null, { renderer: "svg" });
    chart.setOption(complete(name));
    chart.on("click", (item) => clicked(name, item));
    drawn.set(name, chart);
  }

  function redraw() {
    for (const [name, chart] of drawn) chart.setOption(complete(name), true);
  }

  const watching = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
    { rootMargin: "300px" },
  );
  places.forEach((place) => watching.observe(place));
  // A chart in a folded part has no size until it is unfolded.
  const sizes = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const chart = drawn.get(entry.target.dataset.chart);
      if (chart && entry.contentRect.width > 0) chart.resize();
    }
  });
  places.forEach((place) => sizes.observe(place));
  document.addEventListener("themechange", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => places.forEach(draw));
  matchMedia("print").addEventListener("change", (event) => event.matches && places.forEach(draw));
});
