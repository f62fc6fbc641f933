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
  main.replaceChildren(document.getElementById(name).content.cloneNode(true));
  for (const link of document.querySelectorAll("nav a")) {
    const at = location.hash.replace("#/hubs", "#/fleet");
    const here = at.startsWith(link.getAttribute("href"));
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  return main;
}
function cell(content, kind = "") {
  const td = document.createElement("td");
  if (kind) td.className = kind;
  content instanceof Node ? td.append(content) : (td.textContent = content ?? "");
  return td;
}
function fill(tbody, rows, empty) {
  tbody.replaceChildren(...rows.map((cells) => {
    const tr = document.createElement("tr");
    tr.append(...cells.map((c) => (c instanceof HTMLTableCellElement ? c : cell(c))));
    return tr;
  }));
  if (!rows.length) {
    const td = cell(empty, "facts");
    td.colSpan = 9;
    tbody.append(document.createElement("tr"));
    tbody.lastChild.append(td);
  }
}
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

function fleetPage() {
  const here = page("fleet");
  const form = here.querySelector("form");
  const tbody = here.querySelector("tbody");
  async function look() {
    const [figures, hubs] = await Promise.all([get("/v1/fleet"), get(`/v1/hubs?most=500&${new URLSearchParams(new FormData(form))}`)]);
    const tiles = { Hubs: figures.hubs, Online: figures.online, Offline: figures.offline, "Never seen": figures.never_seen, Readings: figures.readings, "Not believed": figures.faults, "Chains broken": figures.chains_broken };
    here.querySelector("dl").replaceChildren(...Object.entries(tiles).map(([name, value]) => {
      const div = document.createElement("div");
      const dt = document.createElement("dt");
      const dd = document.createElement("dd");
      dt.textContent = name;
      dd.textContent = value.toLocaleString();
      if (value && ["Not believed", "Chains broken"].includes(name)) dd.className = "bad";
      div.append(dt, dd);
      return div;
    }));
    fill(tbody, hubs.map((hub) => [
      link(hub.hub, `#/hubs/${hub.hub}`), cell(hub.state, tone(hub.state)), ago(hub.seen_ms), hub.version,
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

const aim = (target) => target.hub ?? (target.group ? `group ${target.group}` : target.all ? "all" : JSON.stringify(target.where));
const say = (order) => `${order.op} ${Object.entries(order.args).map(([k, v]) => `${k} ${typeof v === "object" ? JSON.stringify(v) : v}`).join(", ")}`;
const answers = (counts) => Object.entries(counts).map(([status, n]) => `${n} ${status}`).join(", ");

function ordersPage() {
  const here = page("orders");
  const form = here.querySelector("form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fault = form.querySelector(".fault");
    fault.textContent = "";
    const kind = form.kind.value;
    const target = kind === "all" ? { all: true } : { [kind]: form.elements.name.value };
    try {
      const made = await post("/v1/orders", {
        op: "limit", target, valid_s: 300,
        args: { watts: Number(form.watts.value), duration: Number(form.minutes.value) * 60 },
      });
      location.hash = `#/orders/${made.id}`;
    } catch (error) {
      error instanceof Denied ? failed(error) : (fault.textContent = error.message);
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

function orderPage(id) {
  const here = page("order");
  const actions = here.querySelector(".actions");
  function act(word, path) {
    const button = document.createElement("button");
    button.textContent = word;
    button.addEventListener("click", () => post(path).then(look).catch((error) => { actions.append(` ${error.message}`); }));
    return button;
  }
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
    const total = Object.values(order.counts).reduce((sum, n) => sum + n, 0) || 1;
    const spread = here.querySelector(".spread");
    spread.setAttribute("aria-label", answers(order.counts));
    spread.replaceChildren(...Object.entries(order.counts).map(([status, n]) => {
      const part = document.createElement("i");
      part.className = `s-${status}`;
      part.style.width = `${(100 * n) / total}%`;
      return part;
    }));
    here.querySelector(".legend").replaceChildren(...Object.entries(order.counts).map(([status, n]) => {
      const li = document.createElement("li");
      const mark = document.createElement("b");
      mark.className = `s-${status}`;
      li.append(mark, `${n} ${status}`);
      return li;
    }));
    if (!waiting && order.sent_ms && looks++ % 3 === 0) {
      const seconds = Math.min(3600, Math.max(10, Math.ceil((Date.now() - order.sent_ms) / 1000)));
      const svg = await (await ask(`/v1/orders/${id}/spread.svg?seconds=${seconds}`)).text();
      draw(here.querySelector(".chart"), svg, "How the order reached its hubs");
    }
    fill(here.querySelector("tbody"), order.answers.map((answer) => [
      link(answer.hub, `#/hubs/${answer.hub}`), cell(answer.status, tone(answer.status)), cell(answer.reason, "text"),
      `${answer.tries} times`, ago(answer.heard_ms),
    ]), "No hub is meant.");
  }
  look().catch(failed);
  return every(1000, look);
}

function draw(figure, svg, label) {
  const drawn = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  drawn.setAttribute("role", "img");
  drawn.setAttribute("aria-label", label);
  figure.replaceChildren(document.importNode(drawn, true));
}

function hubPage(name) {
  const here = page("hub");
  const form = here.querySelector("form");
  form.day.value = new Date(Date.now() - new Date().getTimezoneOffset() * 60000).toISOString().slice(0, 10);
  here.querySelector("h2").textContent = name;
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
    const [hub, receipts, events] = await Promise.all([get(`/v1/hubs/${name}`), get(`/v1/hubs/${name}/receipts?most=50`), get(`/v1/hubs/${name}/events?most=50`)]);
    here.querySelector(".facts").textContent =
      `${hub.state}, heard ${ago(hub.seen_ms)}; version ${hub.version || "?"}, epoch ${hub.epoch}, start ${hub.boot}; groups: ${hub.groups.join(", ") || "none"}${hub.fault ? `; not believed: ${hub.fault}` : ""}`;
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
  else if (kind === "certificates") leave = certificatesPage();
  else if (kind === "audit") leave = auditPage();
  else leave = fleetPage();
  main.focus();
}
addEventListener("hashchange", show);
show();
