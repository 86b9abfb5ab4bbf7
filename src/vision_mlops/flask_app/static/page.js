// On every page: the theme, the copy buttons, and whether the endpoint answers.
const root = document.documentElement;
const [theme, state, word, banner, text] =
  ["theme", "state", "state-word", "banner", "banner-text"].map((id) => document.getElementById(id));
const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const SOON = 3_000, LATER = 30_000;
let problem = banner.hidden ? null : { message: text.textContent };
let timer = 0;

const isDark = () => (root.dataset.theme ?? (darkSystem.matches ? "dark" : "light")) === "dark";
const showTheme = () => theme.setAttribute("aria-pressed", isDark());
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try {
    localStorage.setItem("mlops-theme", root.dataset.theme);
  } catch {
    // Storage is forbidden: the choice holds for this page.
  }
  showTheme();
});
darkSystem.addEventListener("change", showTheme);
showTheme();

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch { // no clipboard without https
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2_000);
  });
}

/** Ask whether the endpoint answers: null, or what is wrong. The event "endpoint" tells the page when that has changed. */
export async function checkEndpoint(doubtful = false) {
  clearTimeout(timer);
  let found;
  try {
    const response = await fetch("/api/status", { signal: AbortSignal.timeout(20_000) });
    found = response.ok ? (await response.json()).problem : problem;
  } catch {
    found = { message: "The server of this page does not respond. The page tries again every few seconds." };
  }
  const changed = !found !== !problem;
  problem = found;
  state.classList.toggle("bad", Boolean(problem));
  document.body.classList.toggle("has-problem", Boolean(problem));
  word.textContent = problem ? "Problem" : "Ready";
  banner.hidden = !problem;
  if (problem && text.textContent !== problem.message) text.textContent = problem.message;
  if (changed) document.dispatchEvent(new CustomEvent("endpoint", { detail: { problem } }));
  clearTimeout(timer);
  timer = setTimeout(checkEndpoint, problem || doubtful ? SOON : LATER);
  return problem;
}

timer = setTimeout(checkEndpoint, problem ? SOON : LATER);
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : checkEndpoint()));
