// The basket and the orders that wait on this device for a line.
"use strict";

shop.basket = {
  // Article number to count.
  lines: new Map(Object.entries(shop.recall("basket", {}))),
  orders: shop.recall("orders", []),

  put(sku, count) {
    const product = shop.products.find((product) => product.sku === sku);
    const wanted = Math.min((this.lines.get(sku) ?? 0) + count, product.stock);
    if (wanted > 0) this.lines.set(sku, wanted);
    else this.lines.delete(sku);
    shop.keep("basket", Object.fromEntries(this.lines));
    this.show();
  },

  total() {
    let cents = 0;
    for (const product of shop.products) cents += product.price * (this.lines.get(product.sku) ?? 0);
    return cents;
  },

  // Orders are kept here; the store's own system collects them when the device is back in the valley.
  order(store) {
    const order = { at: new Date().toISOString(), store, total: this.total(), lines: Object.fromEntries(this.lines) };
    this.orders = [...this.orders, order].slice(-50);
    this.lines.clear();
    shop.keep("orders", this.orders);
    shop.keep("basket", {});
    this.show();
  },

  show() {
    const { element, say } = shop;
    const lines = shop.products.filter((product) => this.lines.has(product.sku)).map((product) =>
      element("li", {},
        element("span", {}, `${this.lines.get(product.sku)} × ${product.name}`),
        element("button", { ariaLabel: `${say("remove")}: ${product.name}`, onclick: () => this.put(product.sku, -1) }, "−"),
      ));
    const parts = [element("h2", {}, say("basket"))];
    if (lines.length === 0) {
      parts.push(element("p", {}, say("empty")));
    } else {
      const stores = element("select", { id: "store" }, ...shop.stores.map((store) =>
        element("option", { value: store.id }, `${store.name}, ${store.altitude} m`)));
      const way = element("small");
      stores.onchange = () => {
        const store = shop.stores.find((store) => store.id === stores.value);
        way.textContent = `${store.hours}. ${store.way} ${store.phone}`;
      };
      stores.onchange();
      parts.push(
        element("ul", {}, ...lines),
        element("p", { className: "total" }, `${say("total")} ${shop.price(this.total())}`),
        element("label", { htmlFor: "store" }, say("pickup")), stores, way,
        element("button", { className: "main", onclick: () => this.order(stores.value) }, say("order")),
      );
    }
    if (this.orders.length > 0) parts.push(element("small", {}, say("kept", { n: this.orders.length })));
    document.querySelector("#basket").replaceChildren(...parts);
  },
};
