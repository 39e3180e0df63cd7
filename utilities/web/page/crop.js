// The part of a picture to search with: drawn, moved and resized by pointer or by keys.

const SMALLEST = 0.05, STEP = 0.05;
const within = (value, low, high) => Math.min(Math.max(value, low), high);

export class Crop {
  /**
   * @param {HTMLElement} picture holds the image and the box
   * @param {() => void} changed called when a part was chosen
   */
  constructor(picture, changed) {
    this.picture = picture;
    this.box = picture.querySelector(".crop");
    this.changed = changed;
    this.part = null;
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "group");
    this.box.setAttribute("aria-label", "Part to search with. Arrow keys move it, with Shift they resize it.");
    picture.addEventListener("pointerdown", (event) => this.#grab(event));
    this.box.addEventListener("keydown", (event) => this.#key(event));
  }

  /** [left, top, width, height] in fractions of the picture; undefined for the whole. */
  get value() {
    return this.part ? this.part.map((each) => Number(each.toFixed(4))) : undefined;
  }

  /** Begin with the middle of the picture. */
  begin() {
    this.#show([0.15, 0.15, 0.7, 0.7]);
    this.box.focus();
    this.changed();
  }

  /** Back to the whole picture. */
  end() {
    this.#show(null);
    this.changed();
  }

  #show(part) {
    this.part = part;
    this.box.hidden = !part;
    this.picture.classList.toggle("cropping", Boolean(part));
    if (!part) return;
    const [left, top, width, height] = part.map((each) => `${100 * each}%`);
    Object.assign(this.box.style, { left, top, width, height });
  }

  #place(event) {
    const { left, top, width, height } = this.picture.getBoundingClientRect();
    return [within((event.clientX - left) / width, 0, 1), within((event.clientY - top) / height, 0, 1)];
  }

  #grab(event) {
    if (!this.part || event.button !== 0) return;
    event.preventDefault();
    this.picture.setPointerCapture(event.pointerId);
    const [x, y] = this.#place(event), [left, top, width, height] = this.part;
    const inside = event.target === this.box, resizing = event.target.classList.contains("handle");
    const drag = (moved) => {
      const [toX, toY] = this.#place(moved);
      if (inside) this.#move(left + toX - x, top + toY - y, width, height);
      else if (resizing) this.#span(left, top, toX, toY);
      else this.#span(x, y, toX, toY);
    };
    const drop = () => {
      this.picture.removeEventListener("pointermove", drag);
      this.changed();
    };
    this.picture.addEventListener("pointermove", drag);
    this.picture.addEventListener("lostpointercapture", drop, { once: true });
  }

  #move(left, top, width, height) {
    this.#show([within(left, 0, 1 - width), within(top, 0, 1 - height), width, height]);
  }

  #span(x, y, toX, toY) {
    const left = Math.min(x, toX, 1 - SMALLEST), top = Math.min(y, toY, 1 - SMALLEST);
    this.#show([left, top, Math.max(Math.abs(toX - x), SMALLEST), Math.max(Math.abs(toY - y), SMALLEST)]);
  }

  #key(event) {
    const way = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (!way) return;
    event.preventDefault();
    const [left, top, width, height] = this.part;
    if (event.shiftKey) {
      this.#show([left, top, within(width + way[0], SMALLEST, 1 - left), within(height + way[1], SMALLEST, 1 - top)]);
    } else {
      this.#move(left + way[0], top + way[1], width, height);
    }
    clearTimeout(this.pause);
    this.pause = setTimeout(this.changed, 300); // A key that is held down moves on.
  }
}
