// The models that are kept on this device: how much each takes, and how to be rid of it.

import { ImageGenerator } from "../index.js";

const $ = (id) => document.getElementById(id);

/** Shows them from now on, whenever the list is opened. */
export function showKept() {
  $("kept").addEventListener("toggle", () => $("kept").open && list());
  $("empty").addEventListener("click", async () => {
    await ImageGenerator.cache.clear();
    await list();
    $("kept").querySelector("summary").focus();
  });
}

/** Shows what there is now; `news` is said before it. */
export async function list(news = "") {
  const models = await ImageGenerator.cache.list();
  const sum = megabytes(models.reduce((sum, { bytes }) => sum + bytes, 0));
  $("taken").textContent = `${news}${models.length === 0 ? "No models are kept." : `${models.length} kept, ${sum}.`}`;
  $("models").replaceChildren(...models.map(item));
  $("empty").hidden = models.length === 0;
}

function item({ key, model, weights, bytes, used }) {
  const name = `${repository(model)}, ${weights}`;
  const [made, text, button] = ["li", "span", "button"].map((tag) => document.createElement(tag));
  text.textContent = `${name}: ${megabytes(bytes)}, last used ${new Date(used).toLocaleDateString()}`;
  button.type = "button";
  button.textContent = "Delete";
  button.setAttribute("aria-label", `Delete ${name}`);
  button.addEventListener("click", async () => {
    const done = await ImageGenerator.cache.delete(key);
    await list(done ? "" : `${name} is in use and was not deleted. `);
    // The button is gone: whoever used the keyboard goes on from the list.
    $("kept").querySelector("summary").focus();
  });
  made.append(text, " ", button);
  return made;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** Without the parts of an address that every repository has. */
const repository = (address) => new URL(address).pathname.replace(/^\/|\/resolve|\/$/g, "");
