// Questions to the user, as modal dialogs: keyboard and screen reader are the browser's.

import { h } from "./format.js";

/**
 * Ask for `fields` [{name, label, value, options, type, hint}] and `submit(values)`; what that throws is shown and asked
 * again. Gives whether it was done.
 */
export function ask({ title, text, fields, confirm, submit }) {
  const wrong = h("p", { class: "wrong", role: "alert" });
  const inputs = fields.map(input);
  const form = h("form", { method: "dialog" },
    h("h2", { id: "dialog-title" }, title),
    text ? h("p", {}, text) : null,
    ...fields.map((field, at) => h("label", {}, h("span", {}, field.label), inputs[at],
      field.hint ? h("small", {}, field.hint) : null)),
    wrong,
    h("p", { class: "buttons" },
      h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
      h("button", { type: "submit", class: "primary" }, confirm)));
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  return new Promise((done) => {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      wrong.textContent = "";
      try {
        await submit(Object.fromEntries(fields.map((field, at) => [field.name, value(inputs[at])])));
        dialog.close("done");
      } catch (error) {
        wrong.textContent = error.message;
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue === "done");
    });
    document.body.append(dialog);
    dialog.showModal();
    inputs[0]?.focus();
  });
}

function input({ name, value: initial = "", options, type = "text" }) {
  if (!options) return h("input", { name, type, value: type === "checkbox" ? null : initial, autocomplete: "off" });
  return h("select", { name }, ...options.map((each) => {
    const [word, shown] = Array.isArray(each) ? each : [each, each];
    return h("option", { value: word, selected: word === initial }, shown);
  }));
}

const value = (element) => (element.type === "checkbox" ? element.checked : element.value.trim());
