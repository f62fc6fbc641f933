"use strict";
// The console: pages by the part of the address behind "#". Whatever hubs and people wrote is set as text, never as HTML.

const main = document.getElementById("main");
let token = sessionStorage.getItem("token");
let leave = () => {};

class Denied extends Error {}

async function ask(path, options = {}) {
  const answer = await fetch(path, {
    ...options,
    headers: { Authorization: `Bearer ${token}`, ...(options.body ? { "Content-Type": "application/json" } : {}) },
  });
  if (answer.status === 401) throw new Denied();
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    const detail = Array.isArray(said.detail) ? said.detail.map((d) => d.msg).join("; ") : said.detail;
    throw new Error(detail || `${answer.status} ${answer.statusText}`);
  }
  return answer;
}
const get = async (path) => (await ask(path)).json();
const post = async (path, body) => (await ask(path, { method: "POST", body: JSON.stringify(body ?? {}) })).json();

function page(name) {
  // A page of its own: what was asked for a page that was left writes into that one, and nobody sees it.
  const here = document.createElement("div");
  here.append(document.getElementById(name).content.cloneNode(true));
  main.replaceChildren(here);
  document.getElementById("leave").hidden = !token;
  // In a narrow window a row is shown as a list (console.css); to a screen reader it stays a row.
  for (const table of here.querySelectorAll("table")) {
    table.setAttribute("role", "table");
    for (const part of table.querySelectorAll("thead, tbody")) part.setAttribute("role", "rowgroup");
    for (const row of table.querySelectorAll("thead tr")) row.setAttribute("role", "row");
    for (const head of table.querySelectorAll("th")) head.setAttribute("role", "columnheader");
  }
  // A table that is wider than the window is moved by the keyboard too.
  for (const wide of main.querySelectorAll(".wide")) {
    wide.tabIndex = 0;
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", wide.querySelector("caption").textContent);
  }
  for (const link of document.querySelectorAll("nav a")) {
    const at = location.hash.replace("#/hubs", "#/fleet");
    const here = at.startsWith(link.getAttribute("href"));
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  return here;
}
function cell(content, kind = "") {
  const td = document.createElement("td");
  if (kind) td.className = kind;
  content instanceof Node ? td.append(content) : (td.textContent = content ?? "");
  return td;
}
// A table is made anew every few seconds: who is at one of its links or buttons stays there.
const named = (element) => element.getAttribute("href") ?? element.getAttribute("aria-label") ?? element.textContent;
function fill(tbody, rows, empty) {
  const at = tbody.contains(document.activeElement) ? named(document.activeElement) : null;
  refill(tbody, rows, empty);
  if (at !== null) [...tbody.querySelectorAll("a, button")].find((element) => named(element) === at)?.focus({ preventScroll: true });
}
function refill(tbody, rows, empty) {
  const heads = [...tbody.closest("table").tHead.rows[0].cells].map((head) => head.textContent);
  tbody.replaceChildren(...rows.map((cells) => {
    const tr = document.createElement("tr");
    tr.setAttribute("role", "row");
    cells.forEach((c, at) => {
      const td = c instanceof HTMLTableCellElement ? c : cell(c);
      td.setAttribute("role", "cell");
      td.dataset.head = heads[at];
      tr.append(td);
    });
    return tr;
  }));
  if (!rows.length) {
    const td = cell(empty, "facts");
    td.colSpan = 9;
    tbody.append(document.createElement("tr"));
    tbody.lastChild.append(td);
  }
}
function button(word, does, kind = "") {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = word;
  if (kind) made.className = kind;
  made.addEventListener("click", does);
  return made;
}
const said = (place) => (error) => { error instanceof Denied ? failed(error) : (place.textContent = error.message); };
function bar(here, counts) {
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0) || 1;
  const spread = here.querySelector(".spread");
  spread.setAttribute("aria-label", answers(counts) || "nothing yet");
  spread.replaceChildren(...Object.entries(counts).map(([status, n]) => {
    const part = document.createElement("i");
    part.className = mark(status);
    part.style.width = `${(100 * n) / total}%`;
    return part;
  }));
  here.querySelector(".legend").replaceChildren(...Object.entries(counts).map(([status, n]) => {
    const li = document.createElement("li");
    const square = document.createElement("b");
    square.className = mark(status);
    li.append(square, `${n} ${status}`);
    return li;
  }));
}
const mark = (status) => `s-${status.replace(" ", "-")}`;
function link(text, href) {
  const a = document.createElement("a");
  a.textContent = text;
  a.href = href;
  return a;
}
const time = (ms) => (ms ? new Date(ms).toLocaleString() : "never");
function ago(ms) {
  if (!ms) return "never";
  const s = Math.max(0, Math.round((Date.now() - ms) / 1000));
  return s < 120 ? `${s} s ago` : s < 7200 ? `${Math.round(s / 60)} min ago` : s < 172800 ? `${Math.round(s / 3600)} h ago` : `${Math.round(s / 86400)} days ago`;
}
const tone = (word) =>
  ["online", "completed", "applied", "accepted"].includes(word) ? "good"
    : ["offline", "refused", "failed", "silent"].includes(word) ? "bad"
      : ["waiting", "sent", "partial"].includes(word) ? "wait" : "";
