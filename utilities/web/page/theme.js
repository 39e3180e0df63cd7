"use strict";
// Before anything is drawn: light or dark, as the system is.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const setTheme = () => { document.documentElement.dataset.bsTheme = dark.matches ? "dark" : "light"; };
dark.addEventListener("change", setTheme);
setTheme();
