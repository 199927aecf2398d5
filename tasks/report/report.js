"use strict";
// Figures are drawn from the JSON in the page; colours are looked up in the style sheet, so they follow light and dark.
const figures = JSON.parse(document.getElementById("figures").textContent);
const style = getComputedStyle(document.documentElement);
const touch = matchMedia("(pointer: coarse)").matches;
const charts = new Map();  // element id -> figure

function coloured(value) {
  if (typeof value === "string") {
    const found = /^var\((--[a-z0-9-]+)\)$/.exec(value);
    return found ? style.getPropertyValue(found[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.map(coloured);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, coloured(entry)]));
}

const printing = () => document.documentElement.classList.contains("printing");

function draw(id, figure) {
  charts.set(id, figure);
  const { data, layout } = coloured(figure);
  if (printing()) layout.width = 680;  // a page's width, whatever the window's
  layout.dragmode = touch ? false : "zoom";  // a finger on a chart scrolls the page
  return Plotly.react(id, data, layout, { responsive: true, displayModeBar: false });
}

let restore = () => {};  // shows again the range of dates that was chosen

function redraw() {
  charts.forEach((figure, id) => draw(id, figure));
  restore();
}

function print(starts) {
  document.documentElement.classList.toggle("printing", starts);  // paper is light, also for a dark screen
  redraw();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));

// The vertical axes follow what is seen of the lines when the range of dates changes.
function fit(chart, from, to) {
  const update = {};
  for (const [axis, name] of [["y", "yaxis"], ["y2", "yaxis2"]]) {
    const seen = chart.data.filter(trace => (trace.yaxis || "y") === axis && trace.visible !== "legendonly")
      .flatMap(trace => trace.y.filter((value, place) => value !== null && (axis === "y2" || value > 0) && trace.x[place] >= from && trace.x[place] <= to));
    if (!seen.length) continue;
    const scale = axis === "y" ? Math.log10 : value => value;
    const low = seen.reduce((a, b) => Math.min(a, b)), high = axis === "y" ? seen.reduce((a, b) => Math.max(a, b)) : 0;
    const room = 0.05 * (scale(high) - scale(low)) || 0.01;
    update[name + ".range"] = [scale(low) - room, axis === "y" ? scale(high) + room : 0];
  }
  return Plotly.relayout(chart, update);
}

function months(last, count) {
  const day = new Date(last + "T00:00:00Z");
  day.setUTCMonth(day.getUTCMonth() - count);
  return day.toISOString().slice(0, 10);
}

const wealth = document.getElementById("wealth");
if (wealth) {
  draw("wealth", figures.wealth);
  const days = figures.wealth.data.flatMap(trace => [trace.x[0], trace.x[trace.x.length - 1]]).sort();
  const first = days[0], last = days[days.length - 1];
  const buttons = [...document.querySelectorAll("button[data-months]")];
  const press = chosen => buttons.forEach(button => button.setAttribute("aria-pressed", button === chosen));
  const whole = buttons.find(button => button.dataset.months === "all");
  let busy = false;
  let shown = [first, last];
  const show = async (from, to) => {
    busy = true;
    shown = [from, to];
    await Plotly.relayout(wealth, { "xaxis.range": [from, to] });
    await fit(wealth, from, to);
    busy = false;
  };
  for (const button of buttons) {
    const from = button === whole ? first : months(last, Number(button.dataset.months));
    button.hidden = button !== whole && from <= first;
    button.addEventListener("click", () => { press(button); show(from, last); });
  }
  restore = () => show(...shown);
  restore();
  wealth.on("plotly_relayout", event => {
    if (busy) return;
    const from = event["xaxis.range[0]"], to = event["xaxis.range[1]"];
    if (from) { press(null); shown = [from.slice(0, 10), to.slice(0, 10)]; fit(wealth, ...shown); }
    if (event["xaxis.autorange"]) { press(whole); show(first, last); }
  });
}

const choice = document.getElementById("strategy");
draw("months", figures.weights[choice.value]);
choice.addEventListener("change", () => draw("months", figures.weights[choice.value]));
for (const id of ["live", "rolling", "concentration", "betas"]) if (figures[id]) draw(id, figures[id]);
figures.studies.forEach((figure, place) => draw("study-" + place, figure));
figures.bands.forEach((figure, place) => { if (figure) draw("band-" + place, figure); });
figures.calibration.forEach((figure, place) => draw("calibration-" + place, figure));
