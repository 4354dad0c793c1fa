// Draws the charts of a page with ECharts: those near the screen at once, the others when the page
// has time, so that they are there when it is printed. Options come as JSON, which payload.js
// unpacks; colours in them are CSS variables, so that they follow the theme. What depends on the
// width, such as room for names, is settled here.
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
  const heights = new Map(places.map((place) => [place, parseFloat(place.style.height)]));
  const drawn = new Map(); // the chart of each place, and the width that it was made for

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

  // ---- figures ----------------------------------------------------------------------------

  const FORMATS = {
    percent: (value) => `${(100 * value).toFixed(1)} %`,
    signed: (value) => (value > 0 ? `+${tidy(value)}` : tidy(value).replace("-", "−")),
  };

  function shown(value) {
    if (typeof value !== "number") return "none";
    return Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(2)
      : String(Number(value.toPrecision(4)));
  }

  // On an axis or beside a bar: no digit that says nothing.
  function tidy(value) {
    const found = Number(Number(value).toPrecision(4));
    return found !== 0 && (Math.abs(found) >= 1e5 || Math.abs(found) < 1e-3)
      ? found.toExponential()
      : found.toLocaleString("en", { maximumFractionDigits: 6 });
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

  // ---- what depends on the width ----------------------------------------------------------

  const pen = document.createElement("canvas").getContext("2d");

  function breadth(text, size = 12) {
    pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
    return pen.measureText(text).width;
  }

  const LEGEND_LINE = 22;

  // Lines that a legend takes: of each entry its sign, a gap, the name, and a gap.
  function legendLines(names, width) {
    let lines = 1;
    let used = 0;
    for (const name of names) {
      const wide = 25 + 5 + breadth(name) + 10;
      if (used > 0 && used + wide > width) {
        lines += 1;
        used = 0;
      }
      used += wide;
    }
    return lines;
  }

  // The names of bars stand above them, in as many lines as they need. The height of it all.
  function namesAbove(option, width) {
    const axis = option.yAxis;
    const room = width - option.grid.left - 8;
    const lines = Math.max(1, ...axis.data.map((name) => Math.ceil((1.1 * breadth(name)) / room)));
    Object.assign(axis.axisLabel, {
      align: "left",
      verticalAlign: "bottom",
      padding: [0, 0, 11, 0],
      width: room,
      overflow: "breakAll",
      lineHeight: 14,
    });
    return 52 + axis.data.length * 2 * (10 + 14 * lines);
  }

  // Names below an axis that do not fit beside each other are turned. What that adds to the height.
  function turned(option, width) {
    const { xAxis: axis, grid } = option;
    if (!axis || axis.type !== "category" || !axis.axisLabel || axis.axisLabel.interval !== 0) return 0;
    const band = (width - grid.left - grid.right) / axis.data.length;
    const longest = Math.max(...axis.data.map((name) => breadth(name)));
    if (longest + 6 <= band) return 0;
    const more = Math.ceil(longest) - 8;
    axis.axisLabel.rotate = 90;
    if (axis.nameGap) axis.nameGap += more;
    grid.bottom += more;
    return more;
  }

  // Names of parts of the network stand above the drawing, upright where they are wider than their
  // part. What that adds to the height.
  function bandNames(option, width) {
    const areas = option.nodes_on_axis && option.series[0].markArea;
    if (!areas) return 0;
    const step = (width - option.grid.left - option.grid.right) / option.xAxis.data.length;
    let more = 8;
    for (const [from, to] of areas.data) {
      const room = (to.xAxis - from.xAxis + 1) * step;
      from.label = { ...from.label, position: "top" };
      const wide = breadth(from.name, 11);
      if (wide + 4 <= room) continue;
      Object.assign(from.label, { show: room >= 13, rotate: 90, align: "left", verticalAlign: "middle" });
      if (room >= 13) more = Math.max(more, Math.ceil(wide));
    }
    option.grid.top += more;
    return more;
  }

  const AWAY = -9999;
  const LINE = 17;
  const BELOW = 24; // from a name above its point to one below it, beside the name's own height

  // Names of points stay within the drawing; one that would lie over an earlier one is left out.
  function pointNames(option, width) {
    const taken = new Map();
    const apart = (one, other) =>
      one.x > other.x + other.width || other.x > one.x + one.width ||
      one.y > other.y + other.height || other.y > one.y + one.height;
    for (const series of option.series) {
      if (!series.labelLayout) continue;
      series.labelLayout = ({ labelRect, seriesIndex, dataIndex }) => {
        const wide = labelRect.width;
        const tall = Math.max(labelRect.height, LINE); // ECharts leaves out what letters reach below
        const x = Math.max(option.grid.left + 26, Math.min(labelRect.x, width - 2 - wide));
        const y = labelRect.y + (labelRect.y < option.grid.top ? tall + BELOW : 0);
        const place = { x, y, width: wide, height: tall };
        const order = 1e6 * seriesIndex + dataIndex;
        const free = [...taken].every(([other, rect]) => other >= order || apart(place, rect));
        if (free) taken.set(order, place);
        else taken.delete(order);
        // Nothing here can hide a name; it is moved out of sight.
        return free ? { dx: x - labelRect.x, dy: y - labelRect.y } : { x: AWAY, y: AWAY };
      };
    }
  }

  function fitted(option, place) {
    const width = place.clientWidth;
    let height = heights.get(place);
    if (option.names_above) height = namesAbove(option, width);
    if (option.legend) {
      const more = LEGEND_LINE * (legendLines(option.legend.data, width) - 1);
      option.grid.top += more;
      height += more;
    }
    height += turned(option, width);
    height += bandNames(option, width);
    pointNames(option, width);
    place.style.height = `${height}px`;
  }

  // ---- drawing ----------------------------------------------------------------------------

  function complete(place) {
    const styles = getComputedStyle(document.documentElement);
    const option = resolved(options[place.dataset.chart], styles);
    option.tooltip = {
      ...option.tooltip,
      renderMode: "richText",
      formatter: tooltip(option),
      backgroundColor: styles.getPropertyValue("--surface").trim(),
      borderColor: styles.getPropertyValue("--line").trim(),
      textStyle: { color: styles.getPropertyValue("--ink").trim(), fontSize: 12 },
    };
    for (const [name, axis] of [["x", option.xAxis], ["y", option.yAxis]]) {
      if (!axis || axis.type === "category") continue;
      const format = FORMATS[(option.formats || {})[name]] || tidy;
      axis.axisLabel = { ...axis.axisLabel, formatter: format };
    }
    for (const [axis, format] of Object.entries(option.formats || {})) {
      for (const series of option.series) {
        if (!series.label || !series.label.show) continue;
        series.label.formatter = ({ value }) => FORMATS[format](Array.isArray(value) ? value[axis === "x" ? 0 : 1] : value);
      }
    }
    fitted(option, place);
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

  // On paper a chart is scaled to the paper's width, which needs the size that it was drawn in.
  function scalable(place) {
    const svg = place.querySelector("svg");
    if (svg) svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
  }

  function draw(place) {
    // A chart in a folded part has no size until it is unfolded.
    if (drawn.has(place) || !options[place.dataset.chart] || place.clientWidth === 0) return;
    const option = complete(place);
    const chart = echarts.init(place, null, { renderer: "svg" });
    chart.setOption(option);
    chart.on("click", (item) => clicked(place.dataset.chart, item));
    drawn.set(place, { chart, width: place.clientWidth });
    scalable(place);
  }

  function redraw() {
    for (const [place, { chart }] of drawn) {
      if (place.clientWidth > 0) chart.setOption(complete(place), true);
      scalable(place);
    }
  }

  const watching = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
    { rootMargin: "300px" },
  );
  places.forEach((place) => watching.observe(place));

  const printing = matchMedia("print");
  const sizes = new ResizeObserver((entries) => {
    // On paper the drawing is scaled as it is.
    if (printing.matches) return;
    for (const { target: place } of entries) {
      const entry = drawn.get(place);
      const width = place.clientWidth;
      if (!entry || width === 0 || width === entry.width) continue;
      entry.width = width;
      const option = complete(place);
      entry.chart.resize();
      entry.chart.setOption(option);
      scalable(place);
    }
  });
  places.forEach((place) => sizes.observe(place));

  // On a busy machine no time is ever idle.
  const later = (call) =>
    window.requestIdleCallback ? requestIdleCallback(call, { timeout: 50 }) : setTimeout(call, 50);
  const rest = [...places];
  const next = () => {
    const place = rest.shift();
    if (!place) return;
    draw(place);
    later(next);
  };
  // The reader comes first: by now what is on the screen is drawn.
  setTimeout(next, 500);

  document.addEventListener("themechange", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => places.forEach(draw));
  printing.addEventListener("change", (event) => event.matches && places.forEach(draw));
});
