// Elements, and numbers as people read them.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (`on…` functions are listeners, `false` and null leave one out) and children. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for an element of a picture. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Change a text only where it differs, so that nothing is announced or laid out again for nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const byId = (id) => document.getElementById(id);

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** Seconds in their two largest units, or so many: `2 min 13 s`. */
export function span(seconds, units = 2) {
  let left = Math.max(0, Math.round(seconds));
  const first = UNITS.findIndex(([, size]) => left >= size);
  if (first < 0) return "0 s";
  const parts = [];
  for (const [unit, size] of UNITS.slice(first, first + units)) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count) parts.push(`${count} ${unit}`);
  }
  return parts.join(" ");
}

/** The time of day of an RFC 3339 time, with the date unless that is today. */
export function clock(time) {
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString() : date.toLocaleString();
}

export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

export function rate(perSecond) {
  if (perSecond === 0) return "0/s";
  return perSecond < 0.1 ? `${(perSecond * 60).toFixed(1)}/min` : `${short(perSecond)}/s`;
}

export function percent(share) {
  const value = share * 100;
  return `${value > 0 && value < 10 ? value.toFixed(1).replace(".0", "") : Math.round(value)} %`;
}

export function milliseconds(seconds) {
  if (seconds == null) return "–";
  return seconds < 1 ? `${short(seconds * 1000)} ms` : `${short(seconds)} s`;
}

const SIZES = ["B", "KiB", "MiB", "GiB"];

export function bytes(number) {
  const power = Math.min(SIZES.length - 1, Math.floor(Math.log2(Math.max(number, 1)) / 10));
  return `${short(number / 1024 ** power)} ${SIZES[power]}`;
}

function short(number) {
  return number < 10 ? String(Math.round(number * 10) / 10) : String(Math.round(number));
}

export const total = (numbers) => numbers.reduce((sum, number) => sum + number, 0);
