// A household's day: its load, its appliances', and the limits that were in force.
import { Chart } from "./chart.js";
import { html } from "./view.js";
import { watts } from "./words.js";

const HOUR_S = 3600;

const limitPoints = (limits) => limits.flatMap(({ from_s: from, to_s: to, limit_w: limit }) => [[from, limit], [to - 1, limit], [to, null]]);

/** The mean of what was said in that hour, of each line; and the lowest limit that held in it. */
function rowsOf(its, clock) {
  const rows = [];
  for (let from = its.from_s; from < its.to_s; from += HOUR_S) {
    const means = its.lines.map(({ points }) => {
      const values = points.filter(([s, value]) => s >= from && s < from + HOUR_S && value !== null).map(([, value]) => value);
      return values.length ? watts(values.reduce((sum, value) => sum + value, 0) / values.length) : "";
    });
    const held = its.limits.filter((limit) => limit.from_s < from + HOUR_S && limit.to_s > from).map((limit) => limit.limit_w);
    if (means.some(Boolean) || held.length) rows.push([from, clock(from), ...means, ...(its.limits.length ? [held.length ? watts(Math.min(...held)) : ""] : [])]);
  }
  return rows;
}

function summaryOf(its, clock) {
  const [meter] = its.lines;
  const highest = meter.points.reduce((most, point) => (point[1] !== null && (most === null || point[1] > most[1]) ? point : most), null);
  const limits = its.limits.map((limit) => `${watts(limit.limit_w)} from ${clock(limit.from_s)} to ${clock(limit.to_s)}`);
  const most = highest ? `At most ${watts(highest[1])} (${meter.client}), at ${clock(highest[0])}. ` : "";
  return `${most}${limits.length ? `Limits: ${limits.join("; ")}.` : "No limit was in force."}`;
}

export function DayChart({ hub, date, its }) {
  if (!its.lines.length) return html`<p class="facts chart-nothing">No readings on this day.</p>`;
  const format = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: its.timezone });
  const clock = (s) => format.format(new Date(s * 1000));
  const lines = its.lines.map(({ client, points }) => ({ label: client, points, say: watts }));
  if (its.limits.length) lines.push({ label: "limit", points: limitPoints(its.limits), say: watts, isLimit: true });
  const heads = ["Hour", ...its.lines.map(({ client }) => client), ...(its.limits.length ? ["limit"] : [])];
  return html`<${Chart} label=${`Load of ${hub} on ${date}`} summary=${summaryOf(its, clock)} lines=${lines} sayX=${clock} clock=${its.timezone}
    axes=${{ left: "watts" }} fromX=${its.from_s} toX=${its.to_s} heads=${heads} rows=${rowsOf(its, clock)} />`;
}
