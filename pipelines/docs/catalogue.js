// Searches the catalogue: shows what holds all words; of a table whose name does not match, the columns that do.
"use strict";
(() => {
  const search = document.getElementById("search"), found = document.getElementById("found");
  const articles = [...document.querySelectorAll("article")];
  const texts = new Map(articles.map((article) => [article, article.textContent.toLowerCase()]));

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const holds = (text) => words.every((word) => text.includes(word));
    let count = 0;
    for (const article of articles) {
      article.hidden = !holds(texts.get(article));
      count += !article.hidden;
      const rows = [...article.querySelectorAll("tbody tr")];
      const some = words.length > 0 && rows.some((row) => holds(row.textContent.toLowerCase()));
      for (const row of rows) row.hidden = some && !holds(row.textContent.toLowerCase());
    }
    for (const section of document.querySelectorAll("main section")) section.hidden = !section.querySelector("article:not([hidden])");
    for (const link of document.querySelectorAll("nav a")) {
      const target = document.getElementById(link.hash.slice(1));
      link.parentElement.hidden = target?.hidden ?? false;
    }
    document.getElementById("nothing").hidden = count > 0;
    found.textContent = words.length ? `${count} of ${articles.length}` : "";
  }

  search.addEventListener("input", show);
  addEventListener("hashchange", () => {  // a link out of what is found leads to what is not
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.closest("[hidden]")) { search.value = ""; show(); target.scrollIntoView(); }
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.focus(); }
  });
})();
