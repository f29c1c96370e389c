"use strict";
// Cards beyond the first lie in the page as text. They become elements, and their images are decoded, only in the
// chunks that are near the window; a chunk far away is an empty box of the same height.
(() => {
  const CHUNK = 60; // a multiple of any number of columns from 1 to 6, so that chunks join without a gap
  const $ = (id) => document.getElementById(id);
  const index = JSON.parse($("index").textContent); // [kind, category, path, unsure] in the order of the page
  const cards = $("cards"), tools = $("tools"), dialog = $("enlarged");
  const first = [...cards.children].map((card) => card.outerHTML);
  const html = (i) => (i < first.length ? first[i] : $("card-" + i).textContent);
  const paths = index.map((entry) => entry[2].toLowerCase());
  let shown = [], rowHeight = 330, columns = 4;

  function fill(chunk) {
    if (chunk.firstChild) return;
    chunk.innerHTML = chunk.numbers.map(html).join("");
    [...chunk.children].forEach((card, at) => (card.number = chunk.numbers[at]));
    chunk.style.height = "";
  }
  function empty(chunk) {
    if (chunk === cards.firstChild || chunk.contains(document.activeElement)) return; // the first one is printed
    chunk.replaceChildren();
    chunk.style.height = Math.ceil(chunk.numbers.length / columns) * rowHeight + "px";
  }
  const near = new IntersectionObserver(
    (changes) => changes.forEach((change) => (change.isIntersecting ? fill : empty)(change.target)),
    { rootMargin: "1200px 0px" },
  );

  function measure() {
    const chunk = cards.firstChild;
    if (!chunk) return;
    const style = getComputedStyle(chunk);
    columns = style.gridTemplateColumns.split(" ").length;
    rowHeight = chunk.firstChild.offsetHeight + parseFloat(style.rowGap);
    for (const other of cards.children) if (!other.firstChild) empty(other);
  }

  function filter() {
    const kinds = tools.elements.kind.value.split(" ");
    const category = $("category")?.value;
    const words = $("name").value.toLowerCase().split(" ").filter(Boolean);
    shown = [];
    index.forEach(([kind, of, , unsure], i) => {
      const passes = kinds.includes(kind) || (unsure && kinds.includes("unsure"));
      const fits = passes && (!category || category === of) && words.every((word) => paths[i].includes(word));
      if (fits) shown.push(i);
    });
    near.disconnect();
    cards.replaceChildren();
    for (let start = 0; start < shown.length; start += CHUNK) {
      const chunk = document.createElement("div");
      chunk.className = "chunk";
      chunk.numbers = shown.slice(start, start + CHUNK);
      cards.append(chunk);
    }
    if (cards.firstChild) fill(cards.firstChild);
    measure();
    for (const chunk of cards.children) near.observe(chunk);
    $("shown").textContent = shown.length ? `${shown.length} of ${index.length}` : "No image fits";
  }

  let at = 0; // place of the enlarged image among those shown
  function enlarge(place) {
    if (place < 0 || place >= shown.length) return;
    at = place;
    $("stage").innerHTML = html(shown[at]);
    const frame = $("stage").querySelector(".frame"); // enlarged already, so no longer a button
    frame.replaceWith(...frame.childNodes);
    $("place").textContent = `${at + 1} of ${shown.length}`;
    // A button that is switched off loses the focus, and with it the arrow keys.
    $("previous").setAttribute("aria-disabled", at === 0);
    $("next").setAttribute("aria-disabled", at === shown.length - 1);
    if (!dialog.open) dialog.showModal();
  }
  cards.addEventListener("click", (event) => {
    const card = event.target.closest(".frame")?.closest(".card");
    if (card) enlarge(shown.indexOf(card.number));
  });
  $("previous").addEventListener("click", () => enlarge(at - 1));
  $("next").addEventListener("click", () => enlarge(at + 1));
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.target.type === "range") return;
    if (event.key === "ArrowLeft") enlarge(at - 1);
    if (event.key === "ArrowRight") enlarge(at + 1);
  });

  for (const range of document.querySelectorAll(".heat-range")) {
    range.addEventListener("input", () => {
      document.documentElement.style.setProperty("--heat", range.value / 100);
      for (const other of document.querySelectorAll(".heat-range")) other.value = range.value;
    });
  }
  for (const box of document.querySelectorAll(".outline-box")) {
    box.addEventListener("change", () => {
      document.documentElement.classList.toggle("bare", !box.checked);
      for (const other of document.querySelectorAll(".outline-box")) other.checked = box.checked;
    });
  }
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.addEventListener("change", (event) => event.target.closest("#kinds, #category") && filter());
  $("name").addEventListener("input", filter);
  let width = 0;
  new ResizeObserver(() => {
    if (cards.clientWidth !== width) measure();
    width = cards.clientWidth;
  }).observe(cards);
  tools.hidden = false;
  tools.reset(); // browsers remember what was chosen before a reload
  filter();
})();
