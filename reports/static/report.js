// The page of a model: the table of all nodes, the panel of one, the list of sections. Whatever a
// result file holds reaches the page as text only.
"use strict";

(() => {
  const FIRST = 150; // rows made at once; the others follow when they are scrolled to
  const MORE = 400;
  const byId = (id) => document.getElementById(id);

  const element = (tag, options = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "class") made.className = value;
      else if (name === "text") made.textContent = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };

  // ---- reading the data -------------------------------------------------------------------

  const frontDecoded = (values) => {
    const result = [];
    let before = "";
    for (let i = 0; i < values.length; i += 2) {
      before = before.slice(0, values[i]) + values[i + 1];
      result.push(before);
    }
    return result;
  };

  const indexed = ({ texts, rows }) => rows.map((index) => texts[index]);

  const withNumbers = ({ texts, rows }) =>
    rows.map((row) => {
      const [index, ...numbers] = row.split(" ");
      let next = 0;
      return texts[Number(index)].replaceAll("\u0001", () => numbers[next++]);
    });

  const readParameters = (data) => {
    if (!data) return null;
    const raw = new Set(data.raw);
    const variables = frontDecoded(data.variable);
    const shapes = indexed(data.shape);
    const layouts = indexed(data.layout);
    return frontDecoded(data.name).map((name, i) => ({
      name,
      owner: name.slice(0, name.lastIndexOf(".")),
      variable: raw.has(i) ? variables[i] : variables[i] + data.suffix,
      shape: shapes[i],
      layout: layouts[i],
    }));
  };

  const readNodes = (data) => {
    const names = frontDecoded(data.name);
    const tensors = frontDecoded(data.tensor);
    const kinds = indexed(data.kind);
    const shapes = indexed(data.shape);
    const verdicts = indexed(data.verdict);
    const stages = indexed(data.stage);
    const reasons = withNumbers(data.reason);
    const outputs = new Set(data.outputs);
    const disturbed = new Set(data.disturbed);
    return names.map((name, order) => ({
      order,
      name,
      tensor: tensors[order],
      kind: kinds[order],
      shape: shapes[order],
      verdict: verdicts[order],
      stage: stages[order],
      reason: reasons[order],
      at: data.at[order],
      output: outputs.has(order),
      disturbed: disturbed.has(order),
      wrong: data.wrong[order] || [],
      suspect: data.suspects[order],
      closeup: data.closeups[order],
    }));
  };

  // ---- figures as texts -------------------------------------------------------------------

  const number = (value) =>
    value === null || value === undefined ? NaN : value === "inf" ? Infinity : value === "-inf" ? -Infinity : Number(value);

  const scientific = (value) => {
    if (value === null || value === undefined) return "–";
    const found = number(value);
    if (Number.isNaN(found)) return "NaN";
    if (!Number.isFinite(found)) return found > 0 ? "∞" : "−∞";
    // As the rest of the page writes them: an exponent of two digits.
    return found === 0 ? "0" : found.toExponential(1).replace(/([+-])(\d)$/, "$10$2");
  };

  const short = (value) => {
    if (value === null || value === undefined) return "–";
    const found = number(value);
    return found !== 0 && Number.isFinite(found) && Math.abs(found) < 1000 ? found.toFixed(1) : scientific(value);
  };

  const percent = (value) =>
    value === null || value === undefined ? "–" : `${(100 * number(value)).toFixed(1)} %`;

  const withUnit = (value, unit) => {
    if (value === null || value === undefined) return "–";
    if (unit === "roundings") return `${Number.isInteger(value) ? value : short(value)} roundings`;
    if (unit === "of rms") return `${scientific(value)} of rms`;
    if (unit === "share") return percent(value);
    if (unit === "channels") return String(value);
    if (unit === "factor") return `×${number(value).toPrecision(3)}`;
    const found = number(value);
    return Math.abs(found) >= 1e-3 && Math.abs(found) < 1e4 ? String(found) : scientific(value);
  };

  // ---- table ------------------------------------------------------------------------------

  const sign = (signs, verdict) =>
    element(
      "span",
      { class: `sign v-${signs[verdict].css}` },
      element("span", { "aria-hidden": "true", text: signs[verdict].symbol }),
      ` ${verdict}`,
    );

  const address = (node) => `#node=${encodeURIComponent(node.name)}`;

  const makeTable = (nodes, data, parameters, signs) => {
    const table = byId("node-table");
    const figures = data.figures;
    const severity = Object.keys(signs);
    const owners = new Map();
    for (const item of parameters || []) {
      if (!owners.has(item.owner)) owners.set(item.owner, []);
      owners.get(item.owner).push(item);
    }
    const ownedBy = (node) => {
      const base = node.name.split("@")[0];
      const own = owners.get(base) || [];
      // The weights of a fusion belong to the module around it.
      const around = base.endsWith(".fuse") ? owners.get(base.slice(0, -".fuse".length)) || [] : [];
      return [...own, ...around];
    };
    const searched = nodes.map((node) =>
      [node.name, node.tensor, node.reason, ...ownedBy(node).flatMap((item) => [item.name, item.variable])]
        .join("\n")
        .toLowerCase(),
    );
    const state = { sort: "order", down: false, shown: nodes, made: 0, folded: new Set() };

    const limited = (node, value, limit) => {
      const most = figures[limit][node.order];
      const found = figures[value][node.order];
      return found === null ? "–" : most === null ? short(found) : `${short(found)} / ${number(most)}`;
    };

    const row = (node) => {
      const made = element("tr", { class: `row v-${signs[node.verdict].css}` });
      const cell = (text, kind = "") => made.append(element("td", kind ? { class: kind, text } : { text }));
      cell(String(node.order + 1), "order");
      made.append(
        element("th", { scope: "row", class: "sticky" }, element("a", { class: "name", href: address(node), text: node.name })),
      );
      made.append(element("td", {}, sign(signs, node.verdict)));
      cell(limited(node, "torch", "torch_limit"), "num");
      cell(limited(node, "tf", "tf_limit"), "num");
      cell(scientific(figures.own[node.order]), "num");
      cell(scientific(figures.free[node.order]), "num");
      cell(percent(figures.inherited[node.order]), "num");
      cell(node.kind);
      cell(node.shape, "shape");
      return made;
    };

    const key = (node) => {
      if (state.sort === "order") return node.order;
      if (state.sort === "verdict") return severity.indexOf(node.verdict);
      if (state.sort in figures) {
        const value = figures[state.sort][node.order];
        // NaN is worse than anything, nothing less than anything.
        return value === null ? -Infinity : value === "nan" ? Infinity : number(value);
      }
      return node[state.sort];
    };

    const compare = (one, other) => {
      const [a, b] = [key(one), key(other)];
      const order =
        typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a < b ? -1 : a > b ? 1 : 0;
      return (state.down ? -order : order) || one.order - other.order;
    };

    const clear = () => {
      for (const body of [...table.tBodies]) body.remove();
      state.made = 0;
    };

    const note = () => {
      const left = state.shown.length - state.made;
      byId("more").hidden = grouped() || left <= 0;
      byId("more").textContent = `${left} more nodes below`;
    };

    const grouped = () => byId("group").checked;

    const append = (count) => {
      const next = state.shown.slice(state.made, state.made + count);
      const body = table.tBodies[0] || table.appendChild(element("tbody"));
      body.append(...next.map(row));
      state.made += next.length;
      note();
    };

    const appendGroups = () => {
      // Stages stay in the order of computation, however their nodes are sorted.
      const groups = new Map(nodes.map((node) => [node.stage, []]));
      for (const node of state.shown) groups.get(node.stage).push(node);
      for (const [stage, members] of groups) {
        if (!members.length) continue;
        const failing = members.filter((node) => severity.indexOf(node.verdict) > 1).length;
        const open = !state.folded.has(stage) && (failing > 0 || state.folded.has(`+${stage}`));
        const title = `${stage}: ${members.length - failing} of ${members.length} node${members.length === 1 ? "" : "s"} agree`;
        const button = element("button", { type: "button", class: "fold", "aria-expanded": String(open), text: title });
        const body = element("tbody", { class: "group" }, element("tr", {}, element("th", { colspan: "10", scope: "rowgroup" }, button)));
        const fill = () => body.append(...members.map(row));
        if (open) fill();
        button.addEventListener("click", () => {
          const now = button.getAttribute("aria-expanded") !== "true";
          button.setAttribute("aria-expanded", String(now));
          state.folded.delete(now ? stage : `+${stage}`);
          state.folded.add(now ? `+${stage}` : stage);
          if (now) fill();
          else while (body.rows.length > 1) body.rows[1].remove();
        });
        table.append(body);
      }
      state.made = state.shown.length;
      note();
    };

    const update = () => {
      const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
      const [verdict, kind, stage] = ["verdict", "kind", "stage"].map((name) => byId(`filter-${name}`).value);
      state.shown = nodes
        .filter(
          (node) =>
            (!verdict || node.verdict === verdict) &&
            (!kind || node.kind === kind) &&
            (!stage || node.stage === stage) &&
            words.every((word) => searched[node.order].includes(word)),
        )
        .sort(compare);
      byId("shown").textContent = `${state.shown.length} of ${nodes.length} nodes`;
      clear();
      if (grouped()) appendGroups();
      else append(FIRST);
    };

    const sortBy = (name, button) => {
      const numeric = name in figures || name === "verdict";
      // Of figures and verdicts the worst is wanted first.
      state.down = state.sort === name ? !state.down : numeric;
      state.sort = name;
      for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
      button.closest("th").setAttribute("aria-sort", state.down ? "descending" : "ascending");
      update();
    };

    for (const button of table.tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => sortBy(button.dataset.sort, button));
    }
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("filters").addEventListener("input", update);
    new IntersectionObserver(
      (entries) => {
        if (!grouped() && state.made < state.shown.length && entries.some((entry) => entry.isIntersecting)) append(MORE);
      },
      { root: table.parentElement, rootMargin: "600px" },
    ).observe(byId("more"));
    // On paper nobody scrolls.
    addEventListener("beforeprint", () => {
      if (!grouped()) append(state.shown.length);
    });
    update();

    const values = () =>
      state.shown.map((node) => {
        const found = { node: node.name, tensor: node.tensor, kind: node.kind, shape: node.shape, stage: node.stage, verdict: node.verdict };
        for (const field of data.fields) found[field.key] = figures[field.key][node.order];
        found.reason = node.reason;
        return found;
      });
    byId("json").addEventListener("click", () => save(`${JSON.stringify(values(), null, 1)}\n`, "application/json", "json"));
    byId("csv").addEventListener("click", () => save(csv(values()), "text/csv", "csv"));

    return { ownedBy, showVerdict: (css) => {
      const option = [...byId("filter-verdict").options].find((item) => item.dataset.css === css);
      if (!option) return;
      byId("filter-verdict").value = option.value;
      update();
      byId("nodes").scrollIntoView();
    } };
  };

  const csv = (rows) => {
    const cell = (value) => {
      let text = value === null || value === undefined ? "" : String(value);
      // A spreadsheet computes what begins with one of these.
      if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    if (!rows.length) return "\n";
    const names = Object.keys(rows[0]);
    return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => row.map(cell).join(",")).join("\n") + "\n";
  };

  const save = (text, type, ending) => {
    const link = element("a", { download: `nodes.${ending}` });
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  // ---- panel of one node ------------------------------------------------------------------

  const makePanel = (nodes, data, table, hasParameters, signs) => {
    const panel = byId("panel");
    const places = new Map(nodes.map((node) => [node.name, node.order]));
    let current = null;
    let origin = null;

    const definition = (list, label, value, explanation) => {
      list.append(
        element("dt", { text: label }),
        element("dd", {}, value, ...(explanation ? [element("span", { class: "why", text: explanation })] : [])),
      );
    };

    const parameterTable = (found) => {
      const head = ["Parameter", "Variable of the checkpoint", "Shape there", "Layout"];
      const body = element("tbody");
      for (const item of found) {
        body.append(
          element(
            "tr",
            {},
            element("td", { class: "name", text: item.name }),
            element("td", { class: "name", text: item.variable }),
            element("td", { class: "shape", text: item.shape }),
            element("td", { text: item.layout }),
          ),
        );
      }
      const heads = head.map((text) => element("th", { scope: "col", text }));
      return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Parameters" },
        element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body));
    };

    const leadingOut = (href, text) => {
      const link = element("a", { href, text });
      link.addEventListener("click", () => panel.close());
      return link;
    };

    const content = (node) => {
      const parts = [
        element("h2", { id: "panel-name", class: "name", tabindex: "-1", text: node.name }),
        element("p", {}, sign(signs, node.verdict), ` ${signs[node.verdict].meaning}`),
        element("p", { class: "reason", text: node.reason }),
      ];
      const places = element("ul", { class: "links" });
      if (node.suspect !== undefined) places.append(element("li", {}, leadingOut(`#suspect-${node.suspect}`, "What is wrong here")));
      if (node.closeup !== undefined) places.append(element("li", {}, leadingOut(`#${node.closeup}`, "Maps, channels and values")));
      if (places.children.length) parts.push(places);

      const what = element("dl", { class: "terms" });
      definition(what, "TensorFlow tensor", element("span", { class: "name", text: node.tensor || "none" }));
      definition(what, "kind", node.kind);
      definition(what, "shape", node.shape, "batch, height, width, channels");
      definition(what, "stage", node.stage + (node.output ? "; an output of the network" : ""));
      if (node.wrong.length) definition(what, "wrong inputs", node.wrong.join(", "), "nodes that the candidate reads here and the model does not");
      if (node.disturbed) definition(what, "inputs", "not identical", "the candidate lacks a node before this one, whose roundings count here");
      parts.push(what);

      const figures = element("tbody");
      const figure = (label, value, explanation) =>
        figures.append(
          element(
            "tr",
            {},
            element("th", { scope: "row", text: label }),
            element("td", { class: "value", text: value }),
            element("td", { class: "why", text: explanation }),
          ),
        );
      for (const field of data.fields) {
        const value = data.figures[field.key][node.order];
        if (value === null) continue;
        figure(field.label, withUnit(value, field.unit), field.explanation);
        if (field.key === "free" && node.at) figure("where", `[${node.at}]`, "its position: image, row, column, channel");
      }
      parts.push(element("h3", { text: "Figures" }), element("table", { class: "figures" }, figures));

      parts.push(element("h3", { text: "Parameters" }));
      const found = table.ownedBy(node);
      if (found.length) parts.push(parameterTable(found));
      else parts.push(element("p", { class: "muted", text: hasParameters ? "It has none." : "No account of a conversion." }));
      return parts;
    };

    const show = (node) => {
      current = node;
      byId("panel-body").replaceChildren(...content(node));
      byId("panel-before").disabled = node.order === 0;
      byId("panel-after").disabled = node.order === nodes.length - 1;
      if (!panel.open) {
        origin = document.activeElement;
        panel.showModal();
      }
      panel.scrollTop = 0;
      byId("panel-name").focus();
    };

    const follow = () => {
      if (location.hash.startsWith("#verdict=")) {
        table.showVerdict(location.hash.slice("#verdict=".length));
        return;
      }
      let name = null;
      try {
        name = location.hash.startsWith("#node=") ? decodeURIComponent(location.hash.slice("#node=".length)) : null;
      } catch {
        // An address that was cut short names no node.
      }
      if (name !== null && places.has(name)) show(nodes[places.get(name)]);
      else if (panel.open) panel.close();
    };

    const go = (step) => {
      location.hash = address(nodes[current.order + step]);
    };
    byId("panel-before").addEventListener("click", () => go(-1));
    byId("panel-after").addEventListener("click", () => go(1));
    byId("panel-close").addEventListener("click", () => panel.close());
    panel.addEventListener("click", (event) => {
      if (event.target === panel) panel.close();
    });
    panel.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "j" && current.order < nodes.length - 1) go(1);
      if (event.key === "k" && current.order > 0) go(-1);
    });
    panel.addEventListener("close", () => {
      if (location.hash.startsWith("#node=")) history.replaceState(null, "", location.pathname + location.search);
      if (origin && origin.isConnected) origin.focus({ preventScroll: true });
    });
    addEventListener("hashchange", follow);
    follow();
  };

  // ---- sections ---------------------------------------------------------------------------

  const makeSections = () => {
    const toggle = byId("sections-toggle");
    const list = byId("sections-list");
    const fold = (open) => {
      toggle.setAttribute("aria-expanded", String(open));
      list.classList.toggle("open", open);
    };
    toggle.addEventListener("click", () => fold(toggle.getAttribute("aria-expanded") !== "true"));
    list.addEventListener("click", () => fold(false));
    list.parentElement.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && list.classList.contains("open")) {
        fold(false);
        toggle.focus();
      }
    });
    const links = new Map([...list.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
    const observer = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          const link = links.get(entry.target.id);
          if (!link || !entry.isIntersecting) continue;
          for (const other of links.values()) other.removeAttribute("aria-current");
          link.setAttribute("aria-current", "true");
        }
      },
      { rootMargin: "-15% 0px -75% 0px" },
    );
    for (const id of links.keys()) if (byId(id)) observer.observe(byId(id));
  };

  // A link to something folded unfolds it.
  const unfold = () => {
    const target = byId(location.hash.slice(1));
    const fold = target && target.closest("details");
    if (fold) {
      fold.open = true;
      target.scrollIntoView();
    }
  };

  makeSections();
  addEventListener("hashchange", unfold);
  unfold();
  document.addEventListener("pagedata", () => {
    if (!byId("node-data")) return;
    const data = JSON.parse(byId("node-data").textContent);
    const signs = JSON.parse(byId("signs").textContent);
    const nodes = readNodes(data);
    const parameters = readParameters(data.parameters);
    const table = makeTable(nodes, data, parameters, signs);
    makePanel(nodes, data, table, parameters !== null, signs);
  });
})();
