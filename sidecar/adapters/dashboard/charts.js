// Pictures in SVG. They are stretched to their place; words and numbers stand beside them as text.

import { svg, h, setText, total } from "./format.js";

const POINTS = 60;
const WIDTH = 600;
const HEIGHT = 100;

/** Where the point of a bucket stands; the newest is at the right edge. */
const x = (at, length) => ((POINTS - length + at) / (POINTS - 1)) * WIDTH;
const y = (share) => HEIGHT - Math.min(1, share) * (HEIGHT - 2) - 1;
const place = (at, length, share) => `${x(at, length).toFixed(1)} ${y(share).toFixed(1)}`;

function canvas(label, ...children) {
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    ...children);
}

/** The path through shares 0–1; null is a gap. */
function line(shares) {
  let drawn = false;
  return shares.map((share, at) => {
    const command = share == null ? "" : `${drawn ? "L" : "M"}${place(at, shares.length, share)}`;
    // A point without neighbours would be invisible: it gets a short line of its own.
    const alone = share != null && !drawn && shares[at + 1] == null ? "h-6" : "";
    drawn = share != null;
    return command + alone;
  }).join("");
}

/** The area between two rows of shares. */
function band(below, above) {
  const length = above.length;
  if (!length) return "";
  if (length === 1) return band([below[0], below[0]], [above[0], above[0]]);
  const top = above.map((share, at) => place(at, length, share));
  const bottom = below.map((share, at) => place(at, length, share)).reverse();
  return `M${[...top, ...bottom].join("L")}Z`;
}

/** A small picture of one row of numbers; `update(shares, label)` draws it anew. */
export class Sparkline {
  constructor(kind) {
    this.area = svg("path", { class: "spark-area" });
    this.path = svg("path", { class: "spark-line" });
    this.element = canvas("", this.area, this.path);
    this.element.setAttribute("class", `spark ${kind}`);
  }

  update(shares, label) {
    this.element.setAttribute("aria-label", label);
    this.path.setAttribute("d", line(shares));
    this.area.setAttribute("d", band(shares.map(() => 0), shares.map((share) => share ?? 0)));
  }
}

/** A picture with a scale at its top and times below. */
class Chart {
  constructor(place, label) {
    this.scale = h("span", { class: "scale" });
    this.shapes = svg("g");
    this.begin = h("span");
    this.picture = canvas(label, this.shapes);
    place.append(this.scale, this.picture, h("p", { class: "times" }, this.begin, h("span", {}, "now")));
  }

  draw(paths, scale, label) {
    this.shapes.replaceChildren(...paths);
    setText(this.scale, scale);
    setText(this.begin, "10 min ago");
    this.picture.setAttribute("aria-label", label);
  }
}

/** Rates of several kinds on top of each other. `rows`: [kind, rates], from the bottom up. */
export class StackedChart extends Chart {
  update(rows, unit, label) {
    const length = rows[0]?.[1].length ?? 0;
    const sums = Array.from({ length }, (_, at) => total(rows.map(([, rates]) => rates[at])));
    const most = Math.max(...sums, 0.001);
    let below = new Array(length).fill(0);
    const paths = rows.map(([kind, rates]) => {
      const above = below.map((share, at) => share + rates[at] / most);
      const path = svg("path", { class: `band source-${kind}`, d: band(below, above) });
      below = above;
      return path;
    });
    this.draw(paths, unit(most), label);
  }
}

/** Several lines over one scale. `rows`: [kind, numbers with null for gaps]; `most` is the top, found when absent. */
export class LineChart extends Chart {
  update(rows, unit, label, most = Math.max(0.001, ...rows.flatMap(([, numbers]) => numbers))) {
    const paths = rows.map(([kind, numbers]) =>
      svg("path", { class: `line ${kind}`, d: line(numbers.map((number) => (number == null ? null : number / most))) }));
    this.draw(paths, unit(most), label);
  }
}
