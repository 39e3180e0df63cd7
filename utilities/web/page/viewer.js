// One match, large: its picture or its video, what is known of it, and the ways to the next.

import { here } from "./api.js";
import { outline } from "./faces.js";
import { Player } from "./videos.js";

const dialog = document.getElementById("viewer");
const part = (name) => document.getElementById(`viewer-${name}`);
const player = new Player(dialog);
let shown = { matches: [], index: 0, more: () => {} };

/** What is said of a match beside its path. */
export function about(match) {
  const size = match.width ? `${match.width}\u00a0×\u00a0${match.height}` : "";
  const face = !match.video && match.part > 1 ? `face\u00a0${match.part}` : ""; // Most images show one.
  return [match.label, size, face].filter(Boolean).join(" · ");
}

/** What else is known of its file: when it was taken, by what, and the columns of a CSV. */
function attributes(match) {
  const { taken, camera, ...columns } = match.attributes;
  const others = Object.entries(columns).map(([name, value]) => `${name}: ${value}`);
  return [taken?.slice(0, 16).replace("T", "\u00a0"), camera, ...others].filter(Boolean).join(" · ");
}

/** The similarity; or the distance, or what rankings were fused to, where there is that. */
export const score = (match) => (match.similarity ?? match.distance ?? match.fused).toFixed(4);

/**
 * Show a match.
 *
 * @param {object[]} matches of one query
 * @param {number} index of the one to begin with
 * @param {(match: object) => void} more searches with a match
 */
export function view(matches, index, more) {
  shown = { matches, index, more };
  draw();
  dialog.showModal();
}

function draw() {
  const match = shown.matches[shown.index];
  part("title").textContent = match.path;
  player.clear();
  if (match.video) {
    player.show(match);
  } else {
    outline(part("image"), match);
    part("image").src = here(match.image);
    part("image").alt = match.path;
  }
  part("about").textContent = `${match.rank} · ${score(match)} · ${about(match)}`;
  part("attributes").textContent = attributes(match);
  part("file").href = here(match.video ?? match.image);
  dialog.querySelector("[data-action=previous]").disabled = shown.index === 0;
  dialog.querySelector("[data-action=next]").disabled = shown.index === shown.matches.length - 1;
}

function step(by) {
  const index = shown.index + by;
  if (index < 0 || index >= shown.matches.length) return;
  shown.index = index;
  draw();
}

dialog.addEventListener("click", (event) => {
  const action = event.target.closest("[data-action]")?.dataset.action;
  if (action === "previous") step(-1);
  if (action === "next") step(1);
  if (action === "close" || event.target === dialog) dialog.close();
  if (action === "more") {
    dialog.close();
    shown.more(shown.matches[shown.index]);
  }
});
dialog.addEventListener("close", () => player.clear());
dialog.addEventListener("keydown", (event) => {
  if (event.target.closest("video")) return; // which has its own use for the arrows
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
