// Draws each chart from the rows of the table behind it; sorts and filters the tables.
"use strict";
(() => {
  const body = (table) => table.tBodies[0];
  const valueOf = (cell) => cell.dataset.v ?? cell.textContent;

  function rowsOf(table) {
    const columns = [...table.tHead.rows[0].cells].map((head) => ({ field: head.dataset.f, isNumber: head.classList.contains("n") }));
    return [...body(table).rows].map((row) =>
      Object.fromEntries(columns.map(({ field, isNumber }, position) => {
        const value = valueOf(row.cells[position]);
        return [field, value === "" ? null : isNumber ? Number(value) : value];
      })));
  }

  // The days that charts and tables show: of a row without a day, all.
  let firstDay = "";
  const isShown = (day) => !firstDay || !/^\d{4}-\d\d-\d\d$/.test(day ?? "") || day >= firstDay;

  async function draw(place) {
    const spec = JSON.parse(document.getElementById(`spec-${place.dataset.spec}`).textContent);
    const only = Object.entries(JSON.parse(place.dataset.only));
    const all = rowsOf(document.getElementById(place.dataset.table)).filter((row) => isShown(row.day));
    const rows = all.filter((row) => only.every(([field, value]) => row[field] === value));
    const { fields } = spec.usermeta;
    if (!rows.some((row) => fields.some((field) => row[field] !== null))) { place.firstElementChild.replaceChildren(); return; }
    spec.data = { values: rows };
    share(spec, all);
    if (spec.height.step) {  // a chart that fills its place's width wants its height in pixels
      const { field } = (spec.layer?.[0] ?? spec).encoding.y;
      spec.height = spec.height.step * new Set(rows.map((row) => row[field])).size;
    }
    const tooltip = { disableDefaultStyle: true };
    await vegaEmbed(place.firstElementChild, spec, { actions: false, renderer: "svg", ast: true, tooltip });
  }

  // Charts of the same kind beside each other have one scale: a line twice as high is twice as much in each.
  function share(spec, rows) {
    const { fields, shared } = spec.usermeta;
    if (!shared || !spec.encoding?.y?.scale) return;
    const values = rows.flatMap((row) => fields.map((field) => row[field])).filter((value) => value > 0);
    if (values.length) Object.assign(spec.encoding.y.scale, { domain: [Math.min(...values), Math.max(...values)], nice: true });
  }

  // On a phone the contents are a menu, which closes once something is chosen.
  const menu = document.querySelector("nav details");
  if (matchMedia("(max-width: 70rem)").matches) {
    menu.open = false;
    menu.addEventListener("click", (event) => { if (event.target.closest("a")) menu.open = false; });
  }

  function sortable(table) {
    for (const head of table.tHead.rows[0].cells) {
      const button = head.querySelector("button");
      button?.addEventListener("click", () => {
        const isDown = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
        const isNumber = head.classList.contains("n");
        const key = (row) => valueOf(row.cells[head.cellIndex]);
        const compare = (a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === "" || y === "") return (x === "") - (y === "");  // what is not known comes last, either way
          return (isNumber ? Number(x) - Number(y) : x.localeCompare(y)) * (isDown ? -1 : 1);
        };
        body(table).append(...[...body(table).rows].sort(compare));
      });
    }
  }

  function refilter(table) {
    const input = document.getElementById(`filter-${table.id}`);
    const words = (input?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const day = [...table.tHead.rows[0].cells].findIndex((head) => head.dataset.f === "day");
    const rows = [...body(table).rows];
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word)) || (day >= 0 && !isShown(valueOf(row.cells[day])));
    }
    const shown = document.getElementById(`${table.id}-shown`), count = rows.filter((row) => !row.hidden).length;
    if (shown) shown.textContent = count === rows.length && !words.length ? `${count} rows` : `${count} of ${rows.length} rows`;
  }

  function filterable(input) {
    input.addEventListener("input", () => refilter(document.getElementById(input.dataset.table)));
  }

  async function showFrom(day) {
    firstDay = day;
    for (const button of document.querySelectorAll(".days button")) button.setAttribute("aria-pressed", button.value === day);
    document.querySelectorAll("table").forEach(refilter);
    await drawAll();
  }

  // A view holds what the page says of all tasks, or of those of a type or an account.
  async function showView(number) {
    for (const part of document.querySelectorAll("[data-view]")) part.hidden = part.dataset.view !== number;
    await showFrom("");
  }

  async function drawAll() {
    delete document.documentElement.dataset.drawn;
    for (const place of document.querySelectorAll("[data-view]:not([hidden]) .chart")) {
      await draw(place);
      await new Promise((resolve) => setTimeout(resolve));  // lets the page show it before the next
    }
    document.documentElement.dataset.drawn = "yes";
  }

  function tellAge(place) {
    const hours = (Date.now() - Date.parse(place.dataset.at)) / 36e5;
    if (hours >= 26) {
      place.textContent = `This page was made ${hours < 48 ? `${Math.round(hours)} hours` : `${Math.round(hours / 24)} days`} ago: newer runs, if there were any, made a newer one.`;
      place.hidden = false;
    }
  }

  // On paper definitions are open, and tables that the reader opened; see the style sheet for the rest.
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll(".counted:not([open])")) { details.open = true; opened.push(details); }
  });
  addEventListener("afterprint", () => { while (opened.length) opened.pop().open = false; });

  document.querySelectorAll("table").forEach(sortable);
  document.querySelectorAll(".filter input").forEach(filterable);
  document.querySelectorAll("[data-at]").forEach(tellAge);
  for (const button of document.querySelectorAll(".days button")) button.addEventListener("click", () => showFrom(button.value));
  const view = document.getElementById("view");
  view?.addEventListener("change", () => showView(view.value));
  showView(view?.value ?? "0");  // a browser that reloads may keep what was chosen
})();
