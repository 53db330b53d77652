// Moves the page: what the server sends, nothing decided here. Without JavaScript the page is loaded again instead.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const marks = JSON.parse($("marks")?.dataset.marks ?? "{}");
  const waiting = new Map();
  const skew = Date.now() / 1000 - Number(document.body.dataset.now);  // the clock of this machine may be wrong
  let source, address = document.body.dataset.stream;

  function link(text) {
    const shown = $("link");
    if (shown && shown.textContent !== text) shown.textContent = text;
  }

  // A part keeps what its reader has opened, ticked, typed or focused.
  function replace(element, html) {
    const active = document.activeElement;
    const inside = element.contains(active) ? active : null;
    if (inside?.matches("input:not([type=checkbox]), textarea") || element.querySelector("details.typed[open]")) return false;
    const open = [...element.querySelectorAll("details")].map((one) => one.open);
    const ticked = new Set([...element.querySelectorAll("input:checked")].map((one) => one.value));
    const place = inside && [...element.querySelectorAll("a, button, summary, input, [tabindex]")].indexOf(inside);
    const scrolled = [...element.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    element.innerHTML = html;
    element.querySelectorAll("details").forEach((one, n) => { one.open = open[n] ?? one.open; });
    element.querySelectorAll("input[type=checkbox]").forEach((one) => { one.checked = ticked.has(one.value); });
    element.querySelectorAll(".scroll").forEach((one, n) => { one.scrollLeft = scrolled[n] ?? 0; });
    if (place !== null && place >= 0) element.querySelectorAll("a, button, summary, input, [tabindex]")[place]?.focus();
    return true;
  }

  function fetchPart(element, attribute, revision) {
    const wanted = `${attribute}Wanted`;
    element.dataset[wanted] = revision;
    if (element.dataset[attribute] === revision || waiting.has(element.id)) return;
    const pause = Math.max(0, 400 - (Date.now() - Number(element.dataset.at ?? 0))) + Math.random() * 150;
    waiting.set(element.id, setTimeout(async () => {
      try {
        const url = new URL(location.href);
        url.searchParams.set("part", element.id);
        const asked = element.dataset[wanted];  // what is told while the answer comes needs another one
        const answer = await fetch(url, { redirect: "error", headers: { Accept: "text/html" } });
        if (answer.ok && replace(element, await answer.text())) element.dataset[attribute] = asked;
      } catch { /* asked again below */ }
      element.dataset.at = Date.now();
      waiting.delete(element.id);
      if (element.dataset[attribute] !== element.dataset[wanted]) {
        setTimeout(() => fetchPart(element, attribute, element.dataset[wanted]), 500);
      }
    }, pause));
  }

  function cell(element, letter) {
    const [css, symbol, word] = marks[letter];
    if (element.className === `step s-${css}`) return;
    element.className = `step s-${css}`;
    element.textContent = symbol;
    element.append(Object.assign(document.createElement("span"), { className: "unseen", textContent: ` ${word}` }));
  }

  function whole(element, letter) {
    const [css, symbol, word] = marks[letter];
    const pill = element.querySelector(".pill");
    pill.className = `pill s-${css}`;
    pill.firstElementChild.textContent = symbol;
    pill.lastChild.data = ` ${word}`;
  }

  // How many servers of a wave are what; the first message has all of them.
  function count() {
    for (const block of document.querySelectorAll("[data-block]")) {
      const shown = block.querySelector("[data-counts]");
      const numbers = {};
      for (const element of block.querySelectorAll("[data-node]")) {
        const letter = newest.get(element.dataset.node);
        if (letter) numbers[letter] = (numbers[letter] ?? 0) + 1;
      }
      const words = Object.entries(marks).filter(([letter]) => numbers[letter])
        .map(([letter, mark]) => `${numbers[letter].toLocaleString("en")} ${mark[2]}`);
      if (shown && words.length) shown.textContent = words.join(", ");
    }
  }

  const newest = new Map();

  function move(codes) {
    for (const [node, letters] of Object.entries(codes)) newest.set(node, letters.at(-1));
    for (const element of document.querySelectorAll("[data-node]")) {
      const letters = codes[element.dataset.node];
      if (letters === undefined) continue;
      const [css, , word] = marks[letters.at(-1)];
      if (element.localName === "a") {
        element.className = `s-${css}`;
        element.title = `${element.dataset.node}: ${word}`;
        continue;
      }
      element.querySelectorAll(".step").forEach((one, n) => cell(one, letters[n]));
      whole(element.querySelector(".whole"), letters.at(-1));
    }
    count();
  }

  function log(lines) {
    const list = $("log");
    if (!list) return;
    const known = new Set([...list.children].map((one) => one.dataset.id));
    for (const [id, text, css] of lines) {
      if (known.has(id)) continue;
      const line = Object.assign(document.createElement("li"), { textContent: text, className: css });
      line.dataset.id = id;
      list.prepend(line);
    }
    while (list.children.length > 200) list.lastElementChild.remove();
  }

  function take(message) {
    link(message.lost ?? "");
    if (message.codes) move(message.codes);
    for (const [id, html] of Object.entries(message.parts ?? {})) {
      const element = $(id);
      if (element) replace(element, html);
    }
    for (const [id, revision] of Object.entries(message.fetch ?? {})) if ($(id)) fetchPart($(id), "fetch", revision);
    if (message.overview) {
      document.querySelectorAll("[data-overview]").forEach((one) => fetchPart(one, "overview", message.overview));
    }
    if (message.lines) log(message.lines);
    if (message.said && $("said")) $("said").textContent = message.said;
  }

  function connect() {
    if (!address || source) return;
    source = new EventSource(address);
    source.onmessage = (event) => take(JSON.parse(event.data));
    source.addEventListener("end", () => {
      disconnect();
      address = "/moves";
      connect();
    });
    source.addEventListener("off", off);
    source.onerror = async () => {
      link("not connected: this is older than it looks");
      if (source?.readyState !== EventSource.CLOSED) return;
      disconnect();
      const known = await fetch("/api/v1/me").catch(() => undefined);
      if (known?.status === 401) off();
      else setTimeout(connect, 3000);
    };
    source.onopen = () => link("");
  }

  // The session has ended, or its person may not look at this any more.
  function off() {
    disconnect();
    address = undefined;
    link("logged off: load the page again. This is older than it looks");
  }

  function disconnect() {
    source?.close();
    source = undefined;
  }

  // A hidden tab needs no messages; a browser allows only six connections to one server.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);
  setInterval(() => {
    for (const one of document.querySelectorAll("[data-since]")) {
      const seconds = Math.max(0, Math.floor(Date.now() / 1000 - skew - Number(one.dataset.since)));
      const minutes = Math.floor(seconds / 60);
      one.textContent = minutes ? `${minutes} min ${String(seconds % 60).padStart(2, "0")} s` : `${seconds} s`;
    }
  }, 1000);
  connect();
})();
