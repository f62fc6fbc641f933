// What forms have in common.
import { html } from "./view.js";

/** The form's fields by name, as text. */
export const said = (form) => Object.fromEntries(new FormData(form));
/** A handler of "submit": `does` gets what was said; the page stays. */
export const submitted = (does) => (event) => {
  event.preventDefault();
  does(said(event.currentTarget));
};
/** Whom it is for, out of the fields of `Aim`. */
export const goal = ({ kind, name }) => (kind === "all" ? { all: true } : { [kind]: name });

export const Fault = ({ text }) => html`<p class="fault" role="alert">${text}</p>`;

export const Aim = () => html`
  <label>For <select name="kind"><option value="all">all hubs</option><option value="group">a group</option><option value="hub">one hub</option></select></label>
  <label>Name <input name="name" placeholder="group or hub" /></label>`;
