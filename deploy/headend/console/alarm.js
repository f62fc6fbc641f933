// One alarm as cells of a table: on the page of all, and on a hub's own.
import { post } from "./api.js";
import { cell } from "./table.js";
import { html } from "./view.js";
import { ago, tone } from "./words.js";

export const ALARM_HEADS = ["Severity", "Alarm", "Of", "Since", "Said", ""];
export const alarmKey = ({ hub, source, code, subject }) => JSON.stringify([hub, source, code, subject]);

/** `page`: whose `act` dismisses it. */
export function alarmCells(alarm, page) {
  const { hub, code, subject } = alarm;
  const dismiss = () => page.act(() => post(`/v1/hubs/${encodeURIComponent(hub)}/alarms/dismiss`, { code, subject }));
  return [
    cell(alarm.severity, tone(alarm.severity)),
    cell(html`${code}<br /><small>${alarm.why || "The hub's own word, when it was asked last."}</small>`, "text"),
    cell(subject, "short"), ago(alarm.since_ms), cell(alarm.text, "text"),
    alarm.source === "event" ? html`<button type="button" class="plain" aria-label=${`Dismiss ${code} ${subject} of ${hub}`} onClick=${dismiss}>Dismiss</button>` : "",
  ];
}
