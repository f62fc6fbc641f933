// Lines over time, drawn by uPlot: the colours of the page, a legend that shows and hides, values by the arrow keys, and
// a table of the same for who sees no picture.
import uPlot from "./parts/uplot.js";
import { Table } from "./table.js";
import { Component, createRef, html } from "./view.js";

const HEIGHT = 320;
const NARROW = 480; // pixels: the legend alone says then what the axes are of
const LINES = 8; // colours in console.css
const FEW = 60; // points that are seen each
const STEPS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity };
const dark = matchMedia("(prefers-color-scheme: dark)");

/** `lines`: `{label, points: [[x, y or null], ...], say(y), isStepped, isLimit, onRight}`; a null ends a line there.
 * `say(y)` is the value with its unit; `sayX(x)` the place. `clock`: a time zone where x is UTC epoch seconds, else x is
 * a figure. `fromX`, `toX`: the window. `axes`: what the left and the right one say. `rows`, `heads`: the table. */
export class Chart extends Component {
  #place = createRef();
  #plot = null;
  #observer = null;
  #isNarrow = false;
  #isMoved = false; // by the keyboard, or with its data
  state = { x: null, hidden: [] };

  componentDidMount() {
    this.#observer = new ResizeObserver(() => {
      if (this.#isNarrow !== this.#width() < NARROW) this.#draw();
      else this.#change(() => this.#plot.setSize({ width: this.#width(), height: HEIGHT }));
    });
    dark.addEventListener("change", this.#draw);
    this.#draw();
    this.#observer.observe(this.#place.current);
  }

