// Before the page is drawn: the theme that the reader chose, if they did; else the system's.
"use strict";
try {
  const chosen = localStorage.getItem("mendix-mesh-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // No storage: the system's theme.
}