const every = (ms, does) => {
  const timer = setInterval(() => { if (!document.hidden) does().catch(failed); }, ms);
  return () => clearInterval(timer);
};
function failed(error) {
  if (error instanceof Denied) { token = null; sessionStorage.removeItem("token"); show(); return; }
  document.getElementById("who").textContent = error.message;
}

function signIn() {
  const form = page("sign-in").querySelector("form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form));
    body.set("grant_type", "client_credentials");
    const answer = await fetch("/oauth/token", { method: "POST", body });
    if (!answer.ok) { form.querySelector(".fault").textContent = "That client and secret are not known here."; return; }
    token = (await answer.json()).access_token;
    sessionStorage.setItem("token", token);
    document.getElementById("who").textContent = form.client_id.value;
    location.hash ? show() : (location.hash = "#/fleet");
  });
  form.client_id.focus();
}

const troubles = (hub) => [[hub.errors, "error"], [hub.warnings, "warning"]].filter(([n]) => n).map(([n, word]) => `${n} ${word}${n > 1 ? "s" : ""}`).join(", ");

function meaning(alarm) {
  const both = document.createDocumentFragment();
  const small = document.createElement("small");
  small.textContent = alarm.why || "The hub's own word, when it was asked last.";
  both.append(alarm.code, document.createElement("br"), small);
  return both;
}

function alarmRow(alarm, look, fault) {
  const dismiss = button("Dismiss", () => post(`/v1/hubs/${alarm.hub}/alarms/dismiss`, { code: alarm.code, subject: alarm.subject }).then(look).catch(said(fault)), "plain");
  dismiss.setAttribute("aria-label", `Dismiss ${alarm.code} ${alarm.subject} of ${alarm.hub}`);
  return [
    cell(alarm.severity, alarm.severity === "error" ? "bad" : "wait"), cell(meaning(alarm), "text"), cell(alarm.subject, "short"), ago(alarm.since_ms), cell(alarm.text, "text"),
    alarm.source === "event" ? cell(dismiss) : "",
  ];
}

function alarmsPage() {
  const here = page("alarms");
  const form = here.querySelector("form");
  const fault = here.querySelector(".fault");
  async function look() {
    const alarms = await get(`/v1/alarms?most=500&${new URLSearchParams(new FormData(form))}`);
    fill(here.querySelector("tbody"), alarms.map((alarm) => [link(alarm.hub, `#/hubs/${alarm.hub}`), ...alarmRow(alarm, look, fault)]), "No hub says that anything is wrong.");
  }
  form.addEventListener("submit", (event) => { event.preventDefault(); look().catch(failed); });
  look().catch(failed);
  return every(5000, look);
}

