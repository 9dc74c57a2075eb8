// The staged shutdown: arm, disarm, cancel; while something happens the page is loaded anew.

import { ask, listen } from "./common.js";

const said = document.querySelector("#said");
for (const button of document.querySelectorAll("[data-path]")) {
  button.addEventListener("click", async () => {
    if (!confirm(button.dataset.ask)) return;
    try {
      await ask(button.dataset.path, { method: button.dataset.method, body: button.dataset.body });
      location.reload();
    } catch (error) {
      said.hidden = false;
      said.textContent = error.message;
    }
  });
}
let soon = 0;
listen("/api/v1/events/stream", "event", (event) => {
  if (!["shutdown", "status"].includes(event.kind)) return;
  clearTimeout(soon);
  soon = setTimeout(() => location.reload(), 800);
});
