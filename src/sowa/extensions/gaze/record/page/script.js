"use strict";
// A click reveals a region until the next click. Durations leave out the time during which the page was hidden.
(() => {
  const $ = (id) => document.getElementById(id);
  const stage = $("stage"), sharp = $("sharp"), blurred = $("blurred"), cross = $("cross"), ring = $("ring"), next = $("next");
  let session, clicks = [], since = 0, aim = { x: 0, y: 0 }, busy = true;

  let hidden = 0, left = null;
  const now = () => (left ?? performance.now()) - hidden;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) left = performance.now();
    else if (left !== null) [hidden, left] = [hidden + performance.now() - left, null];
  });

  function tell(text, bad = false) {
    $("told").textContent = text;
    $("told").classList.toggle("bad", bad);
  }

  function progress() {
    $("who").textContent = session.observer;
    $("bar").firstElementChild.style.width = (100 * session.recorded) / session.total + "%";
    $("place").textContent = session.image ? `${session.recorded + 1} of ${session.total}` : `${session.total} of ${session.total}`;
  }

  function count() {
    const missing = session.least - clicks.length;
    next.setAttribute("aria-disabled", String(missing > 0));
    if (!clicks.length) tell("Click where you want to look");
    else tell(missing > 0 ? `Look at ${missing} more place${missing === 1 ? "" : "s"}` : `${clicks.length} looks`);
  }

  async function load(image, address) {
    image.src = address;
    await image.decode();
  }

  async function show() {
    const image = session.image;
    progress();
    $("viewing").hidden = $("tools").hidden = !image;
    $("finished").hidden = Boolean(image);
    if (!image) return $("finished").focus();
    clicks = [];
    cross.hidden = ring.hidden = true;
    stage.style.visibility = "hidden";
    sharp.style.clipPath = "";
    stage.style.setProperty("--ratio", image.width / image.height);
    stage.setAttribute("aria-label", `Image ${session.recorded + 1} of ${session.total}, blurred`);
    aim = { x: image.width / 2, y: image.height / 2 };
    const where = `images/${image.number}/`;
    try {
      await Promise.all([load(blurred, where + "blurred"), load(sharp, where + "sharp")]);
    } catch {
      return tell("This image can't be shown. Is its file still there? Load the page again.", true);
    }
    stage.style.visibility = "";
    stage.focus();
    count();
    busy = false;
  }

  function inside(x, y) {
    const { width, height } = session.image, edge = 0.01;
    return { x: Math.min(Math.max(x, 0), width - edge), y: Math.min(Math.max(y, 0), height - edge) };
  }

  function place(element, { x, y }) {
    element.hidden = false;
    element.style.left = (100 * x) / session.image.width + "%";
    element.style.top = (100 * y) / session.image.height + "%";
  }

  function close() {
    if (clicks.length) clicks.at(-1).duration_ms = Math.max(0, Math.round(10 * (now() - since)) / 10);
  }

  function look(point) {
    if (busy || clicks.length >= session.most) return;
    const { width, height, radius } = session.image;
    aim = inside(point.x, point.y);
    close();
    since = now();
    clicks.push({ x: Math.round(100 * aim.x) / 100, y: Math.round(100 * aim.y) / 100, duration_ms: 0 });
    const part = (100 * radius) / (Math.hypot(width, height) / Math.SQRT2); // what circle() counts percents of
    sharp.style.clipPath = `circle(${part}% at ${(100 * aim.x) / width}% ${(100 * aim.y) / height}%)`;
    ring.style.width = (200 * radius) / width + "%";
    place(ring, aim);
    cross.hidden = true;
    count();
  }

  async function finish() {
    if (busy) return;
    if (clicks.length < session.least) return count();
    busy = true;
    close();
    const paused = now();
    try {
      const answer = await fetch(`images/${session.image.number}/clicks`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ clicks }),
      });
      const found = await answer.json();
      if (answer.ok) {
        session = found;
        return show();
      }
      tell(`Not saved: ${found.detail}`, true);
    } catch {
      tell("Not saved: the program doesn't answer. Start it again, then press Next.", true);
    }
    since += now() - paused;
    busy = false;
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary || busy) return;
    const box = stage.getBoundingClientRect();
    look({
      x: ((event.clientX - box.left) / box.width) * session.image.width,
      y: ((event.clientY - box.top) / box.height) * session.image.height,
    });
  });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  stage.addEventListener("keydown", (event) => {
    if (busy) return;
    if (event.key in MOVES) {
      const step = (event.shiftKey ? 0.1 : 0.02) * Math.max(session.image.width, session.image.height);
      const [right, down] = MOVES[event.key];
      aim = inside(aim.x + right * step, aim.y + down * step);
      place(cross, aim);
    } else if (event.key === " " && !event.repeat) look(aim);
    else if (event.key === "Enter" && !event.repeat) finish();
    else return;
    event.preventDefault();
  });
  next.addEventListener("click", finish);
  for (const kind of ["pointerdown", "keydown"]) {
    addEventListener(kind, () => document.body.classList.toggle("pointing", kind === "pointerdown"), true);
  }
  $("start").addEventListener("click", () => {
    $("welcome").hidden = true;
    show();
  });

  fetch("session")
    .then((answer) => answer.json())
    .then((found) => {
      session = found;
      progress();
      if (!session.image) {
        $("welcome").hidden = true;
        return show();
      }
      const open = session.total - session.recorded;
      $("recorded").textContent = session.recorded
        ? `You have seen ${session.recorded} of ${session.total} images; ${open} to go.`
        : `There ${open === 1 ? "is 1 image" : `are ${open} images`}.`;
      if (session.recorded) $("start").textContent = "Go on";
      $("start").disabled = false;
      $("start").focus();
    });
})();
