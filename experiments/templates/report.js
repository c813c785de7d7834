"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  // Filters. data-place holds words "operator/access/date": one of them must fit what is chosen.
  // data-app and data-date mark rows and columns of one app or date.
  const form = document.querySelector("form.filters");
  if (form) {
    form.hidden = false;
    const selects = all("select", form);
    const targets = all("[data-place],[data-app],[data-date]")
      .filter((one) => !one.closest("#yours") && !one.matches(".variant"));
    // Charts that are drawn for each situation and app stand in for the one that shows all.
    const drawn = all("figure.variant");
    const none = all("[data-none]");
    const whole = all("[data-when=all]");
    const fits = (data, wanted) => {
      if (data.app !== undefined && wanted.app && data.app !== wanted.app) return false;
      if (data.date !== undefined && wanted.date && data.date !== wanted.date) return false;
      if (data.place === undefined) return true;
      return data.place.trim().split(" ").some((place) => {
        const [operator, access, date] = place.split("/");
        return (!wanted.operator || wanted.operator === operator)
          && (!wanted.access || wanted.access === access)
          && (!wanted.date || wanted.date === date);
      });
    };
    const [button] = all("button", form);
    const [chosenText] = all("output", form);
    const comma = document.documentElement.lang === "ar" ? "، " : ", ";
    const apply = () => {
      const wanted = Object.fromEntries(selects.map((one) => [one.dataset.key, one.value]));
      const chosen = selects.filter((one) => one.value).map((one) => one.selectedOptions[0].text);
      for (const one of targets) one.toggleAttribute("hidden", !fits(one.dataset, wanted));
      const shown = drawn.filter((one) => chosen.length
        && fits({ place: one.dataset.place }, wanted) && one.dataset.of === wanted.app);
      for (const one of drawn) one.hidden = !shown.includes(one);
      for (const one of whole) one.hidden = chosen.length > 0;
      for (const one of none) one.hidden = !chosen.length || shown.length > 0;
      button.disabled = !chosen.length;
      const [place] = location.hash.slice(1).split("?");
      const query = new URLSearchParams(
        selects.filter((one) => one.value).map((one) => [one.dataset.key, one.value]));
      const hash = query.size ? `#${place || "answer"}?${query}` : place && `#${place}`;
      if (hash !== location.hash) history.replaceState(null, "", hash || location.pathname);
      chosenText.textContent = chosen.length ? chosenText.dataset.only.replace("{chosen}", chosen.join(comma)) : "";
    };
    const choose = () => {
      const wanted = new URLSearchParams(location.hash.split("?")[1] || "");
      for (const one of selects) {
        const value = wanted.get(one.dataset.key) || "";
        one.value = all("option", one).some((option) => option.value === value) ? value : "";
      }
      apply();
    };
    if (location.hash.includes("?")) choose();
    addEventListener("hashchange", () => location.hash.includes("?") && choose());
    form.addEventListener("change", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // The same choice in another language.
  for (const link of all(".languages a")) {
    link.addEventListener("click", () => { link.hash = location.hash; });
  }

  // Sorting: a click on a heading sorts its table's rows, numbers as numbers.
  const value = (row, at) => {
    const cell = row.cells[at];
    const text = cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim();
    const french = row.closest("[lang]").lang === "fr";
    const number = parseFloat(french ? text.replace(/\s/g, "").replace(",", ".") : text.replaceAll(",", ""));
    return /^[-\d]/.test(text) && !Number.isNaN(number) ? number : text.toLowerCase();
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === typeof b) return a.localeCompare(b);
    return typeof a === "number" ? -1 : 1;
  };
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((heading, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = Array.from(body.rows).map((row) => [value(row, at), row]);
        rows.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // Legends: a class of a chart goes and comes back; marks carry their class as their colour.
  for (const entry of all(".classes li")) {
    const button = document.createElement("button");
    const { class: colour } = entry.dataset;
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(...entry.childNodes);
    entry.append(button);
    button.addEventListener("click", () => {
      const off = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!off));
      const marks = `svg .f-${colour}, svg .s-${colour}`;
      for (const mark of all(marks, entry.closest("figure"))) mark.classList.toggle("off", off);
    });
  }

  // Values on hover: marks of charts and cells of tables carry their text in data-tip.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  document.addEventListener("pointermove", (event) => {
    const held = event.target instanceof Element && event.target.closest("[data-tip]");
    tip.hidden = !held;
    if (!held) return;
    tip.textContent = held.dataset.tip;
    const { width, height } = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, innerWidth - width - 8);
    const y = event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18;
    tip.style.transform = `translate(${Math.max(8, x)}px, ${Math.max(8, y)}px)`;
    tip.style.left = tip.style.top = "0";
  });

  // Details open when an address points into them.
  const reveal = () => {
    const id = decodeURIComponent(location.hash.slice(1).split("?")[0]);
    const target = id && document.getElementById(id);
    if (!target) return;
    for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) {
      part.open = true;
    }
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
