// Videos: where they show what was searched for, in words and in a player that begins there.

import { here } from "./api.js";
import { outline } from "./faces.js";

/** By which the server tells a clip. */
export const EXTENSIONS = ["3g2", "3gp", "asf", "avi", "dv", "f4v", "flv", "m2ts", "m2v", "m4v", "mkv", "mov", "mp4",
  "mpeg", "mpg", "mts", "mxf", "ogm", "ogv", "ts", "vob", "webm", "wmv"];
/** What a file may be where clips are searched with, too; some browsers know no type for some of the extensions. */
export const ACCEPTED = ["image/*", "video/*", ...EXTENSIONS.map((each) => `.${each}`)].join();
/** Stretches that are named on a tile. */
const NAMED = 3;
/** Seconds that a player is sent beyond the beginning of a frame, lest rounding show the one before. */
const BEYOND = 0.002;

export const isClip = (file) => new RegExp(`.\\.(${EXTENSIONS.join("|")})$`, "i").test(file.name);

/** Hours, minutes and seconds, as a player shows them, with a decimal. */
function clock(seconds) {
  const tenths = Math.round(10 * seconds), hours = Math.floor(tenths / 36000), minutes = Math.floor(tenths / 600) % 60;
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

const isLong = (seconds) => seconds >= 59.95;

/** A time in words. */
export const moment = (seconds) => (isLong(seconds) ? clock(seconds) : `${seconds.toFixed(1)}\u00a0s`);

/** A stretch in words. */
const stretch = ({ start, end }) =>
  isLong(end) ? `${clock(start)}–${clock(end)}` : `${start.toFixed(1)}–${end.toFixed(1)}\u00a0s`;

/** Where a match shows what was searched for, in words; lines end between stretches, not within one. */
export function stretches({ spans }) {
  const more = spans.length - NAMED;
  return spans.slice(0, NAMED).map((span) => stretch(span).replace("–", "–\u2060")).join(", ") + (more > 0 ? ` and ${more}\u00a0more` : "");
}

/** What a match shows: its path, and of a video the time. */
export const titled = (match) => (match.video ? `${match.path} at ${moment(match.time)}` : match.path);

/** The viewer's part that plays a match. */
export class Player {
  constructor(dialog) {
    const part = (name) => dialog.querySelector(`#viewer-${name}`);
    Object.assign(this, { video: part("video"), image: part("image"), note: part("note"), places: part("places") });
    this.frames = this.places.querySelector(".stills");
    this.spans = this.places.querySelector(".spans");
    this.video.addEventListener("error", () => this.#failed());
    // Of a file whose pictures alone it cannot decode a browser plays the sound.
    this.video.addEventListener("loadedmetadata", () => this.video.videoWidth || this.#failed());
  }

  /** Show a match at its time; it plays when someone wants it to. */
  show(match) {
    this.match = match;
    this.fallen = false;
    this.note.textContent = "";
    this.image.hidden = !(this.video.hidden = this.places.hidden = false);
    this.frames.replaceChildren(...match.frames.map((frame) => this.#still(frame)));
    this.spans.replaceChildren(...match.spans.map((span) => this.#span(span)));
    this.video.setAttribute("aria-label", match.path);
    this.video.poster = here(match.thumbnail);
    this.video.src = here(match.video);
    this.video.currentTime = match.time + BEYOND;
  }

  /** Be still, and let go of the file, which would hold a connection. */
  clear() {
    this.video.hidden = this.places.hidden = true;
    this.image.hidden = false;
    this.image.onerror = null;
    this.note.textContent = "";
    if (!this.video.hasAttribute("src")) return;
    this.video.removeAttribute("src");
    this.video.load();
  }

  #still(frame) {
    const button = document.createElement("button"), picture = document.createElement("span");
    const image = document.createElement("img"), time = document.createElement("span");
    button.type = "button";
    button.className = "still";
    picture.className = "shot";
    image.alt = "";
    time.textContent = moment(frame.time);
    button.setAttribute("aria-label", `Play from ${moment(frame.time)}`);
    picture.append(image);
    button.append(picture, time);
    const { width, height } = this.match;
    outline(image, { ...frame, width, height });
    image.src = here(frame.thumbnail);
    button.onclick = () => (this.fallen ? this.#freeze(frame) : this.#play(frame.time));
    return button;
  }

  #span(span) {
    const button = document.createElement("button"), icon = document.createElement("i");
    button.type = "button";
    button.className = "btn btn-sm btn-outline-secondary";
    icon.className = "bi bi-play-fill me-1";
    icon.setAttribute("aria-hidden", "true");
    button.setAttribute("aria-label", `Play ${stretch(span)}`);
    button.append(icon, stretch(span));
    button.onclick = () => this.#play(span.start);
    return button;
  }

  #play(time) {
    this.video.currentTime = time + BEYOND;
    this.video.play().catch(() => {}); // Someone has paused it, or gone on; what cannot be played at all is told of above.
  }

  /** Show frames instead, which the server has decoded. */
  #failed() {
    if (!this.video.hasAttribute("src")) return;
    this.clear();
    this.fallen = true;
    this.places.hidden = false;
    for (const button of this.spans.children) button.disabled = true;
    for (const button of this.frames.children) {
      button.setAttribute("aria-label", button.getAttribute("aria-label").replace("Play from", "Show the frame at"));
    }
    this.note.textContent = "This browser cannot play this file; a frame of it is shown instead.";
    this.image.onerror = () => { this.note.textContent = "The file is gone, or cannot be read any more."; };
    this.#freeze(this.match);
  }

  #freeze(frame) {
    const { path, width, height } = this.match;
    outline(this.image, { ...frame, width, height });
    this.image.alt = `${path} at ${moment(frame.time)}`;
    this.image.src = here(frame.image);
  }
}
