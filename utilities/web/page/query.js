// One picture, or clip, that is searched with, and its matches.

import * as api from "./api.js";
import { Crop } from "./crop.js";
import { Faces, outline } from "./faces.js";
import { isClip, moment, stretches } from "./videos.js";
import { about, score, view } from "./viewer.js";

const template = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

/** A message above the matches. */
export function notice(kind, text) {
  const box = document.createElement("div");
  box.className = `alert alert-${kind} py-2`;
  box.setAttribute("role", kind === "danger" ? "alert" : "note");
  box.textContent = text;
  return box;
}

export class Query {
  /**
   * @param {{file: File} | {url: string} | {id: string}} picture
   * @param {string} name what to call it
   * @param {object} page what the page offers: options(), say(text), more(match), removed(query), focus()
   * @param {object} [match] the match that is searched with
   */
  constructor(picture, name, page, match) {
    Object.assign(this, { picture, name, page, matches: [] });
    this.element = template("query");
    this.list = this.element.querySelector(".matches");
    const title = this.element.querySelector("h2");
    title.textContent = name;
    title.id = `query-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    this.element.setAttribute("aria-labelledby", title.id);
    this.crop = new Crop(this.element.querySelector(".picture"), () => {
      this.faces.clear(); // A part's are numbered anew.
      this.search();
    });
    this.faces = new Faces(this.#part("faces"), () => this.search());
    this.element.addEventListener("click", (event) => this.#click(event));
    this.#show(match);
  }

  #part(name) {
    return this.element.querySelector(`[data-part=${name}]`);
  }

  #action(name) {
    return this.element.querySelector(`[data-action=${name}]`);
  }

  async #show(match) {
    const image = this.element.querySelector(".picture img");
    const clip = this.picture.file && isClip(this.picture.file);
    image.alt = `${clip ? "The first frame of the clip" : "The picture"} searched with: ${this.name}`;
    this.#action("crop").hidden = clip; // It is searched with as a whole.
    if (this.picture.url || clip) return this.#showPreview(image);
    image.onerror = () => this.#showPreview(image); // such as a TIFF
    if (match) outline(image, match);
    image.src = match ? api.here(match.image) : (this.address = URL.createObjectURL(this.picture.file));
  }

  async #showPreview(image) {
    image.onerror = null;
    image.removeAttribute("src");
    try {
      this.#forget();
      image.src = this.address = URL.createObjectURL(await api.preview(this.picture));
    } catch {
      image.hidden = true; // The search says why.
      this.#action("crop").disabled = true;
    }
  }

  #forget() {
    if (this.address) URL.revokeObjectURL(this.address);
  }

  #click(event) {
    const action = event.target.closest("[data-action]")?.dataset.action;
    if (action === "crop") {
      const button = this.#action("crop"), cropping = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!cropping));
      button.lastChild.textContent = cropping ? "Crop" : "Whole picture";
      if (cropping) this.crop.end();
      else this.crop.begin();
    }
    if (action === "remove") {
      this.remove();
      this.page.focus(); // The button that had it is gone.
    }
    if (action === "further") this.#further();
    const tile = event.target.closest("li");
    if (!tile) return;
    const index = [...this.list.children].indexOf(tile);
    if (action === "view") view(this.matches, index, this.page.more);
    if (action === "more") this.page.more(this.matches[index]);
  }

  /** Be gone from the page. */
  remove() {
    this.running?.abort();
    this.#forget();
    this.element.remove();
    this.page.removed(this);
  }

  /** Search anew, with what is chosen now. */
  search() {
    return this.#fetch(0);
  }

  /** The next page, whose first match gets the focus that the button had. */
  async #further() {
    const known = this.matches.length;
    await this.#fetch(this.asked);
    this.list.children[known]?.querySelector(".tile").focus();
  }

  async #fetch(offset) {
    this.running?.abort();
    const running = this.running = new AbortController();
    const { collection, ...options } = this.page.options();
    if (collection !== this.collection) this.faces.clear();
    this.collection = collection;
    this.#part("busy").hidden = false;
    this.#action("further").hidden = true;
    this.#part("trouble").replaceChildren();
    this.element.setAttribute("aria-busy", "true");
    try {
      const crop = this.crop.value, face = this.faces.chosen;
      const found = await api.search(collection, this.picture, { ...options, offset, crop, face }, running.signal);
      if (offset === 0) this.#empty();
      this.#add(found.matches);
      this.faces.show(found.faces, found.face, Boolean(crop));
      if (!crop) this.element.classList.toggle("large", found.faces.length > 1); // so that each can be pressed
      this.asked = offset + found.matches.length;
      this.#action("further").hidden = found.matches.length < options.top_k;
      this.#say(found.matches.length, offset);
    } catch (error) {
      if (error.name === "AbortError") return; // Another search has begun.
      if (offset === 0) this.#empty();
      const message = error instanceof api.Trouble ? error.message : String(error);
      this.#part("trouble").replaceChildren(notice("danger", message), this.#retry());
    }
    this.#part("busy").hidden = true;
    this.element.removeAttribute("aria-busy");
  }

  #retry() {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm btn-outline-secondary mb-3";
    button.textContent = "Try again";
    button.onclick = () => this.search();
    return button;
  }

  #empty() {
    this.matches = [];
    this.list.replaceChildren();
    this.#part("count").textContent = this.#part("face").textContent = "";
  }

  #say(count, offset) {
    if (!count && !offset) {
      this.#part("trouble").replaceChildren(notice("secondary", "Nothing matches. Clear the filters, or load something first."));
    }
    this.#part("count").textContent = this.matches.length === 1 ? "1 match" : `${this.matches.length} matches`;
    const matches = count === 1 ? "1 match" : `${count} ${offset ? "more " : ""}matches`;
    const face = this.faces.count > 1 ? `face ${this.faces.chosen} of ${this.faces.count}` : "";
    this.#part("face").textContent = face && `Searched with ${face}${this.crop.value ? "." : "; press another to change."}`;
    this.page.say(`${matches} for ${face && `${face} in `}${this.name}`);
  }

  #add(matches) {
    const known = new Set(this.matches.map((match) => match.id)); // Pages may overlap.
    const others = matches.filter((match) => !known.has(match.id));
    this.matches.push(...others);
    this.list.append(...others.map((match) => {
      const tile = template("match"), image = tile.querySelector("img");
      outline(image, match);
      image.src = api.here(match.thumbnail);
      image.onerror = () => {
        image.classList.add("gone");
        tile.querySelector(".about").textContent = "The file is gone.";
      };
      tile.querySelector(".score").textContent = match.video ? `${match.rank} · ${score(match)}` : score(match);
      tile.querySelector(".path").textContent = match.path;
      tile.querySelector(".about").textContent = match.video ? stretches(match) : about(match);
      if (match.video) tile.querySelector(".time").append(moment(match.time));
      else tile.querySelector(".time").remove();
      tile.querySelector("[data-action=more]").setAttribute("aria-label", `More like ${match.path}`);
      return tile;
    }));
  }
}
