// Battery tests: begin and stop; the page is loaded anew when a test began or ended somewhere.

import { ask, listen } from "./common.js";

const said = document.querySelector("#said");
async function act(path, body) {
  try {
    await ask(path, { method: "POST", body: JSON.stringify(body) });
    location.reload();
  } catch (error) {
    said.hidden = false;
    said.className = "notice bad";
    said.textContent = error.message;
  }
}

document.querySelector("#start")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const targets = form.get("targets").split(/[\s,]+/).filter(Boolean);
  const kind = form.get("kind");
  if (!confirm(`${kind} test of ${targets.join(", ")}: they run on their batteries meanwhile, one after the other. Begin?`)) return;
  const for_s = kind === "timed" ? Number(form.get("minutes") || 10) * 60 : null;
  act("/api/v1/tests", { targets, kind, for_s });
});
for (const button of document.querySelectorAll("[data-stop]")) {
  button.addEventListener("click", () => act("/api/v1/tests/stop", { targets: [button.dataset.stop] }));
}
listen("/api/v1/events/stream", "event", (event) => {
  const typing = document.activeElement && document.activeElement.closest("form");
  if (event.kind === "test" && !typing) setTimeout(() => location.reload(), 500);
});
