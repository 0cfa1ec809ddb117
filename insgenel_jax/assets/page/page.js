// The page of `insgenel serve`. Text and titles become text nodes, never HTML.
"use strict";

const EXAMPLES = {
  "Science": "Marie Curie was born in Warsaw and studied in Paris. In 1903 she shared the Nobel Prize in Physics with Pierre Curie and Henri Becquerel.",
  "Music": "David Bowie recorded Low with Brian Eno, in France and in West Berlin. Fifteen years later Philip Glass made a symphony of it.",
  "Football": "Chelsea drew with Barcelona in London. Frank Lampard scored for the side from Stamford Bridge; Arsenal and Liverpool watched from home.",
  "Namesakes": "Jordan scored for Chicago while the king of Jordan flew to Paris. Paris Hilton, meanwhile, was in Texas, not far from another Paris.",
};
const SYSTEMS = {
  "insgenel-r": ["INSGENEL-R", "A retriever looks for the entities of the text first."],
  "insgenel": ["INSGENEL", "Every entity that a name may mean is a candidate."],
};
const REASONS = {
  "linked": "linked",
  "below threshold": "below the threshold",
  "another mention": "another mention was taken",
  "refused": "the generator chose no link",
  "left out": "left out on the way",
  "not retrieved": "the retriever found none of its entities",
  "filtered": "filtered out",
  "no surface form": "no name in the knowledge base",
};
const MARKED = new Set(["linked", "below threshold"]); // they have marks in the text
const LONGEST_LINK = 8000; // characters of an address that most programs still take

const $ = (id) => document.getElementById(id);
// What is shown. own: the threshold of the linker. threshold: null until the slider is moved: then as the linker decides.
const state = { answer: null, chars: [], mentions: [], threshold: null, words: null };
const NARROW = matchMedia("(max-width: 36rem)"); // as in page.css
let request = null; // the AbortController of the request under way
let pinned = null; // the element whose card stays open

/** An element with a class and children; strings become text. */
function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

