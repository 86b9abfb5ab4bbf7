// The card of one image: it waits, it has failed, or it shows a result.
import { correct } from "./history_store.js";
import { megabytes } from "./images.js";

const token = document.querySelector("meta[name=csrf-token]").content;

/** As the server writes it: what is not quite all or nothing does not read as if it were. */
export function percent(share) {
  if (share >= 1) return "100%";
  if (share > 0.9995) return "> 99.9%";
  return share > 0 && share < 0.0005 ? "< 0.1%" : `${(100 * share).toFixed(1)}%`;
}

/** POST a form with the page's token: status, JSON (null where it is none), and Retry-After in seconds. */
export function post(path, fields, onProgress = () => {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (Array.isArray(value)) form.append(name, ...value);
    else form.append(name, value);
  }
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch tells nothing of the progress of an upload
    request.open("POST", path);
    request.setRequestHeader("X-CSRFToken", token);
    request.responseType = "json";
    request.timeout = 240_000; // no less than the largest the server may be told to wait
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded / event.total));
    request.addEventListener("loadend", () => resolve({
      status: request.status, answer: request.response, wait: Number(request.getResponseHeader("Retry-After")) || 0,
    }));
    request.send(form);
  });
}

export class Card {
  constructor(file, template, resize) {
    this.file = file;
    this.resize = resize;
    this.item = document.createElement("li");
    this.item.append(template.content.cloneNode(true));
    this.image = null;
    this.find(".file").textContent = file.name || "pasted image";
    this.find("svg").setAttribute("aria-label", file.name || "pasted image");
    this.find("[type=range]").addEventListener("input", (event) => this.setOpacity(event.target.value));
    this.find(".correct")?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.sendCorrection();
    });
  }

  find(selector) {
    return this.item.querySelector(selector);
  }

  part(name) {
    for (const each of ["waiting", "failed", "done"]) this.find(`.${each}`).hidden = each !== name;
    const card = this.find(".card");
    card.setAttribute("aria-busy", name === "waiting");
    card.classList.toggle("without-image", name === "failed" && !this.image?.url);
  }

  /** @param share Of the work that is done; null where it is not known. */
  wait(words, share = null) {
    this.part("waiting");
    this.find(".step").textContent = words;
    if (share === null) this.find("progress").removeAttribute("value");
    else this.find("progress").value = share;
  }

  showImage(image) {
    this.image = image;
    const { width, height } = image, edge = Math.min(width, height);
    const crop = this.resize === "crop";
    this.find(".stage svg").setAttribute("viewBox", `0 0 ${width} ${height}`);
    place(this.find(".preview"), 0, 0, width, height);
    if (crop) place(this.find(".heat"), (width - edge) / 2, (height - edge) / 2, edge, edge);
    else place(this.find(".heat"), 0, 0, width, height);
    if (image.url) this.find(".preview").setAttribute("href", image.url);
    const size = image.url ? `${width} × ${height}, ${megabytes(this.file.size)}` : megabytes(this.file.size);
    this.find(".size").textContent = image.scaled ? `${size}; scaled down to ${image.scaled.join(" × ")}` : size;
  }

  fail(message) {
    this.find(".reason").textContent = message;
    this.part("failed");
  }

  done(answer) {
    const [best] = answer.predictions;
    this.answer = answer;
    this.find(".label").textContent = best.label;
    this.find(".share").textContent = percent(best.probability);
    const bars = this.find(".bars"), pattern = bars.firstElementChild;
    bars.replaceChildren(...answer.predictions.map((item) => bar(pattern, item)));
    this.find(".details .model").textContent = named(answer.model);
    this.find(".total").textContent = milliseconds(answer.timing?.total_ms);
    this.find(".roundtrip").textContent = milliseconds(answer.roundtrip_ms);
    if (answer.heat_map) {
      if (!this.image.url) this.showImage({ ...this.image, width: 1, height: 1 });
      this.find(".heat").setAttribute("href", `data:image/png;base64,${answer.heat_map}`);
      this.find(".opacity").classList.remove("off");
    }
    for (const option of this.item.querySelectorAll(".correct option")) {
      option.hidden = option.disabled = option.value === `=${best.label}`; // what the model said is no correction
    }
    this.part("done");
  }

  remove() {
    this.item.remove();
    if (this.image?.url) URL.revokeObjectURL(this.image.url);
  }

  setOpacity(value) {
    this.find(".heat").setAttribute("opacity", value / 100);
    this.find("output").textContent = `${value}%`;
  }

  async sendCorrection() {
    const form = this.find(".correct"), said = this.find(".said"), chosen = form.elements.label;
    const label = chosen.value.startsWith("=") ? chosen.value.slice(1) : "";
    const { predictions, model, request_id } = this.answer;
    form.querySelector("button").disabled = true;
    const { status, answer } = await post("/api/corrections", {
      image: [this.image.blob, this.file.name || "image"], label, predicted: predictions[0].label,
      model_name: model.name, model_version: model.version, model_id: model.id, request_id,
    });
    form.querySelector("button").disabled = false;
    if (status === 201) {
      const name = label || "none of these";
      form.querySelector("button").textContent = "Change";
      said.textContent = `Thank you. Saved as ${label ? `“${label}”` : name}.`;
      correct(request_id, name);
    } else {
      said.textContent = answer?.error?.message ?? "It could not be sent. Try again.";
    }
  }
}

function bar(pattern, { label, probability }) {
  const item = pattern.cloneNode(true);
  const [name, share] = item.querySelectorAll("span");
  name.textContent = label;
  share.textContent = percent(probability);
  item.querySelector("rect").setAttribute("width", 100 * probability);
  return item;
}

function place(image, x, y, width, height) {
  for (const [name, value] of Object.entries({ x, y, width, height })) image.setAttribute(name, value);
}

/** A model served from a folder has no version. */
export const named = ({ name, version }) => (version ? `${name}, version ${version}` : name);
const milliseconds = (value) => (Number.isFinite(value) ? `${Math.round(value)} ms` : "–");
