
"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, settings = {}) => Object.assign(document.createElement(tag), settings);

  // Colours: the system's, or the reader's choice; ?theme=dark shows a page in that theme.
  const themes = ["system", "light", "dark"];
  const remember = (theme) => { try { localStorage.setItem("countermove-theme", theme); } catch { /* not allowed here */ } };
  const remembered = () => { try { return localStorage.getItem("countermove-theme"); } catch { return null; } };
  const themeButton = document.getElementById("theme");
  const show = (theme) => {
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
    themeButton.textContent = `Colours: ${theme}`;
  };
  const wanted = new URLSearchParams(location.search).get("theme") || remembered();
  let theme = themes.includes(wanted) ? wanted : "system";
  show(theme);
  themeButton.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    show(theme);
    remember(theme);
  });

  // Print: everything that is folded is opened for the time of printing.
  let opened = [];
  const unfold = () => { opened = all("details:not([open])"); opened.forEach((d) => { d.open = true; }); };
  const fold = () => { opened.forEach((d) => { d.open = false; }); opened = []; };
  addEventListener("beforeprint", unfold);
  addEventListener("afterprint", fold);
  document.getElementById("print").addEventListener("click", () => print());

  // A link to a folded paragraph opens it.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.closest("details");
    if (folded) { folded.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);

  // One pane of several: the price of the scatter, the move of the curves.
  for (const select of all("select[data-shows]")) {
    const panes = all(`[data-pane="${select.dataset.shows}"]`);
    const choose = () => panes.forEach((pane) => pane.classList.toggle("off", pane.dataset.value !== select.value));
    select.addEventListener("change", choose);
    choose();
  }

  // Tables that sort by their column heads. Numbers by value, empty fields last, ties in the order that was.
  const field = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
  const missing = (text) => text === "" || text === "-";
  const before = (a, b, direction) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const [x, y] = [Number(a), Number(b)];
    return direction * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y);
  };
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [field(row, column), row]);
        rows.sort(([a], [b]) => before(a, b, direction));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // Filters: rows that hold every word.
  for (const input of all("input[data-filters]")) {
    const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
    const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
    const output = document.getElementById(`${input.id}-count`);
    const filter = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row, i) => { row.hidden = !words.every((word) => texts[i].includes(word)); });
      output.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
    };
    input.addEventListener("input", filter);
    filter();
  }

  // Galleries: captions for pictures that stand alone, an order of the reader's choice, and a closer look.
  for (const picture of all(".sample > img")) {
    const frame = make("figure", { className: "frame" });
    picture.replaceWith(frame);
    frame.append(picture, make("figcaption", { textContent: picture.alt }));
  }
  const orders = {
    "as given": () => 0,
    "largest damage first": (a, b) => Number(b.dataset.damage) - Number(a.dataset.damage),
    "smallest damage first": (a, b) => Number(a.dataset.damage) - Number(b.dataset.damage),
    "class": (a, b) => (a.dataset.label ?? "").localeCompare(b.dataset.label ?? "", "en", { numeric: true }),
  };
  all(".gallery[data-sortable]").forEach((gallery, i) => {
    const samples = all(".sample", gallery);
    const select = make("select", { id: `gallery-order-${i}` });
    select.append(...Object.keys(orders).map((name) => make("option", { textContent: name, value: name })));
    select.addEventListener("change", () => gallery.append(...samples.toSorted(orders[select.value])));
    const bar = make("p", { className: "pick" });
    bar.append(make("label", { htmlFor: select.id, textContent: "Order of the pictures" }), " ", select);
    gallery.before(bar);
  });
  const dialog = document.getElementById("zoom");
  const big = document.getElementById("zoom-picture");
  const caption = document.getElementById("zoom-caption");
  let shown = null;
  const buttons = () => all(".zoomer", shown.closest(".gallery") ?? shown.closest("section"));
  const enlarge = (button) => {
    shown = button;
    const picture = button.querySelector("img");
    const sample = button.closest(".sample")?.querySelector(":scope > figcaption");
    big.src = picture.src;
    big.alt = picture.alt;
    caption.textContent = [picture.alt, sample?.textContent.trim()].filter(Boolean).join(" · ");
    if (!dialog.open) dialog.showModal();
  };
  const step = (by) => {
    const some = buttons();
    enlarge(some[(some.indexOf(shown) + by + some.length) % some.length]);
  };
  for (const picture of all(".sample img")) {
    const button = make("button", { type: "button", className: "zoomer" });
    button.setAttribute("aria-haspopup", "dialog");
    picture.replaceWith(button);
    button.append(picture);
    button.addEventListener("click", () => enlarge(button));
  }
  document.getElementById("zoom-back").addEventListener("click", () => step(-1));
  document.getElementById("zoom-next").addEventListener("click", () => step(1));
  document.getElementById("zoom-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("close", () => shown?.focus());

  root.classList.add("js");
  reveal();
  root.dataset.ready = "true";
})();
