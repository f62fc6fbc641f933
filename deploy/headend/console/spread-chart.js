// A limit as it spreads: hubs that obey, and what their households draw, second by second.
import { Chart } from "./chart.js";
import { html } from "./view.js";
import { figure, hubs, watts } from "./words.js";

const MOST_ROWS = 40;
const seconds = (s) => `${Number(s.toFixed(1)).toLocaleString()} s`;

function linesOf(spread) {
  const lines = [];
  const end = spread.seconds;
  if (spread.obeyed.length) {
    const last = spread.obeyed.at(-1);
    lines.push({ label: `hubs that obey (of ${spread.hubs})`, points: [[0, 0], ...spread.obeyed, ...(last[0] < end ? [[end, last[1]]] : [])], say: hubs, isStepped: true });
  }
  if (spread.watts.length) lines.push({ label: `watts of ${spread.households} households`, points: spread.watts, say: watts, onRight: true });
  if (spread.asked) {
    const { from_s: from, to_s: to, asked_w: most } = spread.asked;
    lines.push({ label: "watts asked for, at most", points: to > end ? [[from, most], [Math.max(from, end), most]] : [[from, most], [to - 0.001, most], [to, null]], say: watts, onRight: true, isLimit: true });
  }
  return lines;
}

function summaryOf(spread) {
  const last = spread.obeyed.at(-1);
  return last ? `${figure(last[1])} of ${hubs(spread.hubs)} ${last[1] === 1 ? "obeys" : "obey"}, the last of them ${seconds(last[0])} after it was sent.` : "No hub has said yet that it obeys.";
}

/** Every second while it is new; further apart later, and the last one. */
function rowsOf(spread) {
  const at = (points, s) => points.findLast(([when]) => when <= s)?.[1];
  const all = [...new Set([0, ...spread.obeyed.map(([s]) => Math.ceil(s)), ...spread.watts.map(([s]) => s)])].filter((s) => s >= 0).sort((a, b) => a - b);
  const every = Math.ceil(all.length / MOST_ROWS);
  return all.filter((_, n) => n % every === 0 || n === all.length - 1).map((s) => [
    s, seconds(s), figure(at(spread.obeyed, s) ?? 0), watts(at(spread.watts, s)),
    spread.asked && s >= spread.asked.from_s && s < spread.asked.to_s ? watts(spread.asked.asked_w) : "",
  ]);
}

/** Watts asked against watts reached, in words. */
export function inWatts(sum) {
  if (!sum.households) return "Watts: fewer than five households' meters were heard, and a sum of so few is not told.";
  const asked = sum.asked_w === null ? "" : `; asked for at most ${watts(sum.asked_w)} together; ${watts(sum.above_w)} of what they draw is above their limits`;
  return `${sum.households} of ${sum.hubs} households are known: ${watts(sum.before_w)} when it was sent, ${watts(sum.now_w)} while it held${asked}.`;
}

export function SpreadChart({ spread }) {
  const lines = linesOf(spread);
  if (!lines.length) return html`<p class="facts">No hub has answered yet.</p>`;
  return html`<${Chart} label="How the order reached its hubs" summary=${summaryOf(spread)} lines=${lines} sayX=${seconds}
    axes=${{ x: "seconds after it was sent", left: "hubs", right: "watts", isWhole: true }} fromX=${Math.min(0, spread.watts[0]?.[0] ?? 0)} toX=${spread.seconds}
    heads=${["After", "Hubs that obey", "Their watts", "Asked for"]} rows=${rowsOf(spread)} />`;
}
