import { get, post } from "../api.js";
import { Bar } from "../bar.js";
import { Fault, submitted } from "../form.js";
import { Page } from "../page.js";
import { cell, link, Table } from "../table.js";
import { html } from "../view.js";
import { aim, answers, hubs, order, time, total } from "../words.js";

const VERBS = {
  waiting: [["Approve", "approve"], ["Withdraw", "withdraw"]],
  running: [["Pause", "pause"], ["Stop", "stop"]],
  paused: [["Go on", "resume"], ["Stop", "stop"]],
  stopped: [["Try again and go on", "retry"]],
};
const percent = (share) => `${Math.round(share * 100)} %`;

/** One roll-out, wave by wave, and the way back. */
export class RolloutPage extends Page {
  everyMs = 2000;

  async look() { return { row: await get(`/v1/rollouts/${encodeURIComponent(this.props.id)}`) }; }

  #do = (verb) => () => this.act(() => post(`/v1/rollouts/${encodeURIComponent(this.props.id)}/${verb}`));

  #back = submitted(({ args }) => this.act(async () => {
    const made = await post(`/v1/rollouts/${encodeURIComponent(this.props.id)}/back`, { args: JSON.parse(args) });
    location.hash = `#/rollouts/${made.id}`;
  }, "backFault"));

  view({ row, fault, backFault }) {
    return html`<h2>${order(row)}, for ${aim(row.target)}</h2>
      <p class="facts">${row.state}${row.why ? `: ${row.why}` : ""}; begun by ${row.asked_by} ${time(row.made_ms)}; ${hubs(row.wave_hubs)} a wave, the next once ${percent(row.success_share)} did it, stopped beyond ${percent(row.error_share)} that did not</p>
      <p class="actions">${(VERBS[row.state] ?? []).map(([word, verb]) => html`<button type="button" key=${verb} onClick=${this.#do(verb)}>${word}</button> `)}</p>
      <${Fault} text=${fault} />
      <${Bar} counts=${row.counts} />
      <h3>Waves</h3>
      <${Table} caption="Waves, in order" heads=${["Wave", "Began", "Hubs", "Answers"]} empty="No wave has begun yet."
        rows=${row.waves.map((wave, at) => [
          wave.order_id, link(`Wave ${at + 1}`, `#/orders/${wave.order_id}`), time(wave.made_ms), String(total(wave.counts)), cell(answers(wave.counts), "text"),
        ])} />
      <details><summary>Bring back the hubs that did it</summary>
        <form class="card order" onSubmit=${this.#back}>
          <label class="long">Arguments of before (JSON) <textarea name="args" rows="2" required spellcheck="false"></textarea></label>
          <button>Bring back</button>
          <${Fault} text=${backFault} />
        </form>
      </details>`;
  }
}
