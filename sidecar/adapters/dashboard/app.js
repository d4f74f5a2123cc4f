// The dashboard: asks for everything once, then follows one stream of traffic and events.

import { Actions } from "./actions.js";
import { askForTokenWith, call, follow } from "./api.js";
import { CircuitList } from "./circuits.js";
import { ask } from "./dialogs.js";
import { byId, clock, setText } from "./format.js";
import { Panels, showCacheSize, showEvents, showFaults } from "./panels.js";
import { isBroken, verdict } from "./words.js";

const POINTS = 60;
const EVENTS = 200;

/** What is known. `circuits`: name → {report, traffic}; `offset`: how far the sidecar's clock is ahead of ours. */
const known = { circuits: new Map(), buckets: [], lately: null, lastEvent: 0, offset: 0, lostAt: null, faults: false };
const panels = new Panels();
const actions = new Actions({
  routes: () => [...known.circuits.keys()].sort(),
  take: (report) => { take(report); draw(); },
  lookAtTheRest,
});
const list = new CircuitList(actions);

const now = () => Date.now() + known.offset;

// Learning

async function load() {
  const [{ calls }, { circuits }, traffic, { events }, info] = await Promise.all([
    call("GET", "v1"), call("GET", "v1/circuits"), call("GET", "v1/traffic"), call("GET", `v1/events?limit=${EVENTS}`),
    call("GET", "v1/info")]);
  setText(byId("version"), info.version ?? "");
  const byName = new Map(traffic.circuits.map((each) => [each.name, each]));
  known.circuits = new Map(circuits.map((report) => [report.name, { report, traffic: byName.get(report.name) }]));
  known.buckets = traffic.buckets;
  known.faults = calls.some(({ method, path }) => method === "PUT" && path.startsWith("/v1/faults/"));
  known.lastEvent = events.at(-1)?.id ?? 0;
  keepTime(traffic);
  showEvents(events);
  await lookAtTheRest();
  found();
  panels.update(known.buckets, known.lately);
  draw();
  return `v1/traffic/stream?since=${known.lastEvent}`;
}

function keepTime({ at, lately }) {
  known.offset = Date.parse(at) - Date.now();
  known.lately = lately;
}

function received(kind, data) {
  if (kind === "traffic") takeTraffic(data);
  else takeEvent(data);
}

function takeTraffic(data) {
  keepTime(data);
  const isNew = data.bucket.at !== known.buckets.at(-1)?.at;
  known.buckets = put(known.buckets, data.bucket, isNew);
  const fresh = new Map(data.circuits.map((each) => [each.name, each]));
  for (const [name, circuit] of known.circuits) circuit.traffic = joined(circuit.traffic, fresh.get(name) ?? NOTHING, isNew);
  panels.update(known.buckets, known.lately);
  if (isNew) lookAtTheRest().catch(() => {});
  draw();
}

/** `items` with the newest put at the end, or in place of the last while its bucket fills. */
function put(items, newest, isNew) {
  return [...(isNew ? items : items.slice(0, -1)), newest].slice(-POINTS);
}

/** Of a circuit that had no requests for a while nothing is told. */
const NOTHING = {
  requests: [0], judged: [0], failures: [0], lately: {}, window: { requests: 0, failures: 0, slow: 0, failure_rate: 0 },
};

function joined(before, fresh, isNew) {
  const joint = { ...fresh };
  for (const name of ["requests", "judged", "failures"]) joint[name] = put(before?.[name] ?? [], fresh[name][0], isNew);
  return joint;
}

function takeEvent(event) {
  known.lastEvent = event.id;
  showEvents([event]);
  if (event.circuit) refresh(event.circuit);
  else if (event.kind.startsWith("reload")) load().catch(() => {});
  else lookAtTheRest().catch(() => {});
}

const waiting = new Set();

/** Ask anew about a circuit; about all of them when many changed at once. */
function refresh(name) {
  // A failure shows as a lost connection; a circuit that a reload took away is gone with the next one.
  if (!waiting.size) setTimeout(() => refreshWaiting().catch(() => {}), 20);
  waiting.add(name);
}

async function refreshWaiting() {
  const names = [...waiting];
  waiting.clear();
  const reports = names.length > 5
    ? (await call("GET", "v1/circuits")).circuits
    : await Promise.all(names.map((name) => call("GET", `v1/circuits/${encodeURIComponent(name)}`)));
  reports.forEach(take);
  draw();
}

function take(report) {
  known.circuits.set(report.name, { traffic: known.circuits.get(report.name)?.traffic, report });
}

async function lookAtTheRest() {
  const [cache, faults] = await Promise.all([call("GET", "v1/cache"), known.faults ? call("GET", "v1/faults") : null]);
  showCacheSize(cache);
  byId("faults-section").hidden = !faults;
  if (faults) showFaults(faults.faults, (route) => actions.endFault(route));
}

// Showing

function draw() {
  const circuits = [...known.circuits.values()];
  list.show(circuits, now(), Math.max(1, known.lately.seconds));
  const [headline, detail] = verdict(circuits, now());
  setText(byId("verdict"), headline);
  setText(byId("verdict-detail"), detail);
  const broken = circuits.filter(isBroken).length;
  document.title = `${broken ? `(${broken}) ` : ""}circuit-sidecar`;
  byId("verdict").parentElement.classList.toggle("broken", broken > 0);
}

function found() {
  known.lostAt = null;
  tellConnection();
}

function lost(error) {
  known.lostAt ??= Date.now();
  known.lostBy = error.message;
  tellConnection();
}

function tellConnection() {
  const since = known.lostAt;
  document.body.classList.toggle("stale", since != null);
  byId("lost").hidden = since == null;
  setText(byId("connection"), since == null ? "live" : "not connected");
  if (since != null) {
    setText(byId("lost"), `Connection lost at ${clock(since)}. What you see is from before; trying again …`);
    byId("lost").title = known.lostBy;
  }
}

setInterval(() => { if (known.lately && known.lostAt == null && !document.hidden) draw(); }, 1000);

// What the keyboard and the buttons do

askForTokenWith(async (why) => {
  let token = "";
  const fields = [{ name: "token", label: "Token", type: "password" }];
  const submit = async (values) => { ({ token } = values); };
  while (!(await ask({ title: "Token needed", text: why, fields, confirm: "Continue", submit })));
  return token;
});

byId("purge").addEventListener("click", () => actions.purge());
byId("inject").addEventListener("click", () => actions.inject());
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select, dialog")) {
    event.preventDefault();
    byId("search").focus();
  }
});

follow({ load, received, lost });
