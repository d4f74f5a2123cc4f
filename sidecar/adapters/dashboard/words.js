// What a circuit's report means, in words. `now` is the sidecar's time, in milliseconds.

import { clock, count, percent, rate, span, total } from "./format.js";

const STATES = {
  open: "open",
  half_open: "half-open",
  closed: "closed",
  forced_open: "forced open",
  forced_closed: "forced closed",
  observe: "observing",
};

/** Sources of answers: in a legend, and as what clients get. */
export const SOURCES = {
  upstream: ["upstream", "the upstream's answer"],
  cache: ["cache", "a stored answer"],
  stale: ["stale", "a stale answer"],
  fallback: ["fallback", "the fallback"],
  circuit: ["circuit (503)", "503 from the circuit"],
  bulkhead: ["bulkhead (503)", "503 from the bulkhead"],
  rate_limit: ["rate limit (429)", "429 from the rate limit"],
  fault: ["injected fault", "an injected fault"],
  error: ["error (5xx)", "an error (502, 504)"],
  sidecar: ["sidecar itself", "the sidecar's own answer"],
};

/** The order in which answers are stacked: the good ones below. */
export const STACKED = Object.keys(SOURCES);

const sourceWords = (source) => SOURCES[source] ?? [source, source];
export const legendOf = (source) => sourceWords(source)[0];

const until = (time, now) => span((Date.parse(time) - now) / 1000);

export const stateWord = (state) => STATES[state] ?? state;

/** How bad a circuit is; the worst has the highest number. */
export function severity({ report, traffic }) {
  const ranks = { open: 6, forced_open: 5, half_open: 4, forced_closed: 3, observe: 3 };
  if (ranks[report.effective_state]) return ranks[report.effective_state];
  if (report.state !== "closed") return 3;
  const window = traffic?.window ?? report.window;
  return window.failure_rate > 0 || window.consecutive_failures > 0 ? 1 : 0;
}

export const isBroken = ({ report }) => ["open", "forced_open", "half_open"].includes(report.effective_state);

/** Since when it is as it is: an outage began with the trip, whatever probes have met since. */
export function duration(circuit, now) {
  const { override, trip, since: time } = circuit.report;
  // To the second only where it matters: hundreds of texts that change each second would keep the browser busy.
  return span((now - Date.parse(override?.set_at ?? trip?.at ?? time)) / 1000, isBroken(circuit) ? 2 : 1);
}

/** Why it is not closed; "" when nothing is to be said. */
export function why({ report }) {
  const { override, trip, last_probe: probe } = report;
  if (override) {
    const who = override.actor ? ` by ${override.actor}` : "";
    return `Forced${who}${override.reason ? `: ${override.reason}` : ", without a reason given"}`;
  }
  if (!trip) return "";
  const failed = probe?.outcome === "failure" && probe.at > trip.at;
  return `${sentence(trip.detail)}${failed ? `; the last probe met ${probe.error ?? probe.status}` : ""}`;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** When it will be tried again, or when an override ends. */
export function next({ report }, now) {
  const { override, state } = report;
  if (override) {
    const end = override.expires_at
      ? `until ${clock(override.expires_at)} (${until(override.expires_at, now)} left)`
      : "until somebody ends it";
    return `${end}; underneath it is ${stateWord(state)}`;
  }
  if (report.mode === "off") return "the breaker is off";
  if (state === "half_open") {
    const probes = report.probes_in_flight ? `${count(report.probes_in_flight, "probe")} under way` : "waiting for a probe";
    return `${probes}, ${report.probe_successes} succeeded`;
  }
  if (state !== "open") return "";
  const left = (Date.parse(report.next_probe_at) - now) / 1000;
  const tried = report.reopenings ? ` (${count(report.reopenings, "time")} in vain so far)` : "";
  return left > 0 ? `next probe in ${span(left)}${tried}` : `the next request is a probe${tried}`;
}

/** What clients got lately: the shares of those who answered, the greatest first. */
export function clientsGet({ traffic }, seconds) {
  const counts = Object.entries(traffic?.lately ?? {}).sort(([, a], [, b]) => b - a);
  const all = total(counts.map(([, number]) => number));
  if (!all) return "no requests lately";
  const shares = counts.map(([source, number]) =>
    `${sourceWords(source)[1]}${counts.length > 1 ? ` ${percent(number / all)}` : ""}`);
  return `clients get ${shares.join(", ")} (${rate(all / seconds)})`;
}

/** What the window holds. */
export function windowWords({ report, traffic }) {
  const window = traffic?.window ?? report.window;
  const slow = window.slow ? `, ${window.slow} slow` : "";
  if (window.requests) return `${window.failures} of ${window.requests} failed${slow}`;
  return window.consecutive_failures ? `${count(window.consecutive_failures, "failure")} in a row` : "empty";
}

/** One sentence about all circuits, and one about the worst. */
export function verdict(circuits, now) {
  const broken = circuits.filter(isBroken);
  if (!circuits.length) return ["There are no circuits", ""];
  if (!broken.length) {
    const rest = circuits.filter(({ report }) => report.override).length;
    const all = circuits.length === 1 ? "The one circuit lets" : `All ${circuits.length} circuits let`;
    return [`${all} requests through`, rest ? `${rest} under an override` : ""];
  }
  const worst = broken.slice(0, 3).map((each) =>
    `${each.report.name}: ${stateWord(each.report.effective_state)} for ${duration(each, now)}`);
  const more = broken.length > worst.length ? ` and ${broken.length - worst.length} more` : "";
  return [`${broken.length} of ${count(circuits.length, "circuit")} ${broken.length === 1 ? "is" : "are"} not closed`,
    `${worst.join(" · ")}${more}`];
}
