// Where faces are: an outline over a match, and buttons over the picture that is searched with.

const SVG = "http://www.w3.org/2000/svg";

/** Outline a match's face, if it is one, over its picture, as soon as that is there; to be called before it is asked for. */
export function outline(image, match) {
  image.parentElement.querySelector(".outline")?.remove();
  image.onload = match.box ? () => image.after(drawn(match)) : null;
}

/** It keeps its proportions as `object-fit: contain` does, and so lies right however large the picture is shown. */
function drawn({ box, width, height }) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("class", "outline");
  svg.setAttribute("aria-hidden", "true");
  const place = { x: box.left * width, y: box.top * height, width: box.width * width, height: box.height * height };
  for (const line of ["dark", "light"]) { // One of them can be seen on any picture.
    const rectangle = document.createElementNS(SVG, "rect");
    rectangle.setAttribute("class", line);
    for (const [name, value] of Object.entries(place)) rectangle.setAttribute(name, value);
    svg.append(rectangle);
  }
  return svg;
}

export class Faces {
  /**
   * @param {HTMLElement} place lies over the picture
   * @param {() => void} changed called when another face was chosen
   */
  constructor(place, changed) {
    Object.assign(this, { place, changed, chosen: undefined });
  }

  /** How many there are. */
  get count() {
    return this.place.children.length;
  }

  /** Forget them, and which was chosen. */
  clear() {
    this.show([], null, false);
  }

  /**
   * Draw them.
   *
   * @param {object[]} faces as the server found them
   * @param {?number} chosen the number of the one that is searched with
   * @param {boolean} fixed whether no other can be chosen
   */
  show(faces, chosen, fixed) {
    const focused = this.place.contains(document.activeElement);
    this.place.replaceChildren(...faces.map((face, index) => this.#button(face, index + 1, faces.length)));
    this.place.inert = fixed;
    this.place.hidden = !faces.length;
    this.#choose(chosen ?? undefined);
    if (focused) this.place.querySelector("[aria-pressed=true]")?.focus();
  }

  #button({ left, top, width, height }, number, count) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "face";
    button.setAttribute("aria-label", `Face ${number} of ${count}`);
    const [x, y, wide, high] = [left, top, width, height].map((each) => `${100 * each}%`);
    Object.assign(button.style, { left: x, top: y, width: wide, height: high });
    button.onclick = () => {
      if (number === this.chosen) return;
      this.#choose(number);
      this.changed();
    };
    return button;
  }

  #choose(number) {
    this.chosen = number;
    [...this.place.children].forEach((button, index) => button.setAttribute("aria-pressed", String(index + 1 === number)));
  }
}
