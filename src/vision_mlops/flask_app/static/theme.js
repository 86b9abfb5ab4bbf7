// Runs before the first paint: the remembered theme, and the mark that scripts run. Storage may be forbidden.
document.documentElement.classList.add("js");
try {
  const theme = localStorage.getItem("mlops-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // The system's theme it is.
}
