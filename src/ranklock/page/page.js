"use strict";
// Everything that comes from data is written with textContent, never as HTML.
(() => {
  const PAPER_WIDTH = 672; // CSS px between 15 mm margins, on A4 and on Letter
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const dataOf = (id) => JSON.parse(document.getElementById(`${id}-data`).textContent);

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // Theme ---------------------------------------------------------------------------------------

  const darkSystem = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;

  function scheme() {
    if (printing) return "light";
    return root.dataset.theme || (darkSystem.matches ? "dark" : "light");
  }

  function colours(wanted) {
    const probe = document.body.appendChild(document.createElement("span"));
    probe.style.colorScheme = wanted;
    const found = {};
    for (const name of ["sheet", "text", "muted", "line", "grid", "edge", "accent"]) {
      probe.style.color = `var(--${name})`;
      found[name] = getComputedStyle(probe).color;
    }
    probe.remove();
    return found;
  }

  function startTheme() {
    const button = document.getElementById("theme");
    const show = () => {
      button.setAttribute("aria-pressed", String(scheme() === "dark"));
      restyle();
    };
    // Browsers may forbid storage to files; the choice then lasts as long as the page.
    try {
      const kept = localStorage.getItem("ranklock-theme");
      if (kept === "dark" || kept === "light") root.dataset.theme = kept;
    } catch {}
    button.addEventListener("click", () => {
      root.dataset.theme = scheme() === "dark" ? "light" : "dark";
      try { localStorage.setItem("ranklock-theme", root.dataset.theme); } catch {}
      show();
    });
    darkSystem.addEventListener("change", show);
    button.hidden = false;
    show();
  }

  // Figures -------------------------------------------------------------------------------------

  const plots = all(".plot");
  const drawn = new Set();
  const byFinger = matchMedia("(pointer: coarse)").matches;

  function template(wanted) {
    const colour = colours(wanted);
    const clear = "rgba(0,0,0,0)";
    const size = !printing && innerWidth < 640 ? 11 : 13;
    const axis = {
      automargin: true, gridcolor: colour.grid, zerolinecolor: colour.edge,
      linecolor: colour.edge, tickcolor: colour.edge,
      title: { standoff: 12, font: { size: size + 1 } }, exponentformat: "power",
    };
    const bars = { color: colour.text };
    const colorbar = {
      outlinewidth: 0, thickness: 14, tickcolor: colour.edge, exponentformat: "power",
      title: { side: "right", font: { size: size + 1 } },
    };
    return {
      layout: {
        font: { family: getComputedStyle(document.body).fontFamily, size, color: colour.text },
        paper_bgcolor: clear, plot_bgcolor: clear,
        margin: { l: 56, r: 16, t: 24, b: 48 },
        xaxis: axis, yaxis: axis,
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: clear,
          itemsizing: "constant" },
        hoverlabel: {
          namelength: -1, align: "left", bgcolor: colour.sheet, bordercolor: colour.edge,
          font: { color: colour.text },
        },
        modebar: { bgcolor: clear, color: colour.muted, activecolor: colour.accent },
        coloraxis: { colorbar },
        annotationdefaults: { arrowcolor: colour.edge },
        shapedefaults: { line: { color: colour.edge } },
        // A finger on a figure scrolls the page.
        dragmode: byFinger ? false : "zoom",
      },
      data: {
        bar: [{ error_x: bars, error_y: bars, marker: { line: { width: 0 } } }],
        heatmap: [{ colorbar }],
        scatter: [{ marker: { colorbar } }],
      },
    };
  }

  function look() {
    const size = printing ? { autosize: false, width: PAPER_WIDTH } : { autosize: true, width: null };
    return { template: template(scheme()), ...size };
  }

  // Plotly's own button would draw a dark theme's light text on a white ground.
  const png = {
    name: "png",
    title: "Download as PNG",
    click(plot) {
      const layout = {
        ...plot.layout, template: template("light"), paper_bgcolor: "white", autosize: false,
        width: plot.clientWidth, height: plot.clientHeight,
      };
      const { width, height } = layout;
      Plotly.downloadImage(
        { data: plot.data, layout },
        { format: "png", scale: 2, filename: plot.id, width, height },
      );
    },
  };

  function fail(plot) {
    drawn.delete(plot);
    if (window.Plotly) Plotly.purge(plot);
    plot.classList.add("failed");
    plot.textContent = "This figure could not be drawn in this browser.";
  }

  function drawPlot(plot) {
    if (drawn.has(plot) || plot.classList.contains("failed")) return;
    drawn.add(plot);
    try {
      const { data, layout } = dataOf(plot.id);
      const config = {
        responsive: true, displaylogo: false,
        displayModeBar: byFinger ? false : "hover", // fingers cannot hover: it would always cover
        modeBarButtons: [
          [{ ...png, icon: Plotly.Icons.camera }], ["zoom2d", "pan2d", "resetScale2d"],
        ],
      };
      const { height, ...rest } = layout || {};
      Plotly.newPlot(plot, data, { ...rest, ...look() }, config).then(
        () => plot.querySelector(".no-webgl") && fail(plot),
        () => fail(plot),
      );
    } catch {
      fail(plot);
    }
  }

  function restyle() {
    const style = drawn.size ? look() : {};
    for (const plot of drawn) Plotly.relayout(plot, style).catch(() => fail(plot));
  }

  function startFigures() {
    const seen = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          if (!entry.isIntersecting) continue;
          seen.unobserve(entry.target);
          drawPlot(entry.target);
        }
      },
      { rootMargin: "800px 0px" },
    );
    for (const plot of plots) seen.observe(plot);
  }

  // Paper ---------------------------------------------------------------------------------------

  function turn(toPaper) {
    if (printing === toPaper) return;
    printing = toPaper;
    restyle();
    if (toPaper) plots.forEach(drawPlot);
  }

  function startPaper() {
    addEventListener("beforeprint", () => turn(true));
    addEventListener("afterprint", () => turn(false));
    matchMedia("print").addEventListener("change", (event) => turn(event.matches));
  }

  // Tables --------------------------------------------------------------------------------------

  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const count = (number) => number.toLocaleString("en");

  function shown(cell, digits) {
    if (cell === null) return "–";
    if (typeof cell !== "number" || digits === null || cell === 0) return String(cell);
    const power = Math.floor(Math.log10(Math.abs(cell)));
    if (power < -4 || power > 8) return cell.toExponential(digits - 1);
    return cell.toFixed(Math.min(Math.max(digits - 1 - power, 0), 20));
  }

  function quoted(cell) {
    if (cell === null) return "";
    let text = String(cell);
    // A spreadsheet would run a text that begins like a formula.
    if (typeof cell === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function startTable(box) {
    const { columns, rows } = dataOf(box.id);
    const body = box.querySelector("tbody");
    const heads = all("th", box);
    const [filter, size] = [box.querySelector("input"), box.querySelector("select")];
    const button = (what) => box.querySelector(`[data-do="${what}"]`);
    const numeric = columns.map((_, at) => rows.every((row) => typeof row[at] !== "string"));
    const words = rows.map((row) =>
      row.filter((cell) => typeof cell === "string").join("\n").toLowerCase());
    let order = rows.map((_, row) => row);
    let kept = order;
    let first = 0;
    heads.forEach((head, at) => head.classList.toggle("number", numeric[at]));

    function cellOf(value, at) {
      const cell = document.createElement("td");
      cell.textContent = shown(value, columns[at].digits);
      if (numeric[at]) cell.className = "number";
      return cell;
    }

    function fill() {
      const page = Number(size.value) || Math.max(kept.length, 1);
      const part = kept.slice(first, first + page);
      body.replaceChildren(...part.map((row) => {
        const line = document.createElement("tr");
        line.append(...rows[row].map(cellOf));
        return line;
      }));
      const range = part.length ? `, showing ${count(first + 1)} to ${count(first + part.length)}` : "";
      box.querySelector("[role=status]").textContent =
        `${count(kept.length)} of ${count(rows.length)} rows${range}`;
      box.querySelector(".on-paper").textContent =
        `Printed: ${count(part.length)} of the table's ${count(rows.length)} rows. ` +
        "The HTML file holds them all.";
      box.querySelector(".scroll").classList.toggle("long", size.value !== "25");
      button("back").disabled = first === 0;
      button("on").disabled = first + page >= kept.length;
    }

    function select() {
      const wanted = filter.value.trim().toLowerCase();
      kept = wanted ? order.filter((row) => words[row].includes(wanted)) : order;
      first = 0;
      fill();
    }

    function sort(at) {
      const rising = heads[at].getAttribute("aria-sort") !== "ascending";
      const sign = rising ? 1 : -1;
      const compare = numeric[at]
        ? (a, b) => a - b
        : (a, b) => collator.compare(String(a), String(b));
      order = rows.map((_, row) => row).sort((one, other) => {
        const [a, b] = [rows[one][at], rows[other][at]];
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * compare(a, b);
      });
      heads.forEach((head) => head.setAttribute("aria-sort", "none"));
      heads[at].setAttribute("aria-sort", rising ? "ascending" : "descending");
      select();
    }

    function step(pages) {
      first += pages * Number(size.value);
      fill();
      box.querySelector(".scroll").scrollTop = 0;
    }

    heads.forEach((head, at) =>
      head.querySelector("button").addEventListener("click", () => sort(at)));
    filter.addEventListener("input", select);
    size.addEventListener("change", select);
    button("back").addEventListener("click", () => step(-1));
    button("on").addEventListener("click", () => step(1));
    button("csv").addEventListener("click", () => {
      const lines = [columns.map((column) => column.name), ...kept.map((row) => rows[row])];
      const text = lines.map((line) => `${line.map(quoted).join(",")}\r\n`).join("");
      save(new Blob([text], { type: "text/csv;charset=utf-8" }), `${box.id}.csv`);
    });
    fill();
    box.hidden = false;
  }

  // Contents ------------------------------------------------------------------------------------

  function startContents() {
    const links = new Map(all(".toc a").map((link) => [link.hash.slice(1), link]));
    const watch = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          if (!entry.isIntersecting) continue;
          for (const link of links.values()) link.removeAttribute("aria-current");
          links.get(entry.target.id).setAttribute("aria-current", "true");
        }
      },
      { rootMargin: "-20% 0px -75% 0px" },
    );
    for (const section of all("main > section")) watch.observe(section);
  }

  startTheme();
  all(".bigtable").forEach(startTable);
  startContents();
  startPaper();
  // Plotly is the last script of the page.
  document.addEventListener("DOMContentLoaded", startFigures);
})();
