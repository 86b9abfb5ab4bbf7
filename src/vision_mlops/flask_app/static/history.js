// The page of the history.
import { clear, entries } from "./history_store.js";
import { percent } from "./card.js";

const [list, empty, count, button, template] =
  ["history", "empty", "count", "clear", "entry"].map((id) => document.getElementById(id));

function show() {
  const found = entries();
  list.replaceChildren(...found.map(row));
  list.hidden = !found.length;
  empty.hidden = found.length > 0;
  button.disabled = !found.length;
  count.textContent = found.length ? `${found.length} ${found.length === 1 ? "image" : "images"}, the newest first` : "";
}

function row(entry) {
  const item = template.content.firstElementChild.cloneNode(true);
  const put = (selector, text) => { item.querySelector(selector).textContent = text; };
  if (entry.thumbnail) item.querySelector("img").src = entry.thumbnail;
  put(".label", entry.label);
  put(".share", percent(entry.probability));
  put(".file", entry.corrected ? `${entry.file} · corrected to ${entry.corrected}` : entry.file);
  put(".model", entry.model);
  const time = item.querySelector("time");
  time.dateTime = new Date(entry.at).toISOString();
  time.textContent = new Date(entry.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return item;
}

button.addEventListener("click", () => {
  clear();
  show();
});
addEventListener("storage", show); // another tab of the session
show();
