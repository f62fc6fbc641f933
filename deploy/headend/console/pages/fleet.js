import { follow, get } from "../api.js";
import { submitted } from "../form.js";
import { Page } from "../page.js";
import { cell, link, Table } from "../table.js";
import { html } from "../view.js";
import { ago, day, hubPlace, tone, troubles } from "../words.js";

const MOST_NEWS = 12;
const TILES = [
  ["Hubs", "hubs"], ["Online", "online"], ["Offline", "offline"], ["Never seen", "never_seen"],
  ["Hubs with errors", "hubs_with_errors", "bad"], ["With warnings", "hubs_with_warnings", "wait"],
  ["Readings", "readings"], ["Not believed", "faults", "bad"], ["Chains broken", "chains_broken", "bad"],
];

/** The fleet now: figures, hubs, and what they say as they say it. */
export class FleetPage extends Page {
  #filter = {};
  #heard = 0;
  #unfollow = () => {};
  state = { ...this.state, news: [] };

  componentDidMount() {
    super.componentDidMount();
    this.#unfollow = follow((said) => {
      const at = new Date().toLocaleTimeString();
      const line = { key: ++this.#heard, text: `${at}  ${said.hub}  ${said.event ?? said.state ?? said.status} ${said.reason ?? ""}` };
      this.setState(({ news }) => ({ news: [line, ...news].slice(0, MOST_NEWS) }));
    });
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.#unfollow();
  }

  async look() {
    const [figures, hubs] = await Promise.all([get("/v1/fleet"), get("/v1/hubs", { most: 500, ...this.#filter })]);
    return { figures, hubs };
  }

  #show = submitted((filter) => {
    this.#filter = filter;
    this.again();
  });

  view({ figures, hubs, news }) {
    return html`<h2>Fleet</h2>
      <dl class="tiles">${TILES.map(([title, name, kind]) => html`<div key=${name}><dt>${title}</dt>
        <dd class=${figures[name] ? kind : ""}>${figures[name].toLocaleString()}</dd></div>`)}</dl>
      <form class="filter" role="search" onSubmit=${this.#show}>
        <label>Name <input name="name" type="search" /></label>
        <label>State <select name="state"><option value="">any</option><option>online</option><option>offline</option><option>never seen</option></select></label>
        <label>Group <input name="group" /></label>
        <label>Alarm <select name="alarm"><option value="">any or none</option><option value="any">any</option></select></label>
        <button>Show</button>
      </form>
      <${Table} caption="Hubs" heads=${["Hub", "State", "Alarms", "Heard", "Version", "Groups", "Certificate ends"]} empty="No hub is like that."
        rows=${hubs.map((hub) => [
          hub.hub, link(hub.hub, hubPlace(hub.hub)), cell(hub.state, tone(hub.state)), cell(troubles(hub), hub.errors ? "bad" : hub.warnings ? "wait" : ""),
          ago(hub.seen_ms), cell(hub.version, "short"), hub.groups.join(", "), day(hub.not_after_s),
        ])} />
      <h2>Now</h2>
      <ol class="news" aria-live="polite">${news.map(({ key, text }) => html`<li key=${key}>${text}</li>`)}</ol>`;
  }
}