function fleetPage() {
  const here = page("fleet");
  const form = here.querySelector("form");
  const tbody = here.querySelector("tbody");
  async function look() {
    const [figures, hubs] = await Promise.all([get("/v1/fleet"), get(`/v1/hubs?most=500&${new URLSearchParams(new FormData(form))}`)]);
    const tiles = { Hubs: figures.hubs, Online: figures.online, Offline: figures.offline, "Never seen": figures.never_seen, "Hubs with errors": figures.hubs_with_errors, "With warnings": figures.hubs_with_warnings, Readings: figures.readings, "Not believed": figures.faults, "Chains broken": figures.chains_broken };
    here.querySelector("dl").replaceChildren(...Object.entries(tiles).map(([name, value]) => {
      const div = document.createElement("div");
      const dt = document.createElement("dt");
      const dd = document.createElement("dd");
      dt.textContent = name;
      dd.textContent = value.toLocaleString();
      if (value && ["Not believed", "Chains broken", "Hubs with errors"].includes(name)) dd.className = "bad";
      if (value && name === "With warnings") dd.className = "wait";
      div.append(dt, dd);
      return div;
    }));
    fill(tbody, hubs.map((hub) => [
      link(hub.hub, `#/hubs/${hub.hub}`), cell(hub.state, tone(hub.state)), cell(troubles(hub), hub.errors ? "bad" : hub.warnings ? "wait" : ""), ago(hub.seen_ms), cell(hub.version, "short"),
      hub.groups.join(", "), new Date(hub.not_after_s * 1000).toLocaleDateString(),
    ]), "No hub is like that.");
  }
  form.addEventListener("submit", (event) => { event.preventDefault(); look().catch(failed); });
  look().catch(failed);
  const stop = follow(here.querySelector(".news"));
  const still = every(3000, look);
  return () => { stop(); still(); };
}

// Server-sent events by fetch: EventSource cannot send a token.
function follow(list) {
  const ended = new AbortController();
  (async () => {
    const answer = await fetch("/v1/live", { headers: { Authorization: `Bearer ${token}` }, signal: ended.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const parts = text.split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        const data = /^data: (.*)$/m.exec(part);
        if (!data) continue;
        const said = JSON.parse(data[1]);
        const li = document.createElement("li");
        li.textContent = `${new Date().toLocaleTimeString()}  ${said.hub}  ${said.event ?? said.state ?? said.status} ${said.reason ?? ""}`;
        list.prepend(li);
        while (list.children.length > 12) list.lastChild.remove();
      }
    }
  })().catch(() => {});
  return () => ended.abort();
}

const aim = (target) => target.hub ?? (target.group ? `group ${target.group}` : target.all ? "all" : target.hubs ? some(target.hubs) : JSON.stringify(target.where));
const some = (hubs) => hubs.length > 3 ? `${hubs.slice(0, 2).join(", ")} and ${hubs.length - 2} more` : hubs.join(", ");
const say = (order) => `${order.op} ${Object.entries(order.args).map(([k, v]) => `${k} ${typeof v === "object" ? JSON.stringify(v) : v}`).join(", ")}`;
const answers = (counts) => Object.entries(counts).map(([status, n]) => `${n} ${status}`).join(", ");

function ordersPage() {
  const here = page("orders");
  const form = here.querySelector("form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fault = form.querySelector(".fault");
    fault.textContent = "";
    const target = goal(form);
    try {
      const made = await post("/v1/orders", {
        op: "limit", target, valid_s: 300,
        args: { watts: Number(form.watts.value), duration: Number(form.minutes.value) * 60 },
      });
      location.hash = `#/orders/${made.id}`;
    } catch (error) {
      said(fault)(error);
    }
  });
  async function look() {
    const orders = await get("/v1/orders");
    fill(here.querySelector("tbody"), orders.map((order) => [
      link(time(order.made_ms), `#/orders/${order.id}`), say(order), aim(order.target), String(order.hubs),
      cell(order.state, tone(order.state)), answers(order.counts),
    ]), "Nothing was asked yet.");
  }
  look().catch(failed);
  return every(2000, look);
}

