// Ridge Stores: the catalogue of a small chain of mountain shops, which works without a line.
"use strict";

function showAll() {
  document.documentElement.lang = shop.language;
  document.querySelector("#search").placeholder = shop.say("search");
  document.querySelector("#search").ariaLabel = shop.say("search");
  document.querySelector("#offline").textContent = shop.say("offline");
  shop.shelves.showDepartments();
  shop.shelves.show();
  shop.basket.show();
  showVersion();
}

function showLine() {
  document.querySelector("#offline").hidden = navigator.onLine;
}

// The release that this page belongs to; a page opened from a checkout has none.
async function release() {
  try {
    const response = await fetch("version.json", { cache: "no-store" });
    return response.ok ? (await response.json()).version : null;
  } catch {
    return null;
  }
}

let version = null;
function showVersion() {
  document.querySelector("#version").textContent = version === null ? "" : shop.say("version", { version });
}

function chooseLanguage() {
  const select = document.querySelector("#language");
  const known = Object.keys(shop.words);
  const preferred = navigator.languages.map((language) => language.slice(0, 2)).find((language) => known.includes(language));
  shop.language = shop.recall("language", preferred ?? "en");
  select.append(...known.map((language) => shop.element("option", { value: language }, language.toUpperCase())));
  select.value = shop.language;
  select.onchange = () => {
    shop.language = select.value;
    shop.keep("language", shop.language);
    showAll();
  };
}

async function start() {
  chooseLanguage();
  document.querySelector("#search").oninput = () => shop.shelves.show();
  window.ononline = window.onoffline = showLine;
  showLine();
  showAll();
  version = await release();
  showVersion();
  // A new release is a new address for the worker, so that the browser installs it.
  if (version !== null && "serviceWorker" in navigator) {
    await navigator.serviceWorker.register(`worker.js?version=${encodeURIComponent(version)}`);
  }
}

start();
