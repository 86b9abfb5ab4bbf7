// The page of the status: what the server renders is fetched again every few seconds.
const EVERY = 5_000;
const live = document.getElementById("live");

async function refresh() {
  try {
    const response = await fetch("/status", { signal: AbortSignal.timeout(20_000) });
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("live");
    if (fresh) live.replaceChildren(...fresh.childNodes);
  } catch {
    // The banner says that this page's server does not answer.
  }
  timer = setTimeout(refresh, EVERY);
}

let timer = setTimeout(refresh, EVERY);
document.addEventListener("endpoint", () => {
  clearTimeout(timer);
  refresh();
});
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) refresh();
});
