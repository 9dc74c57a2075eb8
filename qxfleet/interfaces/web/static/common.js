// What every page shares: asking the API, streams that come back by themselves, times in the reader's own zone.

export async function ask(path, options = {}) {
  const answer = await fetch(path, { headers: { Accept: "application/json", "Content-Type": "application/json" }, ...options });
  if (answer.status === 401) {
    location.href = "/login?next=" + encodeURIComponent(location.pathname + location.search);
  }
  const document = answer.status === 204 ? {} : await answer.json();
  if (!answer.ok) throw new Error(document.detail || answer.statusText);
  return document;
}

// The browser comes back by itself after a cut, with Last-Event-ID; after an answer that is no stream it does not.
export function listen(path, kind, take) {
  let source = null;
  const open = () => {
    source = new EventSource(path);
    source.addEventListener(kind, (message) => take(JSON.parse(message.data)));
    source.onopen = () => document.body.classList.remove("cut");
    source.onerror = () => {
      document.body.classList.add("cut");
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 5000);
    };
  };
  open();
  addEventListener("pagehide", () => source.close());
}

export function number(value, decimals) {
  return value === undefined || value === null ? "" : value.toFixed(decimals);
}

export function duration(seconds) {
  if (seconds === undefined || seconds === null) return "";
  if (seconds < 90) return Math.round(seconds) + " s";
  if (seconds < 5400) return Math.round(seconds / 60) + " min";
  return (seconds / 3600).toFixed(1) + " h";
}

export function age(at) {
  if (!at) return "";
  const seconds = Math.max(0, (Date.now() - Date.parse(at)) / 1000);
  return seconds < 10 ? "now" : duration(seconds) + " ago";
}

export function localTimes(root = document) {
  for (const each of root.querySelectorAll("time[datetime]")) {
    const at = new Date(each.dateTime);
    if (isNaN(at)) continue;
    each.title = each.dateTime;
    each.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function time(at) {
  return element("time", { dateTime: at });
}

localTimes();
