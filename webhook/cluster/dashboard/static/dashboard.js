// The pages work without this. It keeps them fresh, copies commands and switches the theme.
"use strict";

const page = document.documentElement;
const news = document.getElementById("news");
let isPaused = false;

function say(text) {
  news.textContent = "";
  // A screen reader announces only changes: the same text twice is not a change.
  setTimeout(() => { news.textContent = text; }, 50);
}

// Copy: a button beside each command, where the browser lets a page write to the clipboard.
function addCopies() {
  if (!navigator.clipboard) return;
  for (const code of document.querySelectorAll("code[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${code.textContent}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
        say("Copied");
      } catch {
        button.textContent = "Not copied";
        say("Not copied");
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    code.after(button);
  }
}

// The theme: the system's, until the reader chooses; kept in this browser alone.
function isDark() {
  return page.dataset.theme ? page.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
}

function addTools() {
  const tools = document.getElementById("tools");
  const theme = document.createElement("button");
  theme.type = "button";
  theme.className = "tool";
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.setAttribute("aria-description", "Switches between dark and light colors");
  theme.addEventListener("click", () => {
    page.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("mendix-mesh-theme", page.dataset.theme); } catch { /* for now alone */ }
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();
  const pause = document.createElement("button");
  pause.type = "button";
  pause.className = "tool";
  pause.textContent = "Pause";
  pause.setAttribute("aria-description", "This page refreshes itself");
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Resume" : "Pause";
    say(isPaused ? "Refresh paused" : "Refresh resumed");
  });
  tools.append(pause, theme);
}

// Refresh: fetch the page again and replace the content.
function isBusy() {
  const active = document.activeElement;
  const writes = active && active.matches("main input, main select");
  const selection = getSelection();
  return isPaused || document.hidden || writes || (selection && !selection.isCollapsed);
}

function nameOf(details) {
  const article = details.closest("[aria-label]");
  return `${article ? article.getAttribute("aria-label") : ""} ${details.querySelector("summary").textContent}`;
}

// What a new content must keep: what is open, how far it is scrolled, and what has the focus.
function remember(main) {
  const active = document.activeElement;
  const focusable = [...main.querySelectorAll("a, button, summary, [tabindex]")];
  return {
    open: new Set([...main.querySelectorAll("details[open]")].map(nameOf)),
    scrolled: [...main.querySelectorAll(".scroller")].map((one) => one.scrollLeft),
    focus: main.contains(active) ? focusable.indexOf(active) : -1,
    text: active ? active.textContent : "",
  };
}

function restore(main, kept) {
  for (const one of main.querySelectorAll("details")) one.open = kept.open.has(nameOf(one));
  main.querySelectorAll(".scroller").forEach((one, i) => { one.scrollLeft = kept.scrolled[i] || 0; });
  if (kept.focus < 0) return;
  const focusable = [...main.querySelectorAll("a, button, summary, [tabindex]")];
  const same = focusable[kept.focus];
  const found = same && same.textContent === kept.text ? same
    : focusable.find((one) => one.textContent === kept.text);
  (found || main).focus({ preventScroll: true });
}

function heard(root) {
  const news = root.querySelector("[data-news]");
  return news ? news.dataset.news : "";
}

async function refresh() {
  if (isBusy()) return;
  let text;
  try {
    const answer = await fetch(location.href, { cache: "no-store", redirect: "manual" });
    // The server leads nowhere else: it is a proxy in front, whose session is over. A page may be
    // led to its login, unlike what a page asks for.
    if (answer.type === "opaqueredirect") {
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    text = await answer.text();
    page.classList.remove("is-cut");
  } catch {
    if (!page.classList.contains("is-cut")) say("The dashboard does not answer; this page is outdated");
    page.classList.add("is-cut");
    return;
  }
  if (isBusy()) return;
  const made = new DOMParser().parseFromString(text, "text/html");
  const fresh = made.querySelector("main");
  const old = document.querySelector("main");
  if (!fresh || !old) return;
  const before = heard(old);
  const kept = remember(old);
  old.replaceWith(document.adoptNode(fresh));
  const foot = made.querySelector("footer");
  if (foot) document.querySelector("footer").replaceWith(document.adoptNode(foot));
  document.title = made.title;
  addCopies();
  restore(fresh, kept);
  const after = heard(fresh);
  if (after && after !== before) say(after);
}

// A form would be kept from being led to such a login, by the policy that keeps it to this server.
function addForms() {
  document.addEventListener("submit", (event) => {
    event.preventDefault();
    location.assign(`${event.target.action}?${new URLSearchParams(new FormData(event.target))}`);
  });
}

addTools();
addCopies();
addForms();
setInterval(refresh, Number(page.dataset.refresh || 30) * 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
