// The page that images are dropped on: files come in, wait in a queue, and two at a time are sent.
import { Card, named, percent, post } from "./card.js";
import { add as remember } from "./history_store.js";
import { prepare } from "./images.js";
import { checkEndpoint } from "./page.js";

const AT_ONCE = 2, MOST = 50, MOST_CARDS = 100, ATTEMPTS = 5, LONGEST_WAIT = 60;
const page = document.getElementById("classify");
const [drop, files, camera, explain, queue, results, template] =
  ["drop", "files", "camera", "explain", "queue", "results", "card"].map((id) => document.getElementById(id));
const { bytes, pixels, upload, resize } = page.dataset;
const limits = { bytes: Number(bytes), pixels: Number(pixels), upload: Number(upload) };
const shown = [], waiting = [], failedByEndpoint = new Set();
let running = 0, finished = 0, total = 0, leftOut = 0;

function addFiles(list) {
  if (!list.length) return;
  if (!waiting.length && !running) finished = total = leftOut = 0;
  const taken = [...list].slice(0, Math.max(0, MOST - waiting.length - running));
  const cards = taken.map((file) => new Card(file, template, resize));
  total += taken.length;
  leftOut += list.length - taken.length;
  page.classList.add("has-results");
  results.prepend(...cards.map((card) => card.item));
  shown.unshift(...cards);
  shown.splice(MOST_CARDS).forEach((card) => card.remove());
  cards.forEach(enqueue);
  say("");
  cards[0]?.item.scrollIntoView({ block: "nearest" });
}

function enqueue(card) {
  card.find(".retry").onclick = () => again(card);
  card.wait("Waiting for its turn", 0);
  waiting.push(card);
  next();
}

function again(card) {
  if (!failedByEndpoint.delete(card) && card.find(".failed").hidden) return;
  total += 1;
  enqueue(card);
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    const card = waiting.shift();
    classify(card).catch((error) => failure(card, `An error occurred on this page: ${error}. Reload it.`)).then((words) => {
      running -= 1;
      finished += 1;
      say(words);
      next();
    });
  }
}

function say(words) {
  const count = total > 1 ? `${finished} of ${total} done. ` : "";
  const most = leftOut ? `At most ${MOST} images can wait at the same time: ${leftOut} were left out. ` : "";
  queue.textContent = count + most + words;
  queue.classList.toggle("visually-hidden", total <= 1 && finished === total && finished > 0); // the card says it
}

/** What is said of it in the end. */
async function classify(card) {
  card.wait("Reading the image");
  if (!card.image) {
    try {
      card.showImage(await prepare(card.file, limits));
    } catch (error) {
      return failure(card, error.message);
    }
  }
  for (let attempt = 1; ; attempt += 1) {
    card.wait("Uploading", 0);
    const { status, answer, wait } = await post(
      "/api/classify", { image: [card.image.blob, card.file.name || "image"], explain: explain.checked },
      (share) => (share < 1 ? card.wait("Uploading", share) : card.wait("Being classified")),
    );
    if (status === 200 && answer) return succeed(card, answer);
    if (status === 429 && attempt < ATTEMPTS) {
      await countDown(card, Math.min(LONGEST_WAIT, Math.max(1, wait)), answer?.error?.message ?? "Too many requests.");
      continue;
    }
    return giveUp(card, status, answer);
  }
}

function succeed(card, answer) {
  card.done(answer);
  const [{ label, probability }] = answer.predictions;
  remember({
    at: Date.now(), file: card.file.name || "pasted image", thumbnail: card.image.thumbnail, label, probability,
    model: named(answer.model), request: answer.request_id,
  });
  const news = page.dataset.model === answer.model.id ? "" : " Another model answers now: reload the page to see what it knows.";
  return `${card.file.name || "The image"}: ${label}, ${percent(probability)}.${news}`;
}

async function giveUp(card, status, answer) {
  const { code = "", message = "The server of this page does not respond." } = answer?.error ?? {};
  if (status && !code.startsWith("endpoint_")) return failure(card, message);
  failedByEndpoint.add(card);
  const words = failure(card, message);
  if (await checkEndpoint(true) && failedByEndpoint.has(card)) card.fail(`${message} The image is sent again as soon as the endpoint answers.`);
  return words;
}

function failure(card, message) {
  card.fail(message);
  return `${card.file.name || "The image"}: ${message}`;
}

async function countDown(card, seconds, message) {
  for (let left = Math.ceil(seconds); left > 0; left -= 1) {
    card.wait(`${message} Next attempt in ${left} s.`);
    await new Promise((resolve) => { setTimeout(resolve, 1_000); });
  }
}

document.addEventListener("endpoint", ({ detail }) => {
  if (!detail.problem) [...failedByEndpoint].forEach(again);
});

for (const input of [files, camera]) {
  input.addEventListener("change", () => {
    addFiles(input.files);
    input.value = ""; // the same file can be chosen again
  });
}
drop.addEventListener("submit", (event) => event.preventDefault());
addEventListener("paste", (event) => addFiles(event.clipboardData?.files ?? []));
addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  addFiles(event.dataTransfer.files);
});
for (const link of document.querySelectorAll("[data-sample]")) {
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    try {
      const response = await fetch(link.href);
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const blob = await response.blob();
      addFiles([new File([blob], link.dataset.sample, { type: blob.type })]);
    } catch {
      say("The sample could not be loaded. Try again.");
    }
  });
}
