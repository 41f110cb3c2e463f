// The console's only script. Pages are whole without it: it keeps them live, copies, and moves the focus.
"use strict";

// Live: the server says that something changed; the page is fetched again and its parts with an id under [data-live] are
// put in place. Never a part that has the focus, never the stop panel while it is open.
const live = () => {
  const badge = () => document.querySelector("#pulse .live");
  const say = (icon, words, beat) => {
    const at = badge();
    if (!at) return;
    at.querySelector("use").setAttribute("href", "#i-" + icon);
    at.querySelector("svg").classList.toggle("beat", beat);
    at.lastElementChild.textContent = words;
  };
  let last = Date.now(), busy = false, again = false;
  const parts = () => document.querySelectorAll("#pulse, #head, #brake-line, [data-live]");
  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { "Keybrake-Live": "1" } });
      if (answer.redirected || !answer.ok) { if (answer.redirected) location.reload(); return; }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of parts()) {
        const next = part.id && fresh.getElementById(part.id);
        if (!next || part.contains(document.activeElement) || part.innerHTML === next.innerHTML) continue;
        const open = new Set([...part.querySelectorAll("details[open][id]")].map((d) => d.id));
        part.replaceWith(next);
        for (const d of next.querySelectorAll("details[id]")) if (open.has(d.id)) d.open = true;
      }
      document.title = fresh.title;
      say("live", "Live", true);
    } catch { /* the stream's own error says so */ } finally {
      busy = false;
      if (again) { again = false; setTimeout(refresh, 250); }
    }
  };
  const stream = new EventSource("/live");
  stream.onopen = () => { last = Date.now(); say("live", "Live", true); };
  stream.addEventListener("beat", () => { last = Date.now(); say("live", "Live", true); });
  stream.addEventListener("change", () => { last = Date.now(); refresh(); });
  setInterval(() => {
    const silent = Math.round((Date.now() - last) / 1000);
    if (silent > 8) say("clock", "Not live, last heard " + silent + " s ago", false);
  }, 1000);
};

const copying = () => {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    await navigator.clipboard.writeText(text);
    toast("Copied");
  });
};

const toast = (words) => {
  const box = document.querySelector(".toasts");
  if (!box) return;
  const t = document.createElement("div");
  t.className = "toast";
  t.textContent = words;
  box.replaceChildren(t);
  setTimeout(() => t.remove(), 4000);
};

// The stop panel opens with the focus on its title, so that a second Enter stops nothing.
const stopping = () => {
  const panel = document.getElementById("stop");
  panel?.addEventListener("toggle", (event) => {
    if (event.newState === "open") document.getElementById("stop-title").focus();
  });
};

if (document.querySelector("#pulse")) live();
copying();
stopping();
