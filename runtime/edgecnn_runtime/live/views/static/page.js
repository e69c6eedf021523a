// Asks for the newest frame each time the one before is on the screen: a slow device gets fewer, never old ones.
// Labels come from a file that anybody may have made: they are only ever set as text.

const TIMEOUT_MS = 10_000; // twice what the server waits for a frame
const RETRY_MS = 1_000;
const HISTORY_MS = 30_000;
const HISTORY_STEP_MS = 200;
const SPOKEN_MS = 1_500;

const element = (id) => document.getElementById(id);
const say = (id, text) => {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
};
const percent = (fraction) => `${(100 * fraction).toFixed(1)}%`;
const milliseconds = (value) => (value === null ? "–" : `${value.toFixed(value < 10 ? 1 : 0)} ms`);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

let serial = -1;
let frame = -1;
let shown = null; // {blob, frame} of the picture on the screen
let paused = false;
let history = [];
let model = null; // number of the model that is described

function connection(state, words) {
  element("connection").dataset.state = state;
  say("connection", words);
}

async function pull() {
  for (;;) {
    if (paused || document.hidden) {
      await sleep(100);
      continue;
    }
    try {
      const answer = await (await ask(`next?after=${serial}&frame=${frame}`)).arrayBuffer();
      if (paused || document.hidden) continue;
      const length = new DataView(answer).getUint32(0);
      const state = JSON.parse(new TextDecoder().decode(new Uint8Array(answer, 4, length)));
      if (state.model !== model) {
        showModel(await (await ask("model")).json());
        model = state.model;
        history = []; // the next model may have other labels
      }
      if (answer.byteLength > 4 + length) await showPicture(answer.slice(4 + length), state.frame);
      if (paused) continue;
      connection(state.trouble ? "lost" : "live", state.trouble ? "no new picture" : "live");
      show(state, state.frame !== frame);
      [serial, frame] = [state.serial, state.frame ?? -1];
    } catch (error) {
      model = null;
      serial = frame = -1;
      if (!paused) connection("lost", "edgecnn has ended or is out of reach");
      speak("The connection is lost");
      await sleep(RETRY_MS);
    }
  }
}

