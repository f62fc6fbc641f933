import { ALARM_HEADS, alarmCells, alarmKey } from "../alarm.js";
import { Denied, get, post } from "../api.js";
import { DayChart } from "../day-chart.js";
import { Fault, submitted } from "../form.js";
import { failed, Page } from "../page.js";
import { cell, Table } from "../table.js";
import { html } from "../view.js";
import { ago, fields, time, tone } from "../words.js";

const MOST_TEXT = 300;
const today = () => new Date(Date.now() - new Date().getTimezoneOffset() * 60000).toISOString().slice(0, 10);

function inHalves(halves) {
  if (!halves.length) return "No half-hours of this day are known.";
  const sum = halves.reduce((all, half) => all + (half.energy_wh ?? 0), 0);
  const others = halves.filter((half) => half.quality !== "measured").length;
  return `${halves.length} of the day's half-hours: ${(sum / 1000).toFixed(3)} kWh; ${others} not measured`;
}

/** One hub: what it says is wrong, a day of its household, its receipts and events. */
export class HubPage extends Page {
  state = { ...this.state, day: null, dayFault: "" };

  componentDidMount() {
    super.componentDidMount();
    this.#showDay({ day: today() });
  }

  #path = `/v1/hubs/${encodeURIComponent(this.props.id)}`;

  async look() {
    const [hub, alarms, receipts, events] = await Promise.all([
      get(this.#path), get("/v1/alarms", { hub: this.props.id }), get(`${this.#path}/receipts`, { most: 50 }), get(`${this.#path}/events`, { most: 50 }),
    ]);
    return { hub, alarms, receipts, events };
  }

  #showDay = async ({ day }) => {
    try {
      // One after the other: each look at a household's consumption is a line of the audit log.
      const its = await get(`${this.#path}/day`, { day });
      const halves = await get(`${this.#path}/intervals`, { day });
      this.setState({ day: { date: day, its, halves }, dayFault: "" });
    } catch (error) {
      error instanceof Denied ? failed(error) : this.setState({ day: null, dayFault: error.message });
    }
  };

  #askIt = () => this.act(() => post("/v1/orders", { op: "diagnose", args: { what: "status" }, target: { hub: this.props.id } }));

  view({ hub, alarms, receipts, events, fault, day, dayFault }) {
    const disbelieved = hub.fault ? `; not believed: ${hub.fault}` : "";
    return html`<h2>${this.props.id}</h2>
      <p class="facts">${hub.state}, heard ${ago(hub.seen_ms)}; version ${hub.version || "?"}, epoch ${hub.epoch}, start ${hub.boot}; groups: ${hub.groups.join(", ") || "none"}${disbelieved}</p>
      <section><h3>Alarms</h3>
        <p class="actions"><button type="button" onClick=${this.#askIt}>Ask it how it is</button></p>
        <${Fault} text=${fault} />
        <${Table} name="alarms" caption="What this hub says is wrong" heads=${ALARM_HEADS} empty="It says nothing."
          rows=${alarms.map((alarm) => [alarmKey(alarm), ...alarmCells(alarm, this)])} /></section>
      <section><h3>Day</h3>
        <form class="filter" onSubmit=${submitted(this.#showDay)}><label>Day <input name="day" type="date" required defaultValue=${today()} /></label> <button>Show</button></form>
        <${Fault} text=${dayFault} />
        ${day ? html`<${DayChart} key=${day.date} hub=${this.props.id} date=${day.date} its=${day.its} />
          <h3>Half-hours</h3><p class="halves">${inHalves(day.halves)}</p>` : null}</section>
      <section><h3>Receipts</h3>
        <${Table} name="receipts" caption="Receipts, newest first" heads=${["No.", "When", "Status", "Why", "Chain"]} empty="None yet."
          rows=${receipts.map((r) => [
            `${r.epoch} ${r.i}`, String(r.i), time(r.iat * 1000), cell(r.status, tone(r.status)), cell(r.reason, "text"), cell(r.fits ? "fits" : "BROKEN", r.fits ? "" : "bad"),
          ])} /></section>
      <section><h3>Events</h3>
        <${Table} name="events" caption="Events, newest first" heads=${["When", "Event", "Details"]} empty="None yet."
          rows=${events.map((e, at) => [events.length - at, time(e.t_ms), e.event, cell(fields(e.fields).slice(0, MOST_TEXT), "text")])} /></section>`;
  }
}
