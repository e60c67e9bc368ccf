// Keeps one release of the app whole in the browser's cache, and answers from it when there is no line.
"use strict";

const CACHE = `shop-${new URL(location.href).searchParams.get("version")}`;

const FILES = [
  "./", "index.html", "app.js", "style.css", "manifest.webmanifest", "version.json",
  "scripts/shop.js", "scripts/basket.js", "scripts/shelves.js",
  "data/words.js", "data/categories.js", "data/guides.js", "data/products.js", "data/stores.js",
  ...["app", "care", "cook", "food", "light", "map", "metal", "rope", "sleep", "wear"].map((name) => `icons/${name}.svg`),
];

// All files of the release or none: a cache that lacks one is not installed, and the one before it stays.
self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" })))));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => {
  event.waitUntil(caches.keys()
    .then((names) => Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name))))
    .then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  // The version is asked of the server first: it is how the page learns of a new release.
  const fresh = new URL(event.request.url).pathname.endsWith("/version.json");
  const cached = () => caches.open(CACHE).then((cache) => cache.match(event.request));
  event.respondWith(fresh
    ? fetch(event.request).catch(async () => (await cached()) ?? Response.error())
    : cached().then((response) => response ?? fetch(event.request)));
});
