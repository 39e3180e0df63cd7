// The page as a whole: where pictures come from, which matches are wanted, and the queries one below another.

import * as api from "./api.js";
import { Query, notice } from "./query.js";
import { ACCEPTED, titled } from "./videos.js";

const byId = (id) => document.getElementById(id);
const queries = new Set();
let collections = [];

const page = {
  options() {
    return {
      collection: byId("collection").value,
      top_k: Number(byId("top-k").value),
      filter: filter(),
      min_similarity: byId("least").value ? byId("least").valueAsNumber : undefined,
      group_by: byId("one-per-folder").checked ? "folder" : undefined,
    };
  },
  say(text) {
    byId("status").textContent = text;
  },
  more(match) {
    const query = new Query({ id: match.id }, titled(match), page, match);
    add(query);
    query.element.querySelector("h2").focus();
  },
  removed(query) {
    queries.delete(query);
    welcome();
  },
  focus() {
    (byId("queries").querySelector("h2") ?? byId("pick")).focus();
  },
};

/** What the fields say, as a Milvus expression. */
function filter() {
  const label = byId("label").value.trim(), folder = byId("folder").value.trim().replace(/\/+$/, "");
  const parts = [];
  if (label) parts.push(`label == ${JSON.stringify(label)}`);
  // All that begins with the folder and a slash, the character before 0.
  if (folder) parts.push(`path >= ${JSON.stringify(`${folder}/`)} and path < ${JSON.stringify(`${folder}0`)}`);
  const from = byId("from").value, until = byId("until").value, camera = byId("camera").value;
  // Times are texts that sort, such as 2023-05-17T10:31:00; no hour of that day comes after T24.
  if (from) parts.push(`taken >= ${JSON.stringify(from)}`);
  if (until) parts.push(`taken < ${JSON.stringify(`${until}T24`)}`);
  if (camera) parts.push(`camera == ${JSON.stringify(camera)}`);
  return parts.join(" and ");
}

/** Offer what the collection's items can be filtered by; of what none of them has there is no field. */
function offer(facets, item) {
  for (const list of ["labels", "folders"]) {
    byId(list).replaceChildren(...facets[list].map((each) => new Option(`${each.items} ${item}s`, each.value)));
  }
  for (const field of ["from", "until"]) {
    byId(field).min = facets.taken?.first.slice(0, 10) ?? "";
    byId(field).max = facets.taken?.last.slice(0, 10) ?? "";
    byId(field).parentElement.hidden = !facets.taken;
  }
  const cameras = facets.cameras.map((each) => new Option(`${each.value} (${each.items})`, each.value));
  byId("camera").replaceChildren(new Option("all", ""), ...cameras);
  byId("camera").parentElement.hidden = !cameras.length;
}

function add(query) {
  queries.add(query);
  byId("queries").prepend(query.element);
  welcome();
  known.then(() => query.search()); // Someone may be quicker than the list of collections.
  // On a phone the form above would leave no room for the matches.
  query.element.scrollIntoView({ block: window.innerWidth < 768 ? "start" : "nearest" });
}

function addFiles(files) {
  // The first one on top.
  for (const file of [...files].reverse()) add(new Query({ file }, file.name || "pasted picture", page));
}

function addAddress(text) {
  if (!/^https?:\/\//i.test(text)) return false;
  add(new Query({ url: text }, text, page));
  return true;
}

function searchAll() {
  for (const query of queries) query.search();
}

function welcome() {
  byId("welcome").hidden = queries.size > 0;
}

async function chooseCollection() {
  const chosen = collections.find((each) => each.name === byId("collection").value);
  byId("notes").replaceChildren();
  for (const field of ["label", "folder", "from", "until", "least"]) byId(field).value = "";
  byId("one-per-folder").checked = false;
  // Of distances, and of fused rankings, there is no similarity; videos are not grouped.
  byId("least").parentElement.hidden = !chosen || chosen.metric === "L2" || chosen.backbones.length > 1;
  byId("one-per-folder").closest(".col-6").hidden = !chosen || chosen.what === "videos";
  offer({ labels: [], folders: [], cameras: [], taken: null }, "");
  for (const words of document.querySelectorAll("[data-clips]")) words.hidden = !chosen?.sampling;
  byId("files").accept = chosen?.sampling ? ACCEPTED : "image/*";
  if (!chosen) return;
  const items = `${chosen.items.toLocaleString("en")} ${chosen.item_is}s`;
  const of = chosen.sampling ? ` ${chosen.item_is === "face" ? "in" : "of"} videos` : "";
  byId("welcome").textContent = `${items}${of} wait to be found in ${chosen.name}.`;
  if (chosen.untrained) {
    byId("notes").append(notice("warning", "This collection's network is untrained: it sees colour and texture only."));
  }
  try {
    const facets = await api.facets(chosen.name);
    if (byId("collection").value !== chosen.name) return; // Another was chosen meanwhile.
    offer(facets, chosen.item_is);
  } catch (error) {
    byId("notes").append(notice("danger", `Labels and folders could not be had: ${error.message}`));
  }
}

/** Ask which collections there are. */
async function start() {
  try {
    collections = await api.collections();
  } catch (error) {
    byId("notes").append(notice("danger", error.message));
    return;
  }
  byId("collection").replaceChildren(...collections.map((each) => new Option(each.name)));
  if (!collections.length) byId("notes").append(notice("warning", "There is no collection yet; `lookalike load DIR` makes one."));
  chooseCollection();
}

byId("pick").onclick = () => byId("files").click();
byId("files").onchange = (event) => {
  addFiles(event.target.files);
  event.target.value = ""; // so that the same file may be chosen again
};
byId("link").onsubmit = (event) => {
  event.preventDefault();
  if (addAddress(byId("url").value.trim())) {
    byId("url").value = "";
  } else {
    byId("url").setCustomValidity("Give an address that begins with http:// or https://.");
    byId("url").reportValidity();
  }
};
byId("url").oninput = () => byId("url").setCustomValidity("");
byId("collection").onchange = () => {
  for (const query of [...queries]) if (query.picture.id) query.remove();
  chooseCollection();
  searchAll();
};
byId("filters").onsubmit = (event) => event.preventDefault();
byId("filters").onchange = searchAll;
byId("filters").onreset = () => setTimeout(searchAll); // after the fields are empty

document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  const text = event.target.closest?.("input") ? "" : event.clipboardData.getData("text/plain").trim();
  if (files.length) addFiles(files);
  else if (!addAddress(text)) return;
  event.preventDefault();
});

const brings = (event) => [...event.dataTransfer.types].some((type) => type === "Files" || type === "text/uri-list");
document.addEventListener("dragover", (event) => {
  if (!brings(event)) return;
  event.preventDefault();
  byId("veil").hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) byId("veil").hidden = true;
});
document.addEventListener("drop", (event) => {
  byId("veil").hidden = true;
  if (!brings(event)) return;
  event.preventDefault();
  if (event.dataTransfer.files.length) addFiles(event.dataTransfer.files);
  else addAddress(event.dataTransfer.getData("text/uri-list").split("\n")[0].trim());
});

const known = start();
