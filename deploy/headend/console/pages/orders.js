import { get, post } from "../api.js";
import { Aim, Fault, goal, submitted } from "../form.js";
import { Page } from "../page.js";
import { cell, link, Table } from "../table.js";
import { html } from "../view.js";
import { aim, answers, order, time, tone } from "../words.js";

/** Orders, and one to be given: a limit. */
export class OrdersPage extends Page {
  everyMs = 2000;

  async look() { return { orders: await get("/v1/orders") }; }

  #limit = submitted((form) => this.act(async () => {
    const args = { watts: Number(form.watts), duration: Number(form.minutes) * 60 };
    const made = await post("/v1/orders", { op: "limit", target: goal(form), valid_s: 300, args });
    location.hash = `#/orders/${made.id}`;
  }));

  view({ orders, fault }) {
    return html`<h2>Limit load</h2>
      <form class="card order" onSubmit=${this.#limit}>
        <label>Watts a household <input name="watts" type="number" min="0" max="1000000" defaultValue="2500" required /></label>
        <label>Minutes <input name="minutes" type="number" min="1" max="1440" defaultValue="30" required /></label>
        <${Aim} />
        <button>Limit</button>
        <${Fault} text=${fault} />
      </form>
      <h2>Orders</h2>
      <${Table} caption="Orders, newest first" heads=${["When", "What", "For", "Hubs", "State", "Answers"]} empty="Nothing was asked yet."
        rows=${orders.map((row) => [
          row.id, link(time(row.made_ms), `#/orders/${row.id}`), cell(order(row), "text"), cell(aim(row.target), "short"), String(row.hubs),
          cell(row.state, tone(row.state)), cell(answers(row.counts), "text"),
        ])} />`;
  }
}
