"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const words = (text) => (text || "").trim().split(/\s+/).filter(Boolean);
  const [hashPlace, hashQuery] = [
    () => decodeURIComponent(location.hash.slice(1).split("?")[0]),
    () => location.hash.split("?")[1] || "",
  ];

  // Filters. The table of views has the content of each slot for every choice of the filters.
  // Elsewhere data-place holds words "operator/access/date", data-operators ids, data-app and
  // data-date one of each: what does not fit is hidden; an empty data-app is a row of several apps.
  // data-extra is shown under a filter alone, data-when=all without one. data-follows names the
  // filters that a part follows; where another one is chosen, its heading says so.
  const form = document.querySelector("form.filters");
  const state = form && (() => {
    form.hidden = false;
    const table = JSON.parse(document.getElementById("views").textContent);
    const selects = all("select", form);
    const [button] = all("button", form);
    const [said] = all("output", form);
    const comma = document.documentElement.lang === "ar" ? "، " : ", ";
    const wantedNow = () => Object.fromEntries(selects.map((one) => [one.dataset.key, one.value]));

    const show = (wanted) => {
      let number = 0;
      table.keys.forEach((key, at) => {
        const own = table.options[at];
        number = number * (own.length + 1) + own.indexOf(wanted[key]) + 1;
      });
      const contents = table.views[table.choices[number]];
      table.slots.forEach((slot, at) => {
        const text = table.contents[contents[at]].map((one) => table.fragments[one]).join("");
        for (const element of all(`[data-slot="${slot}"]`)) element.innerHTML = text;
      });
    };
    const fits = (data, wanted) => {
      if (data.app !== undefined && wanted.app && data.app !== wanted.app) return false;
      if (data.date !== undefined && wanted.date && data.date !== wanted.date) return false;
      if (data.operators !== undefined && wanted.operator
        && !words(data.operators).includes(wanted.operator)) return false;
      return data.place === undefined || words(data.place).some((place) => {
        const [operator, access, date] = place.split("/");
        return (!wanted.operator || wanted.operator === operator)
          && (!wanted.access || wanted.access === access)
          && (!wanted.date || !date || wanted.date === date);
      });
    };
    const note = (part, keys) => {
      const mark = document.createElement("span");
      mark.className = "mark unfiltered";
      const names = keys.map((key) => form.querySelector(`[data-key=${key}]`).labels[0].querySelector(".sr").textContent.toLowerCase());
      mark.textContent = said.dataset.unfiltered.replace("{keys}", names.join(comma));
      const home = all("summary, h2:not(.sr), h3, caption, figcaption, dt", part)
        .find((one) => one.closest("[data-follows]") === part) || part;
      home.append(" ", mark);
    };
    const notes = (chosen) => {
      for (const mark of all(".mark.unfiltered")) {
        mark.previousSibling.remove();
        mark.remove();
      }
      const missing = (part) => part
        ? chosen.filter((key) => !words(part.dataset.follows).includes(key)) : [];
      for (const part of all("[data-follows]")) {
        const own = missing(part);
        const above = missing(part.parentElement.closest("[data-follows]"));
        if (own.length && own.join() !== above.join()) note(part, own);
      }
    };
    const draw = (wanted) => {
      const chosen = selects.filter((one) => wanted[one.dataset.key]);
      show(wanted);
      for (const one of all("[data-place],[data-app],[data-date],[data-operators],[data-extra],[data-when]")) {
        const { extra, when } = one.dataset;
        const wrong = (extra !== undefined && !chosen.length) || (when === "all" && chosen.length);
        one.toggleAttribute("hidden", Boolean(wrong) || !fits(one.dataset, wanted));
      }
      notes(chosen.map((one) => one.dataset.key));
      const texts = chosen.map((one) => one.selectedOptions[0].text);
      said.textContent = texts.length ? said.dataset.only.replace("{chosen}", texts.join(comma)) : "";
      button.disabled = !texts.length;
      anchor();
    };
    const query = () => new URLSearchParams(
      selects.filter((one) => one.value).map((one) => [one.dataset.key, one.value])).toString();
    const apply = () => {
      draw(wantedNow());
      const place = location.hash.slice(1).split("?")[0];
      const hash = query() ? `#${place || "answer"}?${query()}` : place && `#${place}`;
      if (hash !== location.hash) history.replaceState(null, "", hash || location.pathname);
    };
    const choose = () => {
      const wanted = new URLSearchParams(hashQuery());
      for (const one of selects) {
        const value = wanted.get(one.dataset.key) || "";
        one.value = all("option", one).some((option) => option.value === value) ? value : "";
      }
      apply();
    };
    form.addEventListener("change", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    // Paper has the page without a filter.
    addEventListener("beforeprint", () => draw({ operator: "", access: "", date: "", app: "" }));
    addEventListener("afterprint", () => draw(wantedNow()));
    return { choose, query };
  })();

  // The same choice in another language, and at another place of the page.
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("a[href]");
    if (!link) return;
    if (link.closest(".languages")) link.hash = location.hash;
    const target = link.getAttribute("href");
    if (!state || !state.query() || !target.startsWith("#") || target.includes("?")) return;
    event.preventDefault();
    location.hash = `${target}?${state.query()}`;
  });

  // Links: a "#" in the heading of each part, figure and table, and in a cell under the pointer.
  const linkTo = (address) => {
    const link = document.createElement("a");
    link.className = "anchor";
    link.href = `#${address}`;
    link.textContent = "#";
    link.setAttribute("aria-label", document.body.dataset.link || "Link to this");
    return link;
  };
  const anchor = () => {
    const parts = "section[id], figure[id], table[id], .key div[id], h3[id]";
    for (const part of all(parts)) {
      const home = part.matches("h3") ? part : all("h2:not(.sr), caption, figcaption, dt", part)
        .find((one) => one.closest("section[id], figure[id], table[id], .key div[id]") === part);
      if (home && !home.querySelector(".anchor")) home.append(" ", linkTo(part.id));
    }
  };

  // A cell's address is cell=operator/access/date/app/hypothesis, a part that does not matter empty.
  // data-cells names the parts of the addresses of a table's cells.
  const KEYS = ["operator", "access", "date", "app", "hypothesis"];
  const partsOf = (cell) => {
    const near = (name) => {
      const owner = cell.closest(`[data-${name}]`);
      return owner && owner.dataset[name];
    };
    const column = cell.dataset.date || cell.dataset.app;
    const places = words(near("place")).map((place) => place.split("/"))
      .filter((place) => !cell.dataset.date || place[2] === cell.dataset.date);
    return {
      places: places.length ? places : words(near("operators")).map((one) => [one, "", ""]),
      app: near("app") || "",
      hypothesis: near("hypothesis") || "",
      column,
    };
  };
  const addressOf = (cell) => {
    const table = cell.closest("table[data-cells]");
    if (!table || cell.tagName !== "TD") return "";
    const wanted = words(table.dataset.cells);
    const { places, app, hypothesis } = partsOf(cell);
    const chosen = new URLSearchParams(state ? state.query() : "");
    const place = places.find((one) => KEYS.slice(0, 3).every((key, at) => [one[at], null, ""].includes(chosen.get(key)))) || places[0] || ["", "", ""];
    const values = [...place, app, hypothesis];
    const named = KEYS.map((key, at) => (wanted.includes(key) ? values[at] : ""));
    return named.some(Boolean) ? `cell=${named.join("/").replace(/\/+$/, "")}` : "";
  };
  const cellsOf = (address) => {
    const parts = address.split("/");
    const value = Object.fromEntries(KEYS.map((key, at) => [key, parts[at] || ""]));
    const given = KEYS.filter((key) => value[key]);
    const fit = (cell) => {
      const { places, app, hypothesis } = partsOf(cell);
      return (!value.app || value.app === app) && (!value.hypothesis || value.hypothesis === hypothesis)
        && (!(value.operator || value.access || value.date)
          || places.some((place) => KEYS.slice(0, 3).every((key, at) => !value[key] || !place[at] || value[key] === place[at])));
    };
    const tables = all("table[data-cells]").filter((table) => given.every((key) => words(table.dataset.cells).includes(key)));
    tables.sort((a, b) => words(a.dataset.cells).length - words(b.dataset.cells).length);
    for (const table of tables) {
      const found = all("tbody td", table).filter((cell) => !cell.closest("[hidden]") && fit(cell));
      if (found.length) return found;
    }
    return [];
  };
  let hovered = null;
  document.addEventListener("pointerover", (event) => {
    const cell = event.target instanceof Element && event.target.closest("table[data-cells] td");
    if (cell === hovered) return;
    for (const old of all("td > .anchor")) old.remove();
    hovered = cell;
    const address = cell && addressOf(cell);
    if (address) cell.append(linkTo(address));
  });

  // Sorting: a click on a heading sorts its table's rows, numbers as numbers. A row that opens what
  // belongs to the row above it stays below that row.
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
        const groups = [];
        for (const row of body.rows) {
          if (row.matches(".opens") && groups.length) groups.at(-1).push(row);
          else groups.push([row]);
        }
        const keyed = groups.map((group) => [value(group[0], at), group]);
        keyed.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
        body.append(...keyed.flatMap(([, group]) => group));
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
    const target = event.target instanceof Element && event.target.closest("[data-tip]");
    tip.hidden = !target;
    if (!target) return;
    tip.textContent = target.dataset.tip;
    const { width, height } = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, innerWidth - width - 8);
    const y = event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18;
    tip.style.transform = `translate(${Math.max(8, x)}px, ${Math.max(8, y)}px)`;
    tip.style.left = tip.style.top = "0";
  });

  // Details open when an address points into them; a cell that it names is marked.
  const reveal = () => {
    for (const old of all(".linked")) old.classList.remove("linked");
    const place = hashPlace();
    const cells = place.startsWith("cell=") ? cellsOf(place.slice(5)) : [];
    for (const cell of cells) cell.classList.add("linked");
    const target = cells[0] || (place && document.getElementById(place));
    if (!target) return;
    for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) {
      part.open = true;
    }
    target.scrollIntoView(cells.length ? { block: "center", inline: "center" } : {});
  };
  anchor();
  if (state && hashQuery()) state.choose();
  reveal();
  addEventListener("hashchange", () => {
    if (state && hashQuery()) state.choose();
    reveal();
  });
})();
