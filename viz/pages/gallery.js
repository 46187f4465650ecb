// A picture that is pressed is shown large.
"use strict";
(function () {
  const dialog = document.getElementById("large");
  document.querySelectorAll(".maps img, .zoom img").forEach((image) => image.addEventListener("click", () => {
    const large = dialog.querySelector("img");
    large.src = image.src;
    large.alt = image.alt;
    dialog.querySelector("p").textContent = image.alt;
    dialog.showModal();
  }));
  dialog.addEventListener("click", () => dialog.close());
})();
