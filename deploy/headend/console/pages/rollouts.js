import { get, post } from "../api.js";
import { Aim, Fault, goal, submitted } from "../form.js";
import { Page } from "../page.js";
import { cell, link, Table } from "../table.js";
import { createRef, html } from "../view.js";
import { aim, answers, order, time, tone, total } from "../words.js";

const EXAMPLES = {
  config: '{"set": {"uplink.pack_interval_s": 300}}',
  update: '{"url": "https://", "sha256": {"hex": ""}, "version": ""}',
};

function progress(counts) {
  const more = Object.keys(counts).length > 1 ? ` (${answers(counts)})` : "";
  return `${counts.completed ?? 0} of ${total(counts)} did it${more}`;
}

/** Roll-outs, and one to be begun. */
export class RolloutsPage extends Page {
  #args = createRef();

  async look() { return { rollouts: await get("/v1/rollouts") }; }

  #begin = submitted((form) => this.act(async () => {
    const made = await post("/v1/rollouts", {
      op: form.op, args: JSON.parse(form.args), target: goal(form), wave_hubs: Number(form.wave_hubs),
      success_share: Number(form.success) / 100, error_share: Number(form.errors) / 100,
    });
    location.hash = `#/rollouts/${made.id}`;
  }));

  #example = (event) => { this.#args.current.value = EXAMPLES[event.currentTarget.value]; };

  view({ rollouts, fault }) {
    return html`<h2>Begin a roll-out</h2>
      <form class="card order" onSubmit=${this.#begin}>
        <label>What <select name="op" onChange=${this.#example}><option value="config">configuration</option><option value="update">update</option></select></label>
        <label class="long">Arguments (JSON) <textarea name="args" rows="2" required spellcheck="false" ref=${this.#args} defaultValue=${EXAMPLES.config}></textarea></label>
        <${Aim} />
        <label>Hubs in a wave <input name="wave_hubs" type="number" min="1" max="1000000" defaultValue="10" required /></label>
        <label>Next wave at % done <input name="success" type="number" min="1" max="100" defaultValue="90" required /></label>
        <label>Stop beyond % wrong <input name="errors" type="number" min="0" max="99" defaultValue="5" required /></label>
        <button>Begin</button>
        <${Fault} text=${fault} />
      </form>
      <h2>Roll-outs</h2>
      <${Table} caption="Roll-outs, newest first" heads=${["Begun", "What", "For", "State", "Waves", "Progress"]} empty="Nothing was rolled out yet."
        rows=${rollouts.map((row) => [
          row.id, link(time(row.made_ms), `#/rollouts/${row.id}`), cell(order(row), "text"), cell(aim(row.target), "short"),
          cell(row.state, tone(row.state)), String(row.waves.length), cell(progress(row.counts), "text"),
        ])} />`;
  }
}
