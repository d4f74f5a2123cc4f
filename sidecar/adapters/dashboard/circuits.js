// The list of circuits: a row each, with what is wrong, what clients get, and the buttons.

import { call } from "./api.js";
import { Sparkline } from "./charts.js";
import { byId, clock, count, h, percent, rate, setText, total } from "./format.js";
import { clientsGet, duration, isBroken, next, severity, stateWord, why, windowWords } from "./words.js";

const FEW = matchMedia("(width < 600px)").matches ? 15 : 50;
const EVENTS_SHOWN = 5;
/** Buckets, as in the sidecar. */
const LATELY = 3;

const byName = (a, b) => a.report.name.localeCompare(b.report.name, undefined, { numeric: true });
const failureRate = ({ report, traffic }) => (traffic?.window ?? report.window).failure_rate;
const requests = ({ traffic }) => total(Object.values(traffic?.lately ?? {}));

const ORDERS = {
  worst: (a, b) => severity(b) - severity(a) || byName(a, b),
  name: byName,
  requests: (a, b) => requests(b) - requests(a) || byName(a, b),
  failures: (a, b) => failureRate(b) - failureRate(a) || byName(a, b),
};

/** `actions`: force(name, mode), release(name), reset(name). */
export class CircuitList {
  constructor(actions) {
    this.actions = actions;
    this.rows = new Map();
    this.all = false;
    this.place = byId("circuits");
    this.place.addEventListener("keydown", (event) => this.walk(event));
    byId("more").addEventListener("click", () => {
      this.all = true;
      this.again();
    });
    for (const id of ["search", "sort"]) byId(id).addEventListener("input", () => this.again());
  }

  /** Show `circuits` as they are at `now`; `seconds` is how long what is counted as `lately` took. */
  show(circuits, now, seconds) {
    this.latest = [circuits, now, seconds];
    const word = byId("search").value.trim().toLowerCase();
    const found = circuits.filter(({ report }) => matches(report, word)).sort(ORDERS[byId("sort").value]);
    const shown = this.all ? found : found.slice(0, FEW);
    this.arrange(shown);
    for (const circuit of shown) this.rows.get(circuit.report.name).update(circuit, now, seconds);
    this.tellHowMany(circuits.length, found.length, shown.length);
  }

  again() {
    if (this.latest) this.show(...this.latest);
  }

  arrange(shown) {
    const focused = document.activeElement;
    const names = new Set(shown.map(({ report }) => report.name));
    for (const [name, row] of this.rows) {
      if (!names.has(name)) {
        row.element.remove();
        this.rows.delete(name);
      }
    }
    shown.forEach(({ report: { name } }, at) => {
      if (!this.rows.has(name)) this.rows.set(name, new Row(name, this.actions));
      const { element } = this.rows.get(name);
      if (this.place.children[at] !== element) this.place.insertBefore(element, this.place.children[at] ?? null);
    });
    // Moving an element takes the focus from what is in it.
    if (focused !== document.activeElement && this.place.contains(focused)) focused.focus({ preventScroll: true });
  }

  tellHowMany(all, found, shown) {
    const which = found === all ? "" : ` that match, of ${all}`;
    setText(byId("shown"), shown < found ? `Showing ${shown} of ${found} circuits${which}` : `${count(found, "circuit")}${which}`);
    byId("more").hidden = shown === found;
    setText(byId("more"), `Show all ${found}`);
  }

  /** Up and down go from name to name. */
  walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.classList.contains("name")) return;
    event.preventDefault();
    const names = [...this.place.querySelectorAll(".name")];
    names[names.indexOf(event.target) + step]?.focus();
  }
}

function matches(report, word) {
  return !word || [report.name, report.upstream, stateWord(report.effective_state)].some((text) =>
    text.toLowerCase().includes(word));
}

class Row {
  constructor(name, actions) {
    this.name = name;
    const id = `circuit-${name}`;
    this.badge = h("span", { class: "badge" });
    this.for = h("span", { class: "for" });
    this.why = h("p", { class: "why" });
    this.gets = h("p", { class: "gets" });
    this.next = h("p", { class: "next" });
    this.failures = new Measure("failures", "failing");
    this.requests = new Measure("requests", "requests");
    this.window = h("p", { class: "window" });
    this.details = h("div", { class: "details", hidden: true });
    this.toggle = h("button", { type: "button", class: "name", id, "aria-expanded": "false", onclick: () => this.open() }, name);
    const button = (label, act) => h("button", { type: "button", "aria-describedby": id, onclick: act }, label);
    this.release = button("Automatic", () => actions.release(name));
    this.element = h("li", { class: "circuit" },
      h("div", { class: "head" }, this.badge, h("h3", {}, this.toggle), this.for),
      h("div", { class: "story" }, this.why, this.gets, this.next),
      this.failures.element,
      this.requests.element,
      this.window,
      h("div", { class: "actions" },
        button("Force open", () => actions.force(name, "forced_open")),
        button("Force closed", () => actions.force(name, "forced_closed")),
        this.release,
        button("Reset", () => actions.reset(name))),
      this.details);
  }

