// How figures, times and the API's words are said.

export const time = (ms) => (ms ? new Date(ms).toLocaleString() : "never");
export const day = (s) => (s ? new Date(s * 1000).toLocaleDateString() : "never");
export const figure = (value) => (value === null || value === undefined ? "?" : Math.round(value).toLocaleString());
export const hubs = (n) => (n === 1 ? "1 hub" : `${figure(n)} hubs`);
export const watts = (value) => (value === null || value === undefined ? "?" : `${figure(value)} W`);

export function ago(ms) {
  if (!ms) return "never";
  const s = Math.max(0, Math.round((Date.now() - ms) / 1000));
  if (s < 120) return `${s} s ago`;
  if (s < 7200) return `${Math.round(s / 60)} min ago`;
  if (s < 172800) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} days ago`;
}

const TONES = {
  good: ["online", "completed", "applied", "accepted", "done", "in use"],
  bad: ["offline", "refused", "failed", "silent", "stopped", "revoked", "ended", "error"],
  wait: ["waiting", "sent", "partial", "running", "paused", "warning"],
};
/** The class that colours a state; the state itself stands there as a word. */
export const tone = (word) => Object.keys(TONES).find((name) => TONES[name].includes(word)) ?? "";

/** An object's fields in a line: "watts 400, duration 60". */
export const fields = (said) =>
  Object.entries(said).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
export const order = (row) => `${row.op} ${fields(row.args)}`;
export const answers = (counts) => Object.entries(counts).map(([status, n]) => `${n} ${status}`).join(", ");
export const total = (counts) => Object.values(counts).reduce((sum, n) => sum + n, 0);

const some = (names) => (names.length > 3 ? `${names.slice(0, 2).join(", ")} and ${names.length - 2} more` : names.join(", "));
/** Whom an order is for. */
export function aim(target) {
  if (target.hub) return target.hub;
  if (target.group) return `group ${target.group}`;
  if (target.all) return "all";
  return target.hubs ? some(target.hubs) : JSON.stringify(target.where);
}

/** A hub's alarms in words: "1 error, 2 warnings". */
export const troubles = (hub) =>
  [[hub.errors, "error"], [hub.warnings, "warning"]].filter(([n]) => n).map(([n, word]) => `${n} ${word}${n > 1 ? "s" : ""}`).join(", ");

export const hubPlace = (hub) => `#/hubs/${encodeURIComponent(hub)}`;