function inWatts(sum) {
  if (!sum.households) return "Watts: fewer than five households' meters were heard, and a sum of so few is not told.";
  const w = (value) => (value === null ? "?" : `${Math.round(value).toLocaleString()} W`);
  const asked = sum.asked_w === null ? "" : `; asked for at most ${w(sum.asked_w)} together; ${w(sum.above_w)} of what they draw is above their limits`;
  return `${sum.households} of ${sum.hubs} households are known: ${w(sum.before_w)} when it was sent, ${w(sum.now_w)} while it held${asked}.`;
}

function orderPage(id) {
  const here = page("order");
  const actions = here.querySelector(".actions");
  const fault = here.querySelector(".fault");
  const act = (word, path) => button(word, () => post(path).then(look).catch(said(fault)));
  let waiting = null;
  let looks = 0;
  async function look() {
    const order = await get(`/v1/orders/${id}`);
    here.querySelector("h2").textContent = `${say(order)}, for ${aim(order.target)}`;
    here.querySelector(".facts").textContent =
      `asked by ${order.asked_by} ${time(order.made_ms)}${order.approved_by ? `, approved by ${order.approved_by}` : ""}; ${order.state}; good until ${time(order.exp_s * 1000)}`;
    if (waiting !== (order.state === "waiting")) {
      waiting = order.state === "waiting";
      actions.replaceChildren(...(waiting ? [act("Approve", `/v1/orders/${id}/approve`), " ", act("Withdraw", `/v1/orders/${id}/withdraw`)] : []));
    }
    bar(here, order.counts);
    if (!waiting && order.sent_ms && looks++ % 3 === 0) {
      const seconds = Math.min(3600, Math.max(10, Math.ceil((Date.now() - order.sent_ms) / 1000)));
      const svg = await (await ask(`/v1/orders/${id}/spread.svg?seconds=${seconds}`)).text();
      draw(here.querySelector(".chart"), svg, "How the order reached its hubs");
      here.querySelector(".watts").textContent = inWatts(await get(`/v1/orders/${id}/watts?seconds=${seconds}`));
    }
    fill(here.querySelector("tbody"), order.answers.map((answer) => [
      link(answer.hub, `#/hubs/${answer.hub}`), cell(answer.status, tone(answer.status)), cell(answer.reason, "text"),
      answer.tries === 1 ? "once" : `${answer.tries} times`, ago(answer.heard_ms),
    ]), "No hub is meant.");
  }
  look().catch(failed);
  return every(1000, look);
}

const goal = (form) => (form.kind.value === "all" ? { all: true } : { [form.kind.value]: form.elements.name.value });
const ratio = (counts) => {
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  return `${counts.completed ?? 0} of ${total} did it${Object.keys(counts).length > 1 ? ` (${answers(counts)})` : ""}`;
};

function rolloutsPage() {
  const here = page("rollouts");
  const form = here.querySelector("form");
  const fault = form.querySelector(".fault");
  form.op.addEventListener("change", () => {
    form.elements.args.value = form.op.value === "config" ? '{"set": {"uplink.pack_interval_s": 300}}' : '{"url": "https://", "sha256": {"hex": ""}, "version": ""}';
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    fault.textContent = "";
    try {
      const made = await post("/v1/rollouts", {
        op: form.op.value, args: JSON.parse(form.elements.args.value), target: goal(form), wave_hubs: Number(form.wave_hubs.value),
        success_share: Number(form.success.value) / 100, error_share: Number(form.errors.value) / 100,
      });
      location.hash = `#/rollouts/${made.id}`;
    } catch (error) {
      said(fault)(error);
    }
  });
  async function look() {
    const rows = await get("/v1/rollouts");
    fill(here.querySelector("tbody"), rows.map((row) => [
      link(time(row.made_ms), `#/rollouts/${row.id}`), cell(say(row), "text"), aim(row.target),
      cell(row.state, { running: "wait", paused: "wait", stopped: "bad", done: "good" }[row.state] ?? ""), String(row.waves.length), cell(ratio(row.counts), "text"),
    ]), "Nothing was rolled out yet.");
  }
  look().catch(failed);
  return every(3000, look);
}