const percent = (p) => p >= 0.9995 ? "100 %" : p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`;
const system = () => document.querySelector("#systems input:checked")?.value ?? null;

/** The JSON of an answer. Throws an Error with the service's reason. */
async function ask(path, body) {
  request?.abort();
  request = new AbortController();
  const response = await fetch(path, {
    method: "POST", signal: request.signal,
    headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  const record = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(record.detail ?? `the service answered ${response.status}`);
  return record;
}

function fail(error) {
  if (error.name === "AbortError") return;
  const away = error instanceof TypeError;
  $("error").textContent = away ? "The service does not answer. Is it still running?" : error.message;
}

/** Link the text in the box. threshold: where the slider is put. */
async function link(threshold = null) {
  const text = $("text").value.toWellFormed?.() ?? $("text").value;
  if (!text.trim()) { $("text").focus(); return; }
  $("error").textContent = "";
  $("go").disabled = true;
  const began = performance.now();
  try {
    const body = { text, threshold: 0, unlinked: true, candidates: 5, entities: true };
    if (system()) body.system = system();
    const answer = await ask("link", body);
    Object.assign(state, {
      answer, own: answer.own_threshold, threshold, words: null, seconds: (performance.now() - began) / 1000,
      chars: Array.from(text), mentions: answer.documents[0].mentions,
    });
    $("result").hidden = false;
    draw();
    if ($("why").checked) await explain();
    remember();
  } catch (error) { fail(error); } finally { $("go").disabled = false; }
}

const effective = () => state.threshold ?? state.own;
const reaches = (m) => m.score >= effective() && (state.threshold !== null || m.linked);

/** The mentions that do not overlap a better one, in order of place. */
function apart(mentions) {
  const kept = [];
  const better = (m) => [reaches(m), m.linked, m.score];
  const order = [...mentions].sort((a, b) => {
    const [x, y] = [better(a), better(b)];
    const i = x.findIndex((value, i) => value !== y[i]);
    return i < 0 ? 0 : Number(y[i]) - Number(x[i]);
  });
  for (const m of order) if (kept.every((k) => m.end <= k.start || k.end <= m.start)) kept.push(m);
  return kept.sort((a, b) => a.start - b.start);
}

/** Draw the text, the slider and what is said of them. */
function draw() {
  const focused = document.activeElement?.dataset?.start;
  close();
  const mentions = apart(state.mentions);
  const on = mentions.filter(reaches);
  const reading = $("reading");
  reading.replaceChildren();
  let at = 0;
  for (const m of mentions) {
    plain(reading, at, m.start);
    const shown = state.chars.slice(m.start, m.end).join("");
    const mark = make("mark", reaches(m) ? "" : "off", shown);
    mark.style.setProperty("--score", m.score);
    mark.tabIndex = 0;
    mark.setAttribute("role", "button");
    mark.dataset.start = m.start;
    mark.card = () => mentionCard(m, shown);
    reading.append(mark);
    at = m.end;
  }
  plain(reading, at, state.chars.length);
  if (focused !== undefined) reading.querySelector(`[data-start="${focused}"]`)?.focus({ preventScroll: true });
  drawDial(mentions);
  const below = mentions.length - on.length;
  const { answer } = state;
  const parts = [
    `${on.length} ${on.length === 1 ? "link" : "links"}`,
    below ? `${below} more ${state.threshold === null ? "not taken" : "below the threshold"}` : "",
    SYSTEMS[answer.system]?.[0] ?? answer.system,
    `${state.seconds.toFixed(2)} s`,
    answer.calibrated ? "" : "scores are not calibrated",
  ];
  $("summary").textContent = parts.filter(Boolean).join(" · ");
}

function drawDial(mentions) {
  $("threshold").value = effective();
  $("value").textContent = effective().toFixed(2);
  $("threshold").setAttribute("aria-valuetext", effective().toFixed(2));
  $("reset").style.visibility = state.threshold === null ? "hidden" : "visible";
  $("dots").replaceChildren(...mentions.map((m) => {
    const dot = make("i", reaches(m) ? "" : "off");
    dot.style.left = `${100 * m.score}%`;
    return dot;
  }));
}

/** The text between mentions: as it is, or each word with its reason. */
function plain(reading, start, end) {
  if (!$("why").checked || !state.words) {
    reading.append(state.chars.slice(start, end).join(""));
    return;
  }
  let at = start;
  for (const word of state.words) {
    if (word.end <= start || word.start >= end) continue;
    const [from, to] = [Math.max(word.start, start), Math.min(word.end, end)];
    reading.append(state.chars.slice(at, from).join(""));
    const shown = state.chars.slice(from, to).join("");
    const span = make("span", `word r-${word.reason.split(" ")[0]}`, shown);
    span.tabIndex = -1;
    span.dataset.start = from;
    span.card = () => wordCard(word, shown);
    reading.append(span);
    at = to;
  }
  reading.append(state.chars.slice(at, end).join(""));
}

/** What a mention may be: its entity, the score, other candidates. */
function mentionCard(m, shown) {
  const entity = state.answer.entities[m.entity];
  const parts = [make("h2", "", m.entity)];
  const id = entity?.external_id;
  if (/^Q\d+$/.test(id ?? "")) {
    const a = make("a", "", id);
    a.href = `https://www.wikidata.org/wiki/${id}`;
    a.target = "_blank";
    a.rel = "noopener noreferrer";
    parts.push(make("p", "soft", a));
  } else if (id) parts.push(make("p", "soft", id));
  if (entity?.description) parts.push(make("p", "said", entity.description));
  else if (entity?.inlinks) parts.push(make("p", "soft", `${entity.inlinks.toLocaleString("en")} links lead to it`));
  if (!reaches(m)) {
    const why = !m.linked && state.threshold === null
      ? "Passed over: the generator preferred to go on without it."
      : `Below the threshold: ${m.score.toFixed(3)} < ${effective().toFixed(2)}.`;
    parts.push(make("p", "soft", why));
  }
  const list = make("dl", "", row(m.entity, m.score, "main"));
  for (const other of m.candidates ?? []) list.append(row(other.entity, other.score));
  if (m.no_mention != null) list.append(row("no link at all", Math.abs(m.no_mention)));
  parts.push(make("h3", "", `“${shown}” may be`), list);
  return parts;
}

function row(name, score, kind = "") {
  const bar = make("i");
  bar.style.width = `${100 * Math.min(1, score)}%`;
  const meter = make("div", "meter", bar);
  const cells = [make("dt", "", name), meter, make("dd", "", percent(score))];
  if (kind) {
    const group = make("div", kind, ...cells);
    return group;
  }
  const fragment = document.createDocumentFragment();
  fragment.append(...cells);
  return fragment;
}

/** Why a word is not linked: what it is part of, and where that ended. */
function wordCard(word, shown) {
  const parts = [make("h2", "", `“${shown}”`), make("p", "soft", sentence(REASONS[word.reason] ?? word.reason))];
  for (const span of word.spans.slice(0, 4)) {
    const surface = state.chars.slice(span.start, span.end).join("");
    const head = span.entity ? `${surface} → ${span.entity}` : surface;
    parts.push(make("h3", "", head), make("p", "", sentence(span.detail || REASONS[span.reason] || span.reason)));
  }
  return parts;
}

const sentence = (s) => `${s[0].toUpperCase()}${s.slice(1)}${/[.!?]$/.test(s) ? "" : "."}`;

async function explain() {
  if (!state.words) {
    const body = { text: state.chars.join(""), system: state.answer.system };
    state.words = (await ask("explain", body)).words;
  }
  const counts = new Map();
  for (const { reason } of state.words) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  $("legend").replaceChildren(...Object.keys(REASONS).filter((r) => counts.has(r) && !MARKED.has(r)).map((r) => make(
    "li", `r-${r.split(" ")[0]}`, make("i"), `${REASONS[r]} (${counts.get(r)})`)));
  $("legend").hidden = false;
  draw();
}

