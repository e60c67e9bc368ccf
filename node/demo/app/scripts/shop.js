// What every part of the page uses: words in the reader's language, prices, and elements built without markup in text.
"use strict";

const shop = {
  language: "en",

  // A text by its name, with {placeholders} filled in.
  say(name, values = {}) {
    const text = (shop.words[shop.language] ?? shop.words.en)[name];
    return text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
  },

  price(cents) {
    return new Intl.NumberFormat(shop.language, { style: "currency", currency: "EUR" }).format(cents / 100);
  },

  // An element with properties and children; text stays text.
  element(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  },

  // What this device keeps between visits. A browser that keeps nothing gives the default each time.
  recall(name, otherwise) {
    try {
      return JSON.parse(localStorage.getItem(`shop.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },

  keep(name, value) {
    try {
      localStorage.setItem(`shop.${name}`, JSON.stringify(value));
    } catch {
      // Private windows and full disks: the page works on, and forgets when it is closed.
    }
  },
};