function rolloutPage(id) {
  const here = page("rollout");
  const [actions, form] = [here.querySelector(".actions"), here.querySelector("form")];
  const fault = here.querySelector(".fault");
  const act = (word, verb) => button(word, () => { fault.textContent = ""; post(`/v1/rollouts/${id}/${verb}`).then(look).catch(said(fault)); });
  const verbs = { running: [["Pause", "pause"], ["Stop", "stop"]], paused: [["Go on", "resume"], ["Stop", "stop"]], stopped: [["Try again and go on", "retry"]], done: [] };
  let state = null;
  async function look() {
    const row = await get(`/v1/rollouts/${id}`);
    here.querySelector("h2").textContent = `${say(row)}, for ${aim(row.target)}`;
    here.querySelector(".facts").textContent =
      `${row.state}${row.why ? `: ${row.why}` : ""}; begun by ${row.asked_by} ${time(row.made_ms)}; ${row.wave_hubs} hubs a wave, the next once ${Math.round(row.success_share * 100)} % did it, stopped beyond ${Math.round(row.error_share * 100)} % that did not`;
    if (state !== row.state) {
      state = row.state;
      actions.replaceChildren(...(verbs[state] ?? []).flatMap(([word, verb]) => [act(word, verb), " "]));
    }
    bar(here, row.counts);
    fill(here.querySelector("tbody"), row.waves.map((wave, at) => [
      link(`Wave ${at + 1}`, `#/orders/${wave.order_id}`), time(wave.made_ms), String(Object.values(wave.counts).reduce((sum, n) => sum + n, 0)), cell(answers(wave.counts), "text"),
    ]), "No wave has begun yet.");
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wrong = form.querySelector(".fault");
    wrong.textContent = "";
    try {
      const made = await post(`/v1/rollouts/${id}/back`, { args: JSON.parse(form.elements.args.value) });
      location.hash = `#/rollouts/${made.id}`;
    } catch (error) {
      said(wrong)(error);
    }
  });
  look().catch(failed);
  return every(2000, look);
}

function draw(figure, svg, label) {
  const drawn = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  drawn.setAttribute("role", "img");
  drawn.setAttribute("aria-label", label);
  figure.tabIndex = 0; // in a narrow window it is moved sideways
  figure.setAttribute("aria-label", label);
  figure.replaceChildren(document.importNode(drawn, true));
}

