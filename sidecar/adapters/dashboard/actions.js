// What an operator orders: each asks what it needs to know, calls the API, and says what became of it.

import { call } from "./api.js";
import { ask } from "./dialogs.js";
import { byId, count, setText } from "./format.js";
import { stateWord } from "./words.js";

const TTLS = [["5m", "5 minutes"], ["15m", "15 minutes"], ["1h", "1 hour"], ["4h", "4 hours"], ["24h", "1 day"], ["never", "until somebody ends it"]];
const TOAST = 6000;
const REASON = { name: "reason", label: "Reason" };

const CONSEQUENCES = {
  forced_open: ["Force open", "No request reaches the upstream; clients get stored answers, a fallback or 503."],
  forced_closed: ["Force closed", "Every request reaches the upstream, however it fails."],
};

const SELECTORS = [["url", "one URL"], ["prefix", "every URL that begins with"], ["route", "a route"], ["tag", "a tag"]];

/** What can be injected: the words in the dialog, and the block of the fault, from what was typed. */
const FAULTS = {
  abort: ["answer with a status", (value) => ({ status: Number(value) })],
  delay: ["delay", (value) => ({ duration: value })],
  reset: ["reset the connection", () => ({})],
  slow_body: ["slow the answer's body down", (value) => ({ rate: value })],
};

const circuitPath = (name, what) => `v1/circuits/${encodeURIComponent(name)}/${what}`;
const faultPath = (route) => `v1/faults/${encodeURIComponent(route)}`;

/** Who gives orders; remembered for the next one. */
const who = () => ({ name: "actor", label: "Your name", value: localStorage.getItem("actor") ?? "" });

/** `routes()`: names; `take(report)`: a circuit has changed; `lookAtTheRest()`: the cache or the faults may have. */
export class Actions {
  constructor({ routes, take, lookAtTheRest }) {
    Object.assign(this, { routes, take, lookAtTheRest });
  }

  force(name, mode) {
    const [word, text] = CONSEQUENCES[mode];
    return this.order({
      title: `${word}: ${name}`,
      text,
      fields: [REASON, { name: "ttl", label: "For", options: TTLS, value: "1h" }, who()],
      confirm: word,
      submit: async (values) => {
        this.take(await call("PUT", circuitPath(name, "override"), { mode, ...values }));
        say(`${name} is ${stateWord(mode)}`);
      },
    });
  }

  async release(name) {
    try {
      this.take(await call("DELETE", circuitPath(name, "override")));
      say(`${name} is automatic again`);
    } catch (error) {
      say(`That did not work: ${error.message}`);
    }
  }

  reset(name) {
    return this.order({
      title: `Reset: ${name}`,
      text: "It is closed at once, with an empty window. An override stays.",
      fields: [REASON, who()],
      confirm: "Reset",
      submit: async (values) => {
        this.take(await call("POST", circuitPath(name, "reset"), values));
        say(`${name} was reset`);
      },
    });
  }

  purge() {
    return this.order({
      title: "Purge stored answers",
      fields: [
        { name: "selector", label: "What", options: SELECTORS },
        { name: "value", label: "Which", hint: "a URL or path as clients or the upstream know it, a route's name, or a tag" }],
      confirm: "Purge",
      submit: async ({ selector, value }) => {
        const { purged } = await call("DELETE", `v1/cache?${new URLSearchParams({ [selector]: value })}`);
        say(`${count(purged, "stored answer")} purged`);
        await this.lookAtTheRest();
      },
    });
  }

  inject() {
    const kinds = Object.entries(FAULTS).map(([kind, [words]]) => [kind, words]);
    return this.order({
      title: "Inject a fault",
      text: "It takes the place of the route's other fault, and ends by itself.",
      fields: [
        { name: "route", label: "Route", options: this.routes() },
        { name: "kind", label: "Fault", options: kinds },
        { name: "value", label: "How", hint: "a status such as 503, a duration such as 2s, or a rate such as 1KiB; nothing for a reset" },
        { name: "share", label: "Share of the requests", value: "50%" },
        { name: "ttl", label: "For", options: TTLS.slice(0, -1), value: "5m" },
        REASON, who(),
        { name: "force", label: "Also while its circuit is open", type: "checkbox" }],
      confirm: "Inject",
      submit: async ({ route, kind, value, share, force, ...rest }) => {
        const fault = { [kind]: { ...FAULTS[kind][1](value), share }, ...rest, ...(force && { force }) };
        await call("PUT", faultPath(route), fault);
        say(`Requests to ${route} meet a fault now`);
        await this.lookAtTheRest();
      },
    });
  }

  async endFault(route) {
    try {
      await call("DELETE", faultPath(route));
      say(`Ended the fault on ${route}`);
      await this.lookAtTheRest();
    } catch (error) {
      say(`That did not work: ${error.message}`);
    }
  }

  order({ submit, ...question }) {
    return ask({
      ...question,
      submit: (values) => {
        if (values.actor) localStorage.setItem("actor", values.actor);
        return submit(values);
      },
    });
  }
}

function say(text) {
  setText(byId("toast"), text);
  clearTimeout(say.timer);
  say.timer = setTimeout(() => setText(byId("toast"), ""), TOAST);
}