  componentDidUpdate(before) {
    if (this.#shape(before) !== this.#shape(this.props)) { this.#draw(); return; }
    if (before.lines === this.props.lines) return;
    this.#change(() => {
      this.#plot.setData(this.#columns(), false);
      this.#plot.setScale("x", { min: this.props.fromX, max: this.props.toX });
    });
  }

  componentWillUnmount() {
    dark.removeEventListener("change", this.#draw);
    this.#observer.disconnect();
    this.#plot?.destroy();
  }

  #width() { return Math.max(200, this.#place.current.clientWidth); }
  #shape({ lines, clock }) { return JSON.stringify([lines.map(({ label, onRight, isLimit }) => [label, onRight, isLimit]), clock]); }
  #columns() { return uPlot.join(this.props.lines.map(({ points }) => [points.map(([x]) => x), points.map(([, y]) => y)])); }

  #draw = () => {
    const { lines, clock, axes } = this.props;
    const style = getComputedStyle(this.#place.current);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "13px system-ui, sans-serif", labelFont: "13px system-ui, sans-serif" };
    const upTo = (_plot, low, high) => [Math.min(0, low ?? 0), Math.max(1, (high ?? 1) * 1.05)];
    const figures = (_plot, splits) => splits.map((value) => value?.toLocaleString(undefined, Math.abs(value) < 1e5 ? {} : { notation: "compact" }) ?? "");
    const hasRight = lines.some(({ onRight }) => onRight);
    this.#isNarrow = this.#width() < NARROW;
    const side = (label, size) => (this.#isNarrow ? { size } : { size, label });
    const options = {
      width: this.#width(), height: HEIGHT, legend: { show: false },
      ...(clock ? { tzDate: (s) => uPlot.tzDate(new Date(s * 1000), clock) } : {}),
      scales: { x: { time: Boolean(clock), range: () => [this.props.fromX, this.props.toX] }, left: { range: upTo }, right: { range: upTo } },
      axes: [
        { ...axis, ...(clock ? { values: [[3600, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] } : { label: axes.x, size: 34, labelSize: 24 }) },
        { ...axis, scale: "left", ...side(axes.left, 56), values: figures, incrs: axes.isWhole ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 1000000] : undefined },
        ...(hasRight ? [{ ...axis, scale: "right", side: 1, ...side(axes.right, 60), values: figures, grid: { show: false } }] : []),
      ],
      series: [{}, ...lines.map((line, at) => ({
        label: line.label, scale: line.onRight ? "right" : "left", show: !this.state.hidden.includes(line.label),
        stroke: colour(line.isLimit ? "limit" : `line-${(at % LINES) + 1}`), width: line.isLimit ? 3 : 2,
        dash: line.isLimit ? [8, 5] : undefined, points: { show: (_plot, n) => this.#hasFew(n - 1), size: 5 },
        paths: line.isStepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
      }))],
      cursor: { drag: { x: false, y: false }, points: { size: 8 } },
      hooks: { setCursor: [(plot) => {
        const x = plot.data[0][plot.cursor.idx] ?? null;
        if (!this.#isMoved && x !== this.state.x) this.setState({ x });
      }] },
    };
    this.#change(() => {
      this.#plot?.destroy();
      this.#plot = new uPlot(options, this.#columns(), this.#place.current);
    });
  };

  #toggle = (label) => {
    const hidden = this.state.hidden.includes(label) ? this.state.hidden.filter((each) => each !== label) : [...this.state.hidden, label];
    this.setState({ hidden });
    this.#plot.setSeries(this.props.lines.findIndex((line) => line.label === label) + 1, { show: !hidden.includes(label) });
  };

  #key = (event) => {
    if (event.target !== event.currentTarget || !(event.key in STEPS)) return;
    event.preventDefault();
    const xs = this.#places();
    const from = this.state.x === null ? xs.length : this.#nearest(xs, this.state.x);
    this.#moveTo(xs[Math.min(xs.length - 1, Math.max(0, from + STEPS[event.key]))]);
  };

  #hasFew(at) {
    const { points, isStepped } = this.props.lines[at];
    return points.length < FEW && !isStepped;
  }

  #places() { return this.#plot.data[0].filter((x) => x >= this.props.fromX && x <= this.props.toX); }
  #nearest(xs, x) { return xs.reduce((best, each, at) => (Math.abs(each - x) < Math.abs(xs[best] - x) ? at : best), 0); }

  /** Who is at a point stays at that one, or at the one beside it, when the next look or another width comes. */
  #change(does) {
    const { x } = this.state;
    this.#isMoved = true;
    does();
    // uPlot draws in a microtask of its own, which was queued before this one.
    queueMicrotask(() => {
      this.#isMoved = false;
      const xs = this.#places();
      if (x !== null && xs.length) this.#moveTo(xs[this.#nearest(xs, x)]);
    });
  }

  #moveTo(x) {
    // At its very edge uPlot sees no cursor: what is there is known here.
    const left = Math.min(this.#plot.over.clientWidth - 1, Math.max(0, this.#plot.valToPos(x, "x")));
    this.#isMoved = true;
    this.#plot.setCursor({ left, top: 10 });
    this.#isMoved = false;
    if (x !== this.state.x) this.setState({ x });
  }

  /** The value that holds at the cursor: the last one of the line up to there. */
  #held(points, x) {
    let found = null;
    for (const [when, value] of points) {
      if (when > x) break;
      found = value;
    }
    return found;
  }

  render({ label, lines, summary, sayX, rows, heads }, { x, hidden }) {
    const values = x === null ? [] : lines.map((line) => this.#held(line.points, x));
    const words = values.flatMap((value, each) => (value === null ? [] : [`${lines[each].label}: ${lines[each].say(value)}`]));
    return html`<figure class="chart">
      <div class="plot" tabindex="0" role="group" aria-label=${`${label}. The arrow keys move through it.`} onKeyDown=${this.#key}>
        <div ref=${this.#place} aria-hidden="true"></div>
      </div>
      <p class="hidden" aria-live="polite">${words.length ? `${sayX(x)}: ${words.join("; ")}` : ""}</p>
      <ul class="legend lines">${lines.map((line, each) => html`<li key=${line.label}>
        <button type="button" class="plain" aria-pressed=${String(!hidden.includes(line.label))} onClick=${() => this.#toggle(line.label)}>
          <b class=${line.isLimit ? "limit" : `line-${(each % LINES) + 1}`}></b>${line.label}</button>
        <output>${values[each] === null || values[each] === undefined ? "" : line.say(values[each])}</output></li>`)}
        <li class="facts">${x === null ? "" : sayX(x)}</li></ul>
      <figcaption>${summary}</figcaption>
      <details><summary>The same as a table</summary><${Table} caption=${label} heads=${heads} rows=${rows} empty="Nothing yet." /></details>
    </figure>`;
  }
}