function hubPage(name) {
  const here = page("hub");
  const form = here.querySelector("form");
  form.day.value = new Date(Date.now() - new Date().getTimezoneOffset() * 60000).toISOString().slice(0, 10);
  here.querySelector("h2").textContent = name;
  const fault = here.querySelector(".fault");
  here.querySelector(".actions").append(button("Ask it how it is", () => post("/v1/orders", { op: "diagnose", args: { what: "status" }, target: { hub: name } }).then(look).catch(said(fault))));
  async function day() {
    const svg = await (await ask(`/v1/hubs/${name}/day.svg?day=${form.day.value}`)).text();
    draw(here.querySelector(".chart"), svg, `Load of ${name} on ${form.day.value}`);
    const halves = await get(`/v1/hubs/${name}/intervals?day=${form.day.value}`);
    const known = halves.filter((half) => half.energy_wh !== null);
    const others = halves.filter((half) => half.quality !== "measured").length;
    here.querySelector(".halves").textContent = halves.length
      ? `${halves.length} of the day's half-hours: ${(known.reduce((sum, half) => sum + half.energy_wh, 0) / 1000).toFixed(3)} kWh; ${others} not measured`
      : "No half-hours of this day are known.";
  }
  async function look() {
    const [hub, alarms, receipts, events] = await Promise.all([get(`/v1/hubs/${name}`), get(`/v1/alarms?hub=${encodeURIComponent(name)}`), get(`/v1/hubs/${name}/receipts?most=50`), get(`/v1/hubs/${name}/events?most=50`)]);
    here.querySelector(".facts").textContent =
      `${hub.state}, heard ${ago(hub.seen_ms)}; version ${hub.version || "?"}, epoch ${hub.epoch}, start ${hub.boot}; groups: ${hub.groups.join(", ") || "none"}${hub.fault ? `; not believed: ${hub.fault}` : ""}`;
    fill(here.querySelector(".alarms tbody"), alarms.map((alarm) => alarmRow(alarm, look, fault)), "It says nothing.");
    fill(here.querySelector(".receipts tbody"), receipts.map((r) => [
      String(r.i), time(r.iat * 1000), cell(r.status, tone(r.status)), cell(r.reason, "text"), cell(r.fits ? "fits" : "BROKEN", r.fits ? "" : "bad"),
    ]), "None yet.");
    fill(here.querySelector(".events tbody"), events.map((e) => [
      time(e.t_ms), e.event, cell(Object.entries(e.fields).map(([k, v]) => `${k} ${typeof v === "object" ? JSON.stringify(v) : v}`).join(", ").slice(0, 300), "text"),
    ]), "None yet.");
  }
  form.addEventListener("submit", (event) => { event.preventDefault(); day().catch(failed); });
  look().catch(failed);
  day().catch((error) => { error instanceof Denied ? failed(error) : (here.querySelector(".chart").textContent = error.message); });
  return every(3000, look);
}

function certificatesPage() {
  const here = page("certificates");
  const form = here.querySelector("form");
  async function look() {
    const [issuers, rows] = await Promise.all([
      get("/v1/certificates/issuers"), get(`/v1/certificates?most=200&${new URLSearchParams(new FormData(form))}`),
    ]);
    here.querySelector(".facts").textContent =
      Object.entries(issuers).map(([issuer, n]) => `${n} hubs sign with a key of authority ${issuer.slice(0, 8)}`).join(", ") || "No hub has said yet with which key it signs.";
    fill(here.querySelector("tbody"), rows.map((row) => [
      link(row.hub, `#/hubs/${row.hub}`), new Date(row.not_after_s * 1000).toLocaleDateString(),
      cell(row.state, row.state === "in use" ? "good" : ["revoked", "ended"].includes(row.state) ? "bad" : ""),
      row.source, row.issuer.slice(0, 8),
    ]), "No certificate is known of such a hub.");
  }
  form.addEventListener("submit", (event) => { event.preventDefault(); look().catch(failed); });
  look().catch(failed);
  return every(10000, look);
}

function auditPage() {
  const here = page("audit");
  get("/v1/audit").then((rows) => fill(here.querySelector("tbody"), rows.map((row) => [
    time(row.t_ms), row.client, row.action, cell(row.detail, "text"),
  ]), "Nothing yet.")).catch(failed);
  return () => {};
}

function show() {
  leave();
  leave = () => {};
  if (!token) { signIn(); return; }
  const [, kind, name] = location.hash.split("/");
  if (kind === "hubs" && name) leave = hubPage(decodeURIComponent(name));
  else if (kind === "orders" && name) leave = orderPage(name);
  else if (kind === "orders") leave = ordersPage();
  else if (kind === "rollouts" && name) leave = rolloutPage(name);
  else if (kind === "rollouts") leave = rolloutsPage();
  else if (kind === "alarms") leave = alarmsPage();
  else if (kind === "certificates") leave = certificatesPage();
  else if (kind === "audit") leave = auditPage();
  else leave = fleetPage();
  main.focus();
}
document.getElementById("leave").addEventListener("click", () => {
  token = null;
  sessionStorage.removeItem("token");
  document.getElementById("who").textContent = "";
  show();
});
addEventListener("hashchange", show);
show();
