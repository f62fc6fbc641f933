import { get } from "../api.js";
import { Page } from "../page.js";
import { cell, Table } from "../table.js";
import { html } from "../view.js";
import { time } from "../words.js";

/** Who did what. */
export class AuditPage extends Page {
  everyMs = 10000;

  async look() { return { rows: await get("/v1/audit", { most: 500 }) }; }

  view({ rows }) {
    return html`<h2>Audit</h2>
      <${Table} caption="Who did what, newest first" heads=${["When", "Who", "What", "Details"]} empty="Nothing yet."
        rows=${rows.map((row) => [row.id, time(row.t_ms), row.client, row.action, cell(row.detail, "text")])} />`;
  }
}
