import { Fault, submitted } from "../form.js";
import { session } from "../session.js";
import { Component, createRef, html } from "../view.js";

export class SignIn extends Component {
  #first = createRef();
  state = { fault: "" };

  componentDidMount() { this.#first.current.focus(); }

  #enter = submitted(async ({ client_id, client_secret }) => {
    try {
      if (!(await session.signIn(client_id, client_secret))) this.setState({ fault: "That client and secret are not known here." });
    } catch (error) {
      this.setState({ fault: error.message });
    }
  });

  render(_, { fault }) {
    return html`<form class="card narrow" onSubmit=${this.#enter}>
      <h2>Sign in</h2>
      <label>Client <input name="client_id" autocomplete="username" required ref=${this.#first} /></label>
      <label>Secret <input name="client_secret" type="password" autocomplete="current-password" required /></label>
      <button>Sign in</button>
      <${Fault} text=${fault} />
    </form>`;
  }
}