/** Show the card of a mention or a word beside it. */
function open(element) {
  if (element.classList.contains("open")) return;
  close();
  const card = $("card");
  card.replaceChildren(...element.card());
  card.hidden = false;
  element.classList.add("open");
  element.setAttribute("aria-describedby", "card");
  const box = element.getClientRects()[0] ?? element.getBoundingClientRect();
  if (NARROW.matches) { // the card is a sheet at the bottom
    const hidden = box.bottom + 16 - card.getBoundingClientRect().top;
    if (hidden > 0) scrollBy({ top: hidden });
    return;
  }
  const left = Math.min(box.left, document.documentElement.clientWidth - card.offsetWidth - 12);
  card.style.left = `${Math.max(6, left) + scrollX}px`;
  const under = box.bottom + 8 + card.offsetHeight < innerHeight || box.top < card.offsetHeight + 16;
  card.style.top = `${scrollY + (under ? box.bottom + 8 : box.top - card.offsetHeight - 8)}px`;
}

function close() {
  pinned = null;
  $("card").hidden = true;
  for (const element of document.querySelectorAll("#reading .open")) {
    element.classList.remove("open");
    element.removeAttribute("aria-describedby");
  }
}

/** Put text, system and threshold into the address. */
function remember() {
  const fields = { text: state.chars.join(""), system: state.answer.system };
  if (state.threshold !== null) fields.threshold = state.threshold;
  const hash = `#${new URLSearchParams(fields)}`;
  const fits = hash.length < LONGEST_LINK;
  history.replaceState(null, "", fits ? hash : location.pathname + location.search);
  $("copy").hidden = !fits;
}

/** Do what the address says. */
function recall() {
  const fields = new URLSearchParams(location.hash.slice(1));
  if (!fields.get("text")) return;
  $("text").value = fields.get("text");
  const input = document.querySelector(`#systems input[value="${CSS.escape(fields.get("system") ?? "")}"]`);
  if (input) input.checked = true;
  const threshold = Number.parseFloat(fields.get("threshold"));
  link(threshold >= 0 && threshold <= 1 ? threshold : null);
}

async function start() {
  for (const [name, text] of Object.entries(EXAMPLES)) {
    const button = make("button", "", name);
    button.type = "button";
    button.onclick = () => { $("text").value = text; link(); };
    $("examples").append(button);
  }
  listen();
  try {
    const about = await (await fetch("about")).json();
    $("about").textContent = `${about.entities.toLocaleString("en")} entities`;
    for (const name of Object.keys(SYSTEMS).filter((name) => about.systems.includes(name))) {
      const input = make("input");
      Object.assign(input, { type: "radio", name: "system", value: name, checked: name === about.system });
      input.onchange = () => { if (state.answer) link(state.threshold); };
      const label = make("label", "", input, make("span", "", SYSTEMS[name][0]));
      label.title = SYSTEMS[name][1];
      $("systems").append(label);
    }
    $("systems").hidden = about.systems.length < 2;
  } catch (error) { fail(error); }
  recall();
  waitUntilReady();
}

async function waitUntilReady() {
  const { ready } = await fetch("about").then((r) => r.json()).catch(() => ({ ready: true }));
  $("note").textContent = ready ? "" : "Warming up: the first answers take a while.";
  if (!ready) setTimeout(waitUntilReady, 1500);
}

function listen() {
  $("form").onsubmit = (event) => { event.preventDefault(); link(); };
  $("text").onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); link(); }
  };
  $("threshold").oninput = () => { state.threshold = Number($("threshold").value); draw(); };
  $("threshold").onchange = remember;
  $("reset").onclick = () => { state.threshold = null; draw(); remember(); $("threshold").focus(); };
  $("why").onchange = () => {
    if ($("why").checked) explain().catch(fail);
    else { $("legend").hidden = true; draw(); }
  };
  $("copy").onclick = async () => {
    remember();
    try { await navigator.clipboard.writeText(location.href); $("copy").textContent = "Copied"; }
    catch { $("copy").textContent = "It stands in the address bar"; }
    setTimeout(() => { $("copy").textContent = "Copy link to this"; }, 2000);
  };
  const reading = $("reading");
  const target = (event) => event.target.closest?.("#reading [data-start]");
  reading.addEventListener("mouseover", (event) => { const e = target(event); if (e && !pinned) open(e); });
  reading.addEventListener("focusin", (event) => { const e = target(event); if (e) { open(e); pinned = e; } });
  reading.addEventListener("click", (event) => { const e = target(event); if (e) { e.focus(); open(e); pinned = e; } });
  document.addEventListener("mouseover", (event) => {
    if (!pinned && !target(event) && !event.target.closest?.("#card")) close();
  });
  document.addEventListener("focusin", (event) => { if (!target(event) && !$("card").contains(event.target)) close(); });
  document.addEventListener("click", (event) => { if (!target(event) && !$("card").contains(event.target)) close(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  reading.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const all = [...reading.querySelectorAll("[data-start]")];
    const next = all[all.indexOf(document.activeElement) + step];
    if (next) { event.preventDefault(); next.focus(); }
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); const e = target(event); if (e) { open(e); pinned = e; $("card").querySelector("a")?.focus(); } }
  });
  addEventListener("hashchange", recall);
}

start();
