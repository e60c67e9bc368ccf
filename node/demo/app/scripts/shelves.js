// The shelves: departments, search, and an article's details.
"use strict";

shop.shelves = {
  department: null,

  // Each word of the search must stand somewhere in the article; accents and case don't matter.
  matches(product, words) {
    const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
    const text = plain(`${product.sku} ${product.name} ${product.text}`);
    return plain(words).split(/\s+/).every((word) => text.includes(word));
  },

  icon(product) {
    const category = shop.categories.find((category) => category.id === product.category);
    return shop.element("img", { src: category.icon, alt: category.title, width: 48, height: 48 });
  },

  stock(product) {
    const text = product.stock > 0 ? shop.say("stock", { n: product.stock }) : shop.say("none");
    return shop.element("small", { className: product.stock > 0 ? "" : "none" }, text);
  },

  detail(product) {
    const { element, say } = shop;
    const dialog = document.querySelector("#detail");
    const add = element("button", { className: "main", disabled: product.stock === 0 }, say("add"));
    add.onclick = () => {
      shop.basket.put(product.sku, 1);
      dialog.close();
    };
    dialog.replaceChildren(
      this.icon(product),
      element("h2", {}, product.name),
      element("p", {}, product.text),
      element("p", {}, `${product.sku} · ${say("shelf", { shelf: product.shelf })} · `, this.stock(product)),
      element("p", { className: "total" }, shop.price(product.price)),
      add, element("button", { onclick: () => dialog.close() }, say("close")),
    );
    dialog.showModal();
  },

  showDepartments() {
    const choice = (id, label) => shop.element("button", {
      ariaPressed: String(this.department === id),
      onclick: () => {
        this.department = id;
        this.showDepartments();
        this.show();
      },
    }, label);
    document.querySelector("#departments").replaceChildren(
      choice(null, shop.say("all")), ...shop.categories.map((category) => choice(category.id, category.short)));
  },

  show() {
    const words = document.querySelector("#search").value.trim();
    const found = shop.products.filter((product) =>
      (this.department === null || product.category === this.department) && this.matches(product, words));
    document.querySelector("#guide").textContent = shop.guides[this.department] ?? "";
    document.querySelector("#found").textContent = shop.say("found", { n: found.length });
    document.querySelector("#shelves").replaceChildren(...found.map((product) =>
      shop.element("li", {},
        shop.element("button", { className: "article", onclick: () => this.detail(product) },
          this.icon(product),
          shop.element("span", {}, product.name),
          shop.element("strong", {}, shop.price(product.price)),
          this.stock(product)))));
  },
};
