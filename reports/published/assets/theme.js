// The theme: the system's unless the reader has chosen one; light on paper. Loaded before the page
// is painted.
"use strict";

(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const KEY = "efficientdet-parity-theme";
  root.classList.add("script");

  // A browser may refuse storage to pages that are files.
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  const store = (theme) => {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // The choice then holds for this page only.
    }
  };

  let chosen = stored();
  let printing = false;
  const current = () => (chosen === "light" || chosen === "dark" ? chosen : dark.matches ? "dark" : "light");

  const apply = () => {
    const theme = printing ? "light" : current();
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) button.textContent = theme === "dark" ? "Light" : "Dark";
    document.dispatchEvent(new CustomEvent("themechange"));
  };
  apply();
  dark.addEventListener("change", apply);

  const print = (now) => {
    printing = now;
    apply();
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  matchMedia("print").addEventListener("change", (event) => print(event.matches));

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.textContent = current() === "dark" ? "Light" : "Dark";
    button.hidden = false;
    button.addEventListener("click", () => {
      chosen = current() === "dark" ? "light" : "dark";
      store(chosen);
      apply();
    });
  });
})();
