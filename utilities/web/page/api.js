// What the page asks of the server. Addresses are relative, so that a proxy may serve the page below any path.

/** An answer other than success, or none; its message is a sentence for the user. */
export class Trouble extends Error {}

const ATTEMPTS = 3;

/** Fetch, patiently where the server is busy; anything but success becomes a `Trouble`. */
async function ask(address, options = {}) {
  for (let attempt = 1; ; attempt++) {
    let response;
    try {
      response = await fetch(address, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Trouble("The server does not answer. Is it still running?");
    }
    if (response.ok) return response;
    if (response.status === 503 && attempt < ATTEMPTS) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      continue;
    }
    const problem = await response.json().catch(() => ({}));
    throw new Trouble(problem.detail || `The server answered ${response.status} ${response.statusText}.`);
  }
}

const json = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

const form = (fields) => {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) body.append(name, value);
  return { method: "POST", body };
};

export const collections = async () => (await ask("collections")).json();

export const facets = async (name) => (await ask(`collections/${encodeURIComponent(name)}/facets`)).json();

/**
 * The matches of a picture.
 *
 * @param {string} name of the collection
 * @param {{file: File} | {url: string} | {id: string}} picture
 * @param {{top_k: number, filter: string, min_similarity?: number, group_by?: string, offset: number, crop?: number[],
 *   face?: number}} options
 * @param {AbortSignal} signal
 */
export async function search(name, picture, options, signal) {
  // What is undefined is left out.
  const request = picture.file ? form({ ...picture, ...options, crop: options.crop?.join(",") }) : json({ ...picture, ...options });
  return (await ask(`collections/${encodeURIComponent(name)}/search`, { ...request, signal })).json();
}

/** The picture as one that every browser shows. */
export async function preview({ file, url }) {
  return (await ask("preview", file ? form({ file }) : json({ url }))).blob();
}

/** A path of the server's, as seen from this page. */
export const here = (path) => path.replace(/^\//, "");
