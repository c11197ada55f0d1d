// What a page can do with JavaScript that it cannot do without: it stays up to date, and a graph is zoomed by dragging.
"use strict";
(() => {
  const main = document.getElementById("main");
  if (!main) return;

  // The page as it is now takes the place of the page as it was; who reads or has put the focus somewhere stays there.
  let reading = false, again = false;
  async function renew() {
    if (reading) { again = true; return; }
    reading = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (answer.status === 401) { location.reload(); return; }
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const now = page.getElementById("main");
      if (!now || drag) return;
      const spots = [...main.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
      const open = new Set([...main.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
      const focused = document.activeElement;
      const links = (within) => [...within.querySelectorAll("a, summary, [tabindex]")];
      const place = main.contains(focused) ? links(main).indexOf(focused) : -1;
      const target = focused && focused.getAttribute("href");
      document.title = page.title;
      main.dataset.version = now.dataset.version;
      main.replaceChildren(...now.childNodes);
      main.querySelectorAll(".scroll").forEach((one, number) => { one.scrollLeft = spots[number] || 0; });
      main.querySelectorAll("details > summary").forEach((one) => {
        if (open.has(one.textContent)) one.parentElement.open = true;
      });
      if (place >= 0) {
        const all = links(main);
        const same = (one) => one && one.getAttribute("href") === target;
        // Another link to the same may come before it.
        const next = same(all[place]) ? all[place] : all.find((one) => target && same(one));
        (next || all[place] || main).focus({ preventScroll: true });
      }
    } catch { /* The next event tries again. */ } finally {
      reading = false;
      if (again) { again = false; renew(); }
    }
  }

  if (main.dataset.live && "EventSource" in window) {
    const live = document.getElementById("live");
    const graph = () => main.querySelector("svg.graph");
    let drawn = Date.now();
    const events = new EventSource("/events");
    events.onopen = () => { live.hidden = false; live.textContent = "live"; };
    events.onerror = () => { live.hidden = false; live.textContent = "not connected"; };
    const news = (event) => {
      if (document.hidden || event.data === main.dataset.version) return;
      // A graph is drawn anew each ten seconds at most.
      if (event.type === "numbers" && graph() && Date.now() - drawn < 10000) return;
      drawn = Date.now();
      renew();
    };
    events.addEventListener("states", news);
    events.addEventListener("numbers", news);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) renew(); });
  }

  let drag = null;
  const at = (graph, event) => {
    const box = graph.getBoundingClientRect();
    const left = Number(graph.dataset.left), right = Number(graph.dataset.right);
    const x = (event.clientX - box.left) * graph.viewBox.baseVal.width / box.width;
    return Math.min(right, Math.max(left, x));
  };
  main.addEventListener("pointerdown", (event) => {
    const graph = event.target.closest("svg.graph");
    if (!graph || event.button !== 0) return;
    const area = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    area.setAttribute("class", "chosen");
    area.setAttribute("y", "0");
    area.setAttribute("height", graph.viewBox.baseVal.height);
    graph.append(area);
    drag = { graph, area, from: at(graph, event) };
  });
  window.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const to = at(drag.graph, event);
    drag.area.setAttribute("x", Math.min(drag.from, to));
    drag.area.setAttribute("width", Math.abs(to - drag.from));
  });
  window.addEventListener("pointercancel", () => { if (drag) { drag.area.remove(); drag = null; } });
  window.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { graph, area, from } = drag, to = at(graph, event);
    area.remove();
    drag = null;
    if (Math.abs(to - from) < 8) return;
    const left = Number(graph.dataset.left), right = Number(graph.dataset.right);
    const begin = Number(graph.dataset.from), end = Number(graph.dataset.to);
    const second = (x) => Math.round(begin + (end - begin) * (x - left) / (right - left));
    location.href = `${location.pathname}?from=${second(Math.min(from, to))}&to=${second(Math.max(from, to))}`;
  });
})();
