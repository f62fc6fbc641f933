// The console: a page by the part of the address behind "#", for who is signed in.
import { AlarmsPage } from "./pages/alarms.js";
import { AuditPage } from "./pages/audit.js";
import { CertificatesPage } from "./pages/certificates.js";
import { FleetPage } from "./pages/fleet.js";
import { HubPage } from "./pages/hub.js";
import { OrderPage } from "./pages/order.js";
import { OrdersPage } from "./pages/orders.js";
import { RolloutPage } from "./pages/rollout.js";
import { RolloutsPage } from "./pages/rollouts.js";
import { SignIn } from "./pages/sign-in.js";
import { session } from "./session.js";
import { Component, createRef, html, render } from "./view.js";

// Address -> the page of all, the page of one.
const PAGES = {
  fleet: [FleetPage, FleetPage],
  hubs: [FleetPage, HubPage],
  alarms: [AlarmsPage, AlarmsPage],
  orders: [OrdersPage, OrderPage],
  rollouts: [RolloutsPage, RolloutPage],
  certificates: [CertificatesPage, CertificatesPage],
  audit: [AuditPage, AuditPage],
};
const NAVIGATION = [["fleet", "Fleet"], ["alarms", "Alarms"], ["orders", "Orders"], ["rollouts", "Roll-outs"], ["certificates", "Certificates"], ["audit", "Audit"]];

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // an address that somebody cut
  }
}

function placeNow() {
  const [, kind = "", id = ""] = location.hash.split("/");
  return { kind: Object.hasOwn(PAGES, kind) ? kind : "fleet", id: decoded(id) };
}

class Console extends Component {
  #main = createRef();
  state = { place: placeNow() };

  componentDidMount() {
    this.componentDidUpdate();
    addEventListener("hashchange", () => this.setState({ place: placeNow() }, () => this.#main.current.focus()));
    session.addEventListener("change", () => this.setState({}));
  }

  componentDidUpdate() {
    const { kind, id } = this.state.place;
    const [, title] = NAVIGATION.find(([name]) => name === (kind === "hubs" ? "fleet" : kind));
    document.title = session.token ? `${kind === "hubs" && id ? id : title} \u2013 meterhub control point` : "meterhub control point";
  }

  render(_, { place: { kind, id } }) {
    const Shown = PAGES[kind][id ? 1 : 0];
    return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); this.#main.current.focus(); }}>To the content</a>
      <header>
        <h1>meterhub <span>control point</span></h1>
        <nav aria-label="Pages">${NAVIGATION.map(([name, title]) => html`<a key=${name} href=${`#/${name}`}
          aria-current=${session.token && name === (kind === "hubs" ? "fleet" : kind) ? "page" : null}>${title}</a> `)}</nav>
        <p id="who" role="status">${session.notice || session.client}</p>
        ${session.token ? html`<button id="leave" type="button" class="plain" onClick=${() => session.signOut()}>Sign out</button>` : null}
      </header>
      <main id="main" tabindex="-1" ref=${this.#main}>
        ${session.token ? html`<${Shown} key=${`${kind}/${id}`} id=${id} />` : html`<${SignIn} key="sign-in" />`}
      </main>`;
  }
}

render(html`<${Console} />`, document.body);
