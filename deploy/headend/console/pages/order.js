import { get, post } from "../api.js";
import { Bar } from "../bar.js";
import { Fault } from "../form.js";
import { Page } from "../page.js";
import { inWatts, SpreadChart } from "../spread-chart.js";
import { cell, link, Table } from "../table.js";
import { html } from "../view.js";
import { ago, aim, hubPlace, order, time, tone } from "../words.js";

const LIVE_S = 120; // so long the chart is asked for every second
const MOST_S = 3600;
const LATER = 5; // then at every so manieth look

/** One order: how it spreads, and every hub's answer. */
export class OrderPage extends Page {
  everyMs = 1000;
  #looks = 0;

  async look() {
    const path = `/v1/orders/${encodeURIComponent(this.props.id)}`;
    const row = await get(path);
    if (row.state === "waiting" || !row.sent_ms) return { row, spread: null };
    const since = Math.ceil((Date.now() - row.sent_ms) / 1000);
    if (since > LIVE_S && this.state.spread && this.#looks++ % LATER) return { row };
    return { row, spread: await get(`${path}/spread`, { seconds: Math.min(MOST_S, Math.max(10, since)) }) };
  }

  #do = (verb) => () => this.act(() => post(`/v1/orders/${encodeURIComponent(this.props.id)}/${verb}`));

  view({ row, spread, fault }) {
    const approved = row.approved_by ? `, approved by ${row.approved_by}` : "";
    return html`<h2>${order(row)}, for ${aim(row.target)}</h2>
      <p class="facts">asked by ${row.asked_by} ${time(row.made_ms)}${approved}; ${row.state}; good until ${time(row.exp_s * 1000)}</p>
      ${row.state === "waiting" ? html`<p class="actions">
        <button type="button" onClick=${this.#do("approve")}>Approve</button> <button type="button" onClick=${this.#do("withdraw")}>Withdraw</button></p>` : null}
      <${Fault} text=${fault} />
      <${Bar} counts=${row.counts} />
      ${spread ? html`<${SpreadChart} spread=${spread} /><p class="watts">${inWatts(spread.sums)}</p>` : null}
      <h3>Answers</h3>
      <${Table} caption="What each hub answered" heads=${["Hub", "Status", "Why", "Said", "Heard"]} empty="No hub is meant."
        rows=${row.answers.map((answer) => [
          answer.hub, link(answer.hub, hubPlace(answer.hub)), cell(answer.status, tone(answer.status)), cell(answer.reason, "text"),
          answer.tries === 1 ? "once" : `${answer.tries} times`, ago(answer.heard_ms),
        ])} />`;
  }
}
