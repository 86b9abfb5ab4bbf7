// What was classified in this session, in this browser's storage. Another session starts with nothing.
const KEY = "mlops-history", MOST = 60;
const session = document.body.dataset.session;

/** Newest first. */
export function entries() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY));
    return kept?.session === session && Array.isArray(kept.entries) ? kept.entries : [];
  } catch {
    return [];
  }
}

/** Keep them; where the storage is full, the newer ones. */
function keep(list) {
  for (let kept = list.slice(0, MOST); ; kept = kept.slice(0, Math.floor(kept.length / 2))) {
    try {
      localStorage.setItem(KEY, JSON.stringify({ session, entries: kept }));
      return;
    } catch {
      if (!kept.length) return; // storage is forbidden: there is no history
    }
  }
}

export const add = (entry) => keep([entry, ...entries()]);
export const clear = () => keep([]);
export const correct = (request, label) =>
  keep(entries().map((entry) => (entry.request === request ? { ...entry, corrected: label } : entry)));
