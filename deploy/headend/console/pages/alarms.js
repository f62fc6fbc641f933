import { ALARM_HEADS, alarmCells, alarmKey } from "../alarm.js";
import { get } from "../api.js";
import { Fault, submitted } from "../form.js";
import { Page } from "../page.js";
import { link, Table } from "../table.js";
import { html } from "../view.js";
import { hubPlace } from "../words.js";

/** What hubs say is wrong and is not over. */
export class AlarmsPage extends Page {
  everyMs = 5000;
  #filter = {};

  async look() { return { alarms: await get("/v1/alarms", { most: 500, ...this.#filter }) }; }

  #show = submitted((filter) => {
    this.#filter = filter;
    this.again();
  });

  view({ alarms, fault }) {
    return html`<h2>Alarms</h2>
      <p class="facts">What hubs say is wrong and is not over. What no event ends stays until somebody dismisses it.</p>
      <form class="filter" role="search" onSubmit=${this.#show}>
        <label>Hub <input name="hub" type="search" /></label>
        <label>Group <input name="group" /></label>
        <label>Severity <select name="severity"><option value="">any</option><option>error</option><option>warning</option></select></label>
        <label>Code <input name="code" /></label>
        <button>Show</button>
      </form>
      <${Fault} text=${fault} />
      <${Table} caption="Alarms, errors first" heads=${["Hub", ...ALARM_HEADS]} empty="No hub says that anything is wrong."
        rows=${alarms.map((alarm) => [alarmKey(alarm), link(alarm.hub, hubPlace(alarm.hub)), ...alarmCells(alarm, this)])} />`;
  }
}
