// A table that is read, narrow too, and whose rows keep who is at one of their links when the next look comes.
import { html } from "./view.js";

/** A cell with a class: `tone` colours it, "text" lets it wrap, "short" lets it wrap earlier. */
export const cell = (of, kind = "") => ({ of, kind });
export const link = (text, href) => html`<a href=${href}>${text}</a>`;

/** `rows`: `[key, ...cells]` each; a key is the row's own as long as it is there. In a narrow window a row is shown as a
 * list (console.css); to a screen reader it stays a row. One that is wider than the window is moved by the keyboard. */
export function Table({ caption, heads, rows, empty, name = "" }) {
  return html`<div class="wide" tabindex="0" role="region" aria-label=${caption}>
    <table role="table" class=${name}>
      <caption>${caption}</caption>
      <thead role="rowgroup"><tr role="row">${heads.map((head) => (head ? html`<th role="columnheader" scope="col">${head}</th>` : html`<td></td>`))}</tr></thead>
      <tbody role="rowgroup">
        ${rows.map(([key, ...cells]) => html`<tr role="row" key=${key}>${cells.map((each, at) => {
          const { of, kind } = each !== null && typeof each === "object" && "kind" in each && "of" in each ? each : cell(each);
          return html`<td role="cell" data-head=${heads[at]} class=${kind}>${of}</td>`;
        })}</tr>`)}
        ${rows.length ? null : html`<tr role="row" key="none"><td role="cell" class="facts" colspan=${heads.length}>${empty}</td></tr>`}
      </tbody>
    </table>
  </div>`;
}
