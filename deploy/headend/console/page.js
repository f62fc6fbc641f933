// What all pages have in common: they ask for what they show, and ask again.
import { Denied } from "./api.js";
import { session } from "./session.js";
import { Component, html } from "./view.js";

const REST = 4; // a look that took long is followed by a rest so many times as long: a big fleet's service has other work

export function failed(error) {
  error instanceof Denied ? session.signOut() : session.notify(error.message);
}

/** A page says `everyMs`, `look()` (asks, and returns what goes into its state) and `view(state)`. Until it has looked for
 * the first time it says why it could not, if so. What is under way counts no more once the page was left, or asked for
 * something else. */
export class Page extends Component {
  everyMs = 3000;
  #timer = 0;
  #asked = 0;
  state = { isThere: false, fault: "", trouble: "" };

  componentDidMount() { this.again(); }
  componentWillUnmount() {
    clearTimeout(this.#timer);
    this.#asked = -1;
  }

  /** Look now, whatever the timer says. */
  again = async () => {
    if (this.#asked < 0) return;
    clearTimeout(this.#timer);
    const asked = ++this.#asked;
    const began = performance.now();
    try {
      // Nobody sees a page behind another: the last look holds until it is in front again.
      const found = document.hidden && this.state.isThere ? {} : await this.look();
      if (asked !== this.#asked) return;
      this.setState({ ...found, isThere: true, trouble: "" });
      session.notify("");
    } catch (error) {
      if (asked !== this.#asked) return;
      this.setState({ trouble: error.message });
      failed(error);
    }
    this.#timer = setTimeout(this.again, Math.max(this.everyMs, REST * (performance.now() - began)));
  };

  /** Do what a person asked for, and look again; what is wrong with it stands in the state under that name. */
  act = async (does, faultAt = "fault") => {
    this.setState({ [faultAt]: "" });
    try {
      await does();
    } catch (error) {
      if (error instanceof Denied) failed(error);
      else this.setState({ [faultAt]: error.message });
      return;
    }
    await this.again();
  };

  async look() { return {}; }
  view() { return null; }
  render() { return this.state.isThere ? this.view(this.state) : html`<p class="fault" role="alert">${this.state.trouble}</p>`; }
}
