// What is told of all circuits together: requests by source, latency, the cache; and events and faults.

import { LineChart, StackedChart } from "./charts.js";
import { samplesOf } from "./circuits.js";
import { byId, bytes, clock, count, h, milliseconds, percent, rate, setText, span } from "./format.js";
import { legendOf, STACKED, stateWord } from "./words.js";

const EVENTS_SHOWN = 50;
const PERCENTILES = ["p50", "p90", "p99"];

export class Panels {
  constructor() {
    this.sources = new StackedChart(byId("sources-chart"), "Requests by who answered, last ten minutes");
    this.latency = new LineChart(byId("latency-chart"), "Latency, last ten minutes");
    this.cache = new LineChart(byId("cache-chart"), "Cache hit ratio, last ten minutes");
  }

  update(buckets, lately) {
    const seconds = Math.max(1, lately.seconds);
    this.updateSources(buckets, lately.sources, seconds);
    this.updateLatency(buckets, lately.latency);
    this.updateCache(buckets, lately.cache);
  }

  updateSources(buckets, lately, seconds) {
    const seen = new Set(["upstream", ...buckets.flatMap(({ sources }) => Object.keys(sources))]);
    const kinds = [...STACKED, ...[...seen].filter((kind) => !STACKED.includes(kind))].filter((kind) => seen.has(kind));
    const perSecond = (bucket, kind) => (bucket.sources[kind] ?? 0) / Math.max(1, bucket.seconds);
    const rows = kinds.map((kind) => [kind, buckets.map((bucket) => perSecond(bucket, kind))]);
    const rates = kinds.map((kind) => [kind, rate((lately[kind] ?? 0) / seconds)]);
    this.sources.update(rows, rate, `Requests per second: ${rates.map(([kind, now]) => `${legendOf(kind)} ${now}`).join(", ")}`);
    byId("sources-legend").replaceChildren(...rates.reverse().map(([kind, now]) =>
      h("li", {}, h("span", { class: `swatch source-${kind}` }), legendOf(kind), h("b", {}, now))));
  }

  updateLatency(buckets, lately) {
    figures("latency", PERCENTILES.map((each) => [each, milliseconds(lately[each])]));
    const rows = PERCENTILES.map((each) => [each, buckets.map(({ latency }) => latency[each])]);
    this.latency.update(rows, milliseconds, `Latency: ${PERCENTILES.map((each) => `${each} ${milliseconds(lately[each])}`).join(", ")}`);
  }

  updateCache(buckets, { requests, hits }) {
    const share = requests ? percent(hits / requests) : "–";
    figures("cache", [["hit ratio", share], ["lookups", String(requests)]]);
    const shares = buckets.map(({ cache }) => (cache.requests ? cache.hits / cache.requests : null));
    this.cache.update([["hits", shares]], percent, `Cache hit ratio: ${share}`, 1);
  }
}

function figures(id, pairs) {
  byId(id).replaceChildren(...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

export function showCacheSize({ entries, bytes: size, max_size: most }) {
  setText(byId("cache-size"), `${count(entries, "stored answer")}, ${bytes(size)} of ${bytes(most)}`);
}

/** The newest first. Those that are shown already stay as they are, so that what was opened stays open. */
export function showEvents(events) {
  const list = byId("events");
  const shown = Number(list.firstElementChild?.dataset.id ?? 0);
  const fresh = events.filter(({ id }) => id > shown).slice(-EVENTS_SHOWN);
  for (const event of fresh) list.prepend(eventOf(event));
  while (list.children.length > EVENTS_SHOWN) list.lastElementChild.remove();
  if (!list.children.length) list.append(h("li", { "data-id": "0", class: "none" }, "Nothing has happened since the start."));
  else list.querySelector(".none")?.remove();
}

function eventOf({ id, at, kind, message, details }) {
  const samples = details.samples?.length
    ? h("details", {}, h("summary", {}, `${count(details.samples.length, "request")} that led to it`), samplesOf(details.samples))
    : null;
  const state = details.to ?? kind;
  return h("li", { "data-id": id }, h("time", { datetime: at }, clock(at)), h("span", { class: `kind ${state}` }, stateWord(state)),
    h("span", { class: "message" }, message), samples);
}

/** `end(route)` is called by the button of a fault. */
export function showFaults(faults, end) {
  const rows = faults.map((fault) => h("li", {},
    h("b", {}, fault.route), ` ${faultWords(fault)} `,
    h("button", { type: "button", "aria-label": `End the fault on ${fault.route}`, onclick: () => end(fault.route) }, "End")));
  byId("faults").replaceChildren(...(rows.length ? rows : [h("li", {}, "none")]));
}

const FAULTS = {
  abort: ({ status }) => `abort with ${status}`,
  delay: ({ duration }) => `delay by ${milliseconds(duration)}`,
  reset: () => "reset",
  slow_body: ({ rate: speed }) => `body at ${bytes(speed)}/s`,
};

function faultWords(fault) {
  const parts = Object.keys(FAULTS).filter((kind) => fault[kind]).map((kind) =>
    `${FAULTS[kind](fault[kind])} for ${percent(fault[kind].share)} of the requests`);
  const why = fault.reason ? `: ${fault.reason}` : "";
  const who = fault.actor ? ` by ${fault.actor}` : "";
  return `${parts.join(", ")}, ${span(fault.seconds_left)} left${who}${why}`;
}
