// Copyright The c7n-keyrot Authors.
// SPDX-License-Identifier: Apache-2.0
"use strict";
// Sorts and filters the tables, and builds the rows of keys when they are asked for. All text
// from the data becomes text: nothing here makes markup out of a string.
(() => {
  const STEP = 100; // rows of keys that are built at once
  const FEW = 500; // keys that are all printed, whether they were opened or not
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  function foreign(text) { // text of users and tags: its direction ends where it ends
    const element = document.createElement("bdi");
    element.textContent = text;
    return element;
  }

  const small = (text) => make("span", { class: "soft small" }, foreign(text));

  function icon(kind) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    svg.setAttribute("class", "icon");
    for (const size of ["width", "height"]) svg.setAttribute(size, "16");
    svg.setAttribute("aria-hidden", "true");
    use.setAttribute("href", `#i-${kind}`);
    svg.append(use);
    return svg;
  }

  const grouped = (number) => number.toLocaleString("en");
  const matches = (some, all) =>
    some === all ? `${grouped(all)} in total` : `${grouped(some)} of ${grouped(all)} match`;

  // Sorting

  const compare = (a, b) => {
    const none = (a === "" || a === null) - (b === "" || b === null);
    if (none || a === b) return none;
    return typeof a === "number" && typeof b === "number" ? a - b : words.compare(a, b);
  };

  /** Put a button into each heading; tell `sort` which column, and whether it goes down. */
  function sortable(table, sort) {
    const heads = $$(":scope > thead th", table);
    heads.forEach((head, column) => {
      if (!head.hasAttribute("data-sort")) return;
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const first = head.dataset.sort === "number" ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", now === first ? other : first);
        sort(column, head.getAttribute("aria-sort") === "descending");
      });
    });
  }

  function valueOf(row, column, number) {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return number && text !== "" ? Number(text) : text;
  }

  for (const table of $$("table.sortable")) {
    sortable(table, (column, down) => {
      const number = $$(":scope > thead th", table)[column].dataset.sort === "number";
      // Each entry is a tbody of its own: what is opened below it moves along.
      const valued = (body) => [valueOf(body.rows[0], column, number), body];
      const values = [...table.tBodies].map(valued);
      values.sort(([a], [b]) => (a === "" || b === "" || !down ? compare(a, b) : compare(b, a)));
      table.append(...values.map(([, body]) => body));
      if (table.id === "account-table") showAccounts();
    });
  }

  // The keys

  let keys = null;
  /** Read the keys out of the page, once: all of them, and by account. */
  function load() {
    if (keys) return keys;
    const { columns, coded, words: list, rows } = JSON.parse($("#data").textContent);
    const decode = columns.map((name) => coded.includes(name));
    const by = new Map();
    const all = rows.map((row) => {
      const key = {};
      for (let i = 0; i < columns.length; i++) {
        key[columns[i]] = decode[i] && row[i] !== null ? list[row[i]] : row[i];
      }
      if (by.has(key.account)) by.get(key.account).push(key);
      else by.set(key.account, [key]);
      return key;
    });
    return (keys = { all, by });
  }

  const nameOf = (key) => places.get(key.account)?.dataset.name ?? "";
  const badge = (kind, text) => make("span", { class: `badge ${kind}` }, icon(kind), text);
  const STATES = { open: "bad", unclear: "soon", exempt: "none", expiring: "soon", fixed: "good" };
  const OUTCOMES = {
    disabled: "good", deleted: "good", gone: "none", skipped: "none", reactivated: "soon",
    unknown: "soon", intended: "soon", denied: "bad", failed: "bad",
  };
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

  const COLUMNS = [
    { name: "User and key", sort: "text", value: (key) => key.user, fill: (key, cell) => {
      cell.append(foreign(key.user), make("br"));
      const id = make("span", { class: "id soft" });
      id.textContent = key.key ?? "key id not known";
      cell.append(id, make("br"), small(key.slot ? `slot ${key.slot}` : "slot not known"));
      if (key.note) cell.append(make("br"), foreign(`“${key.note}”`));
    } },
    { name: "Account", sort: "text", only: "all", value: nameOf, fill: (key, cell) => {
      cell.append(foreign(nameOf(key)));
      const { id, name } = places.get(key.account)?.dataset ?? {};
      if (id && id !== name) cell.append(make("br"), make("span", { class: "id soft" }, id));
    } },
    { name: "State", sort: "text", value: (key) => key.state, fill: (key, cell) => {
      const name = key.state === "unclear" ? "In doubt" : capital(key.state);
      cell.append(badge(STATES[key.state] ?? "none", name));
      if (key.why) cell.append(make("br"), small(key.why));
    } },
    { name: "Age", sort: "number", value: (key) => key.age, fill: (key, cell) => {
      cell.append(key.age === null ? none() : `${grouped(Math.floor(key.age))} d`);
    } },
    { name: "Deadline", sort: "text", value: (key) => key.deadline, fill: (key, cell) => {
      if (key.deadline === null) {
        cell.append(none());
        return;
      }
      const [day, time] = key.deadline.split(" ");
      const title = `${key.deadline} UTC`;
      cell.append(make("time", { datetime: `${day}T${time}Z`, title }, day));
      if (key.left !== null) cell.append(make("br"), small(left(key.left)));
    } },
    { name: "Outcome", sort: "text", value: (key) => key.outcome, fill: (key, cell) => {
      if (key.outcome) cell.append(badge(OUTCOMES[key.outcome] ?? "none", capital(key.outcome)));
      else cell.append(none("none"));
      if (key.done) cell.append(make("br"), small(key.done));
      if (key.reason) cell.append(make("br"), small(key.reason));
      if (key.history) {
        const count = `${key.history.length} ${key.history.length === 1 ? "event" : "events"}`;
        const items = key.history.map((text) => make("li", {}, foreign(text)));
        cell.append(make("details", { class: "history" },
          make("summary", {}, count), make("ol", {}, ...items)));
      }
    } },
    { name: "Owner", sort: "text", value: (key) => key.owner, fill: (key, cell) => {
      cell.append(key.owner ? foreign(key.owner) : none("none"));
    } },
    { name: "Last used", sort: "text", value: (key) => key.used, fill: (key, cell) => {
      cell.append(key.used ? key.used.split(" ")[0] : none("never, or not known"));
      if (key.used_by) cell.append(make("br"), small(key.used_by));
    } },
  ];
  const none = (words = "not known") => {
    const both = document.createDocumentFragment();
    both.append(make("span", { class: "soft", "aria-hidden": "true" }, "–"));
    both.append(make("span", { class: "hidden" }, words));
    return both;
  };
  const left = (days) => {
    const count = `${grouped(Math.abs(days))} ${Math.abs(days) === 1 ? "day" : "days"}`;
    return days > 0 ? `in ${count}` : days < 0 ? `${count} ago` : "passed";
  };

  const classOf = ({ name, sort }) =>
    name.toLowerCase().split(" ")[0] + (sort === "number" ? " number" : "");

  /** Build a table of keys into `place`, some rows at once. Return what shows other keys there. */
  function keyTable(place, title, scope) {
    const columns = COLUMNS.filter((column) => !column.only || column.only === scope);
    const body = make("tbody", { role: "rowgroup" });
    const head = make("tr", { role: "row" });
    for (const column of columns) {
      const attributes = { scope: "col", role: "columnheader", class: classOf(column) };
      head.append(make("th", { ...attributes, "data-sort": column.sort }, column.name));
    }
    const table = make("table", { class: "keys", role: "table" },
      make("caption", { class: "hidden" }, title), make("thead", { role: "rowgroup" }, head), body);
    const more = make("button", { type: "button", class: "button" });
    const rest = make("p", { class: "rest" }, more);
    const region = { class: "scroll", role: "region", tabindex: "0", "aria-label": title };
    place.replaceChildren(make("div", region, table, rest));
    let shown = [];
    let order = null; // {column, down}: it stays when other keys are shown

    function rowOf(key) {
      const row = make("tr", { role: "row", class: "row" });
      for (const [i, column] of columns.entries()) {
        const attributes = { role: "cell", class: classOf(column), "data-label": column.name };
        const cell = i ? make("td", attributes) : make("th", { role: "rowheader", scope: "row" });
        cell.append(make("div"));
        column.fill(key, cell.firstChild);
        row.append(cell);
      }
      return row;
    }

    function build(until) {
      body.append(...shown.slice(body.rows.length, until).map(rowOf));
      const missing = shown.length - body.rows.length;
      rest.hidden = missing <= 0;
      more.textContent = `Show ${Math.min(STEP, missing)} more of ${grouped(missing)}`;
    }

    function arrange(keys) {
      shown = [...keys];
      if (order) {
        const { value } = columns[order.column];
        const none = (key) => value(key) === null || value(key) === "";
        shown.sort((a, b) => {
          const [first, second] = none(a) || none(b) || !order.down ? [a, b] : [b, a];
          return compare(value(first), value(second));
        });
      }
      body.replaceChildren();
      build(STEP);
    }

    more.addEventListener("click", () => {
      const first = body.rows.length;
      build(first + STEP);
      const row = body.rows[first]; // keyboard and reader go on where the new rows begin
      if (row) { row.tabIndex = -1; row.focus(); }
    });
    sortable(table, (column, down) => {
      order = { column, down };
      arrange(shown);
    });
    return { show: arrange, all: () => build(Infinity) };
  }

  // The accounts

  const accounts = $("#account-table");
  const places = new Map(); // an account's number in the data -> its tbody
  const opened = new Map();
  for (const body of accounts?.tBodies ?? []) {
    const row = body.rows[0];
    places.set(Number(body.dataset.place), body);
    row.classList.add("row");
    const place = $(".account", row);
    const button = make("button", { type: "button", class: "open", "aria-expanded": "false" });
    button.append(...place.childNodes);
    place.append(button);
    button.addEventListener("click", () => toggle(body, button));
  }

  function toggle(body, button) {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    if (!opened.has(body)) {
      const cell = make("td", { class: "inside" });
      const row = make("tr", { id: `keys-${body.dataset.place}` }, cell);
      body.append(row);
      button.setAttribute("aria-controls", row.id);
      const { facts, keys: count, name, place } = body.dataset;
      cell.append(make("p", { class: "soft small" }, foreign(facts)));
      if (count === "0") cell.append(make("p", {}, "No key of this account is in this report."));
      else {
        const table = keyTable(cell.appendChild(make("div")), `Keys of ${name}`, "account");
        table.show(load().by.get(Number(place)));
      }
      opened.set(body, row);
    }
    opened.get(body).hidden = !open;
    span();
  }

  /** Make what is opened as wide as its table: on a phone some columns are hidden. */
  function span() {
    const isShown = (cell) => getComputedStyle(cell).display !== "none";
    const columns = [...accounts.tHead.rows[0].cells].filter(isShown).length;
    for (const row of opened.values()) row.cells[0].colSpan = columns;
  }
  for (const media of ["(max-width: 600px)", "print"]) {
    matchMedia(media).addEventListener("change", () => accounts && span());
  }

  const atOnce = Number(accounts?.dataset.atOnce);
  let most = atOnce; // so many rows are laid out; printed are all that match the filter
  function showAccounts() {
    const text = $("#account-text").value.trim().toLowerCase();
    const state = $("#account-state").value;
    let count = 0;
    for (const body of accounts.tBodies) {
      const { name, id, state: states } = body.dataset;
      const fits = (!text || `${name} ${id}`.toLowerCase().includes(text))
        && (!state || states.split(" ").includes(state));
      body.hidden = !fits;
      body.classList.toggle("later", fits && count >= most);
      count += fits;
    }
    const all = accounts.tBodies.length;
    $("#account-count").textContent = matches(count, all);
    $("#account-more").parentElement.hidden = count <= most;
    $("#account-more").textContent = `Show all ${grouped(count)}`;
  }

  if (accounts) {
    const change = () => { most = atOnce; showAccounts(); };
    $("#account-text").addEventListener("input", change);
    $("#account-state").addEventListener("change", change);
    $("#account-more").addEventListener("click", () => {
      const next = $(".later", accounts); // keyboard and reader go on where the new rows begin
      most = Infinity;
      showAccounts();
      if (!$(".open", next)) next.tabIndex = -1;
      ($(".open", next) ?? next).focus();
    });
    showAccounts();
  }

  // All keys

  const found = $("#found");
  let everything = null;
  function showKeys() {
    const { all } = load();
    everything ??= keyTable(found, "The keys that were found", "all");
    const text = $("#key-text").value.trim().toLowerCase();
    const [state, outcome] = [$("#key-state").value, $("#key-outcome").value];
    const words = (key) => [
      key.user, key.key, nameOf(key), places.get(key.account)?.dataset.id, key.owner, key.why,
      key.reason, key.note,
    ];
    const list = all.filter((key) => (!state || key.state === state)
      && (!outcome || (key.outcome ?? "none") === outcome)
      && (!text || words(key).some((value) => value?.toLowerCase().includes(text))));
    everything.show(list);
    $("#key-count").textContent = matches(list.length, all.length);
  }
  if (found) {
    let timer;
    $("#key-text").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(showKeys, 120);
    });
    $("#key-state").addEventListener("change", showKeys);
    $("#key-outcome").addEventListener("change", showKeys);
    if (Number(found.dataset.keys) <= 2000) showKeys();
    else $("#key-text").addEventListener("focus", () => { if (!everything) showKeys(); });
  }

  // Printing: a small report is printed whole

  addEventListener("beforeprint", () => {
    if (!found || Number(found.dataset.keys) > FEW) return;
    showKeys();
    everything.all();
    for (const details of $$("details")) details.open = true;
  });

  document.documentElement.classList.add("scripted");
  for (const element of $$(".script-only")) element.hidden = false;
})();