  update(circuit, now, seconds) {
    const { report, traffic } = circuit;
    this.report = report;
    const state = report.effective_state;
    this.element.className = `circuit ${state}${isBroken(circuit) ? " broken" : ""}`;
    this.badge.className = `badge ${state}`;
    setText(this.badge, stateWord(state));
    setText(this.for, `for ${duration(circuit, now)}`);
    setText(this.why, why(circuit));
    setText(this.gets, clientsGet(circuit, seconds));
    setText(this.next, next(circuit, now));
    setText(this.window, `window: ${windowWords(circuit)}`);
    this.release.disabled = !report.override;
    if (traffic !== this.drawn) this.draw(traffic, seconds);
    if (!this.details.hidden && report !== this.told) this.tell(report);
  }

  draw(traffic, seconds) {
    this.drawn = traffic;
    const judged = traffic?.judged ?? [];
    const shares = judged.map((number, at) => (number ? traffic.failures[at] / number : null));
    const [calls, failed] = [judged, traffic?.failures ?? []].map((numbers) => total(numbers.slice(-LATELY)));
    this.failures.update(shares, calls ? percent(failed / calls) : "–");
    const most = Math.max(1, ...(traffic?.requests ?? []));
    this.requests.update((traffic?.requests ?? []).map((number) => number / most), rate(requests({ traffic }) / seconds));
  }

  open() {
    this.details.hidden = !this.details.hidden;
    this.toggle.setAttribute("aria-expanded", String(!this.details.hidden));
    if (!this.details.hidden) this.tell(this.report);
  }

  /** Fill the details; the events come when they come. */
  async tell(report) {
    this.told = report;
    const events = h("ol", { class: "events" });
    this.details.replaceChildren(...detailsOf(report), h("h4", {}, "Its last events"), events);
    const path = `v1/events?circuit=${encodeURIComponent(this.name)}&limit=${EVENTS_SHOWN}`;
    const told = await call("GET", path).catch(() => ({ events: [] }));
    events.append(...told.events.reverse().map((event) => h("li", {}, h("time", {}, clock(event.at)), ` ${event.message}`)));
    if (!told.events.length) events.replaceWith(h("p", {}, "none"));
  }
}

/** A sparkline with its newest number. */
class Measure {
  constructor(kind, label) {
    this.label = label;
    this.spark = new Sparkline(kind);
    this.number = h("b");
    this.element = h("p", { class: `measure ${kind}` }, this.spark.element, this.number, ` ${label}`);
  }

  update(shares, number) {
    setText(this.number, number);
    this.spark.update(shares, `${this.label} over ten minutes, now ${number}`);
  }
}

function detailsOf(report) {
  const facts = [
    ["upstream", report.upstream],
    ["automatic state", `${stateWord(report.state)} since ${clock(report.since)}`],
    ["mode", report.mode],
    ["configured at", report.config_ref],
    ["last probe", report.last_probe && `${report.last_probe.outcome} ${report.last_probe.error ?? report.last_probe.status ?? ""} at ${clock(report.last_probe.at)}`],
    ["reopened", report.reopenings ? `${count(report.reopenings, "time")} in a row` : null],
    ["observed", report.mode === "observe" || report.override?.mode === "observe" ? report.would_have.sentence : null],
  ].filter(([, value]) => value);
  return [
    h("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    report.trip ? tripOf("Why it opened", report.trip) : null,
    report.last_trip ? tripOf("The trip before, from which it recovered", report.last_trip) : null,
  ].filter(Boolean);
}

function tripOf(title, trip) {
  const where = trip.config_ref ? `, decided by ${trip.config_ref}` : "";
  return h("div", {}, h("h4", {}, title), h("p", {}, `${trip.detail} at ${clock(trip.at)}${where}`), samplesOf(trip.samples));
}

/** The requests that failed or were slow. */
export function samplesOf(samples) {
  if (!samples.length) return null;
  const rows = samples.map((each) => h("tr", {},
    ...[clock(each.at), `${each.method} ${each.path}`, each.error ?? each.status ?? "in flight",
      `${Math.round(each.duration_ms)} ms`, each.request_id].map((cell) => h("td", {}, String(cell)))));
  const titles = ["time", "request", "met", "took", "request id"].map((title) => h("th", { scope: "col" }, title));
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "failing requests" },
    h("table", {}, h("thead", {}, h("tr", {}, ...titles)), h("tbody", {}, ...rows)));
}
