// Preact and htm (docs/decisions/console.md): what a page says in html`...` becomes elements; whatever is put into one is
// text, never HTML. The browser enforces that: the service's headers let no text become HTML (Trusted Types).
import { Component, createRef, h, render } from "./parts/preact.js";
import htm from "./parts/htm.js";

export const html = htm.bind(h);
export { Component, createRef, render };
