// How many hubs are where, as a bar and in words.
import { html } from "./view.js";
import { answers, total } from "./words.js";

const mark = (status) => `s-${status.replaceAll(" ", "-")}`;

export function Bar({ counts }) {
  const all = total(counts) || 1;
  return html`<div class="spread" role="img" aria-label=${answers(counts) || "nothing yet"}>
      ${Object.entries(counts).map(([status, n]) => html`<i key=${status} class=${mark(status)} style=${{ width: `${(100 * n) / all}%` }}></i>`)}
    </div>
    <ul class="legend">${Object.entries(counts).map(([status, n]) => html`<li key=${status}><b class=${mark(status)}></b>${n} ${status}</li>`)}</ul>`;
}
