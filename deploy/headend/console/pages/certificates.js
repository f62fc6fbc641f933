import { get } from "../api.js";
import { submitted } from "../form.js";
import { Page } from "../page.js";
import { cell, link, Table } from "../table.js";
import { html } from "../view.js";
import { day, hubPlace, hubs, tone } from "../words.js";

const short = (issuer) => issuer.slice(0, 8);

/** Hubs' certificates, and which authority certified how many. */
export class CertificatesPage extends Page {
  everyMs = 10000;
  #filter = {};

  async look() {
    const [issuers, rows] = await Promise.all([get("/v1/certificates/issuers"), get("/v1/certificates", { most: 200, ...this.#filter })]);
    return { issuers, rows };
  }

  #show = submitted((filter) => {
    this.#filter = filter;
    this.again();
  });

  view({ issuers, rows }) {
    const said = Object.entries(issuers).map(([issuer, n]) => `${hubs(n)} ${n === 1 ? "signs" : "sign"} with a key of authority ${short(issuer)}`).join(", ");
    return html`<h2>Certificates</h2>
      <p class="facts">${said || "No hub has said yet with which key it signs."}</p>
      <form class="filter" role="search" onSubmit=${this.#show}><label>Hub <input name="hub" type="search" /></label> <button>Show</button></form>
      <${Table} caption="The ones that end first" heads=${["Hub", "Ends", "State", "From", "Authority"]} empty="No certificate is known of such a hub."
        rows=${rows.map((row) => [
          row.kid, link(row.hub, hubPlace(row.hub)), day(row.not_after_s), cell(row.state, tone(row.state)), row.source, short(row.issuer),
        ])} />`;
  }
}
