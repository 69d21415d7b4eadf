"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  const stage = viewer.querySelector(".stage");
  const title = viewer.querySelector(".title");
  let examples = [];
  let position = 0;
  const show = (next) => {
    position = (next + examples.length) % examples.length;
    const example = examples[position];
    stage.replaceChildren(example.querySelector(".panels").cloneNode(true));
    const caption = example.querySelector("figcaption").textContent.trim().replace(/\s+/g, " ");
    title.textContent = `${position + 1} of ${examples.length} · ${caption}`;
  };
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("button.open");
    if (!opener) return;
    const example = opener.closest(".example");
    examples = [...example.parentElement.querySelectorAll(".example")];
    show(examples.indexOf(example));
    viewer.showModal();
  });
  viewer.querySelector(".previous").addEventListener("click", () => show(position - 1));
  viewer.querySelector(".next").addEventListener("click", () => show(position + 1));
  viewer.querySelector(".close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(position - 1);
    if (event.key === "ArrowRight") show(position + 1);
  });
})();