async function ask(address) {
  const answer = await fetch(address, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(answer.statusText);
  return answer;
}

async function showPicture(jpeg, number) {
  const blob = new Blob([jpeg], { type: "image/jpeg" });
  const address = URL.createObjectURL(blob);
  const loaded = new Image();
  loaded.src = address;
  await loaded.decode().catch(() => {});
  if (paused) {
    URL.revokeObjectURL(address);
    return;
  }
  const picture = element("picture");
  const before = picture.src;
  picture.src = address;
  picture.dataset.frame = number;
  picture.hidden = false;
  element("empty").hidden = true;
  element("snapshot").disabled = false;
  if (before) URL.revokeObjectURL(before);
  shown = { blob, frame: number };
}

function show(state, fresh) {
  if (state.frame !== null && fresh) {
    const label = element("label");
    say("label", state.label ?? "unknown");
    label.classList.toggle("unknown", state.label === null);
    label.dataset.frame = state.frame;
    say("probability", percent(state.probability));
    showTop(state);
  }
  element("label").classList.toggle("old", Boolean(state.trouble));
  element("trouble").hidden = !state.trouble;
  say("trouble", state.trouble);
  speak(state.trouble || (state.frame === null ? "No picture yet" : (state.label ?? "unknown")));
  say("fps", state.fps.toFixed(1));
  say("inference", milliseconds(state.inference_ms.p50));
  say("age", milliseconds(state.age_ms.p50));
  say("ages", `${milliseconds(state.age_ms.p95)} / ${milliseconds(state.age_ms.p99)}`);
  for (const name of ["frames", "dropped", "bad", "reconnections"]) say(name, state[name].toLocaleString("en"));
  showBoard(state.board);
  element("refused-row").hidden = !state.refused;
  say("refused", state.refused);
  if (!threshold.busy) showThreshold(state.threshold);
}

function showTop(state) {
  const now = performance.now();
  const last = history.at(-1);
  const due = !last || now - last.at >= HISTORY_STEP_MS;
  if (due) {
    history.push({ at: now, of: new Map(state.top.map((one) => [one.label, one.probability])) });
    history = history.filter((one) => now - one.at <= HISTORY_MS);
  }
  const list = element("top");
  while (list.children.length < state.top.length) list.append(makeRow());
  while (list.children.length > state.top.length) list.lastChild.remove();
  state.top.forEach((one, index) => {
    const row = list.children[index];
    const [name, share, track, chart] = row.children;
    const changed = name.textContent !== one.label;
    if (changed) name.textContent = one.label;
    row.classList.toggle("chosen", one.label === state.label);
    share.textContent = percent(one.probability);
    track.firstChild.style.width = percent(one.probability);
    if (due || changed) {
      const points = history.map((then) => {
        const x = 100 - (100 * (now - then.at)) / HISTORY_MS;
        return `${x.toFixed(1)},${(29 - 28 * (then.of.get(one.label) ?? 0)).toFixed(1)}`;
      });
      chart.firstChild.setAttribute("points", points.join(" "));
    }
  });
}

function makeRow() {
  const make = (name, kind) => Object.assign(document.createElement(name), { className: kind });
  const row = document.createElement("li");
  const [name, track] = [make("span", "name"), make("div", "track")];
  name.dir = "auto";
  track.append(make("div", "bar"));
  const drawing = "http://www.w3.org/2000/svg";
  const chart = document.createElementNS(drawing, "svg");
  chart.setAttribute("viewBox", "0 0 100 30");
  chart.setAttribute("preserveAspectRatio", "none");
  chart.setAttribute("aria-hidden", "true");
  chart.append(document.createElementNS(drawing, "polyline"));
  row.append(name, make("span", "percent"), track, chart);
  return row;
}

function showBoard(board) {
  const known = board.temperature_c !== null;
  element("temperature-row").hidden = !known;
  if (known) say("temperature", `${board.temperature_c.toFixed(1)} °C`);
  element("throttled-row").hidden = board.throttled === null;
  if (board.throttled !== null) {
    const before = board.throttled_before.length ? ` (earlier: ${board.throttled_before.join(", ")})` : "";
    say("throttled", (board.throttled.join(", ") || "none") + before);
  }
}

function showModel(model) {
  say("artifact", model.artifact);
  const [height, width] = model.input_px;
  say("network", `${model.backbone}, ${model.precision}, ${width}×${height} px, ${model.classes} labels`);
  const measured = model.accuracy;
  if (measured) {
    const [low, high] = measured.interval.map(percent);
    const count = measured.pictures.toLocaleString("en");
    say("accuracy", `${percent(measured.accuracy)} (${low} to ${high}) on ${count} test pictures, measured with this file`);
  } else if (model.published_top1 !== null) {
    say("accuracy", `${model.published_top1}% on ImageNet, as published for the float32 weights; not measured here`);
  } else {
    say("accuracy", "not measured");
  }
}

// A screen reader hears the answer when it changes, not thirty times a second.
let spoken = { words: "", at: -SPOKEN_MS };
function speak(words) {
  const now = performance.now();
  if (words === spoken.words || now - spoken.at < SPOKEN_MS) return;
  spoken = { words, at: now };
  say("spoken", words);
}

const threshold = { busy: false, wanted: null };
function showThreshold(value) {
  const slider = element("threshold");
  const whole = Math.round(100 * value);
  if (Number(slider.value) !== whole) slider.value = whole;
  const words = whole === 0 ? "0% (never)" : `${whole}%`;
  say("threshold-value", words);
  slider.setAttribute("aria-valuetext", words);
}

async function setThreshold() {
  threshold.wanted = Number(element("threshold").value) / 100;
  showThreshold(threshold.wanted);
  if (threshold.busy) return; // the newest value goes when the one on its way has arrived
  threshold.busy = true;
  try {
    while (threshold.wanted !== null) {
      const body = JSON.stringify({ threshold: threshold.wanted });
      threshold.wanted = null;
      await fetch("threshold", { method: "POST", headers: { "content-type": "application/json" }, body });
    }
  } catch {
    // The connection's state says it, and the next moment brings the value that holds.
  } finally {
    threshold.busy = false;
    threshold.wanted = null;
  }
}

function togglePause() {
  paused = !paused;
  element("pause").setAttribute("aria-pressed", String(paused));
  connection("wait", paused ? "paused" : "connecting");
}

function saveSnapshot() {
  if (!shown) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(shown.blob);
  const moment = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  link.download = `edgecnn-${moment}-frame-${shown.frame}.jpg`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), RETRY_MS);
}

element("pause").addEventListener("click", togglePause);
element("snapshot").addEventListener("click", saveSnapshot);
element("threshold").addEventListener("input", setThreshold);
document.addEventListener("keydown", (event) => {
  if (!element("keys").checked || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const act = { p: togglePause, s: saveSnapshot, t: () => element("threshold").focus() }[event.key.toLowerCase()];
  if (act) {
    event.preventDefault();
    act();
  }
});
pull();
