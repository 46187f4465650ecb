// The scene to turn, measure and cut: what the page's controls do, and when it is drawn.
"use strict";
(function () {
  const figure = document.getElementById("viewer");
  const data = JSON.parse(document.getElementById("scene-data").textContent);
  const canvas = figure.querySelector("canvas"), overlay = figure.querySelector("svg");
  const gl = window.DecompressionStream
    && canvas.getContext("webgl2", { antialias: true, alpha: false });
  if (!gl) return;  // the picture and the sentence below it stay

  const SLOW_MS = 14;  // a frame of 60 a second has 16
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const home = viewpoint.looking(data.view.eye, data.view.target, data.view.fov);
  const state = {
    view: home,
    shown: { mesh: data.mesh.length > 0, cloud: !data.mesh.length && !!data.cloud, cameras: true },
    colour: "photo",
    cut: false, box: cutting.whole(data),
    section: null, depth: 0.5,
    photo: null, blend: 0.5, fade: 0.5,
    measuring: false, start: null, measures: [],
  };
  const solids = { levels: [], cloud: null };
  let painter = makePainter(gl, data);

  const all = (selector) => [...figure.querySelectorAll(selector)];
  const one = (selector) => figure.querySelector(selector);
  const say = (text) => { one("[role=status]").textContent = text; };
  const size = () => [canvas.clientWidth, canvas.clientHeight];

  // Drawing: while something moves perhaps the coarse surface, the fine one when it rests.
  let waiting = false, resting = 0, cost = 0, changed = false;
  const draw = (quick) => {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = size().map((length) => Math.max(1, Math.round(length * ratio)));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const before = performance.now();
    painter.draw(state, width, height, { quick });
    canvas.dataset.level = quick ? "coarse" : "fine";
    if (!quick) {
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));  // waits for the card
      cost = performance.now() - before;
      canvas.dataset.drawMs = cost.toFixed(1);
    }
    measuring.draw(overlay, data, state, ...size());
    placeHandles();
    canvas.dataset.drawn = Number(canvas.dataset.drawn || 0) + 1;
  };
  const rest = () => {
    if (flying()) return;
    draw(false);
    canvas.dataset.rest = "yes";
    if (!changed) return;
    try {
      history.replaceState(null, "", link.written(state));
    } catch {
      // A frame in a notebook has no address of its own.
    }
  };
  const redraw = () => {
    clearTimeout(resting);
    delete canvas.dataset.rest;
    resting = setTimeout(rest, 160);
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(cost > SLOW_MS); });
  };
  const touched = () => {
    changed = true;
    figure.classList.add("used");
    redraw();
  };

  const { animate, fly, turn, move, zoom, flying } = makeMover(state, { size, calm, touched });
  const pick = (place) => picking.at(painter, data, state, ...size(), place);
  const focus = (place) => {
    const target = pick(place);
    if (!target) return fly(home);
    fly({ ...state.view, target, distance: vectors.length(vectors.subtract(viewpoint.eye(state.view), target)) });
  };

  // Photos.
  const lay = async (index) => {
    const picture = painter.holds(index) ? null : await photos.picture(index);
    if (picture) painter.hold(index, picture);
    redraw();
  };
  const visit = (index) => {
    if (index === undefined) return;
    const camera = photos.camera(data, index);
    state.photo = index;
    state.fade = 0;
    lay(index);
    fly(viewpoint.ofCamera(camera), () => animate(400, (share) => { state.fade = share * state.blend; }));
    say(`Photo ${photos.order(data).indexOf(index) + 1} of ${data.cameras.length}: ${camera.name}`);
    refresh();
  };
  let playing = 0;
  const play = (on) => {
    clearInterval(playing);
    playing = on ? setInterval(() => visit(photos.beside(data, state.photo, 1)), 2600) : 0;
    if (on) visit(photos.beside(data, state.photo, 1));
    refresh();
  };

  // Distances.
  const press = (place) => {
    if (!state.measuring) {
      const camera = state.shown.cameras ? picking.camera(data, state.view, ...size(), place) : null;
      if (camera !== null && camera !== state.photo) visit(camera);
      return;
    }
    const found = pick(place);
    if (!found) return say("Nothing is there to measure at.");
    if (state.start) {
      state.measures.push([state.start, found]);
      state.start = null;
      say(`Distance ${measuring.distance(data.frame, state.measures[state.measures.length - 1])}`);
    } else {
      state.start = found;
      say("Now the other end.");
    }
    refresh();
  };
  const measure = (on) => {
    [state.measuring, state.start] = [on, null];
    say(on ? "Choose two points; Enter takes the one in the middle." : "");
    refresh();
  };

  // The box and the sections.
  const AXES = ["across", "high", "deep"];
  const faces = all("[data-face]").map((control) => control.dataset.face.split(",").map(Number));
  const stretch = (face, to) => {
    state.box = cutting.moved(data, state.box, face, to);
    refresh();
  };
  const placeHandles = makeHandles(one(".stage"), faces, state, { size, stretch });
  const boxText = () => {
    const [low, high] = cutting.corners(data, state.box), { radius, unit, level } = data.frame;
    const sides = vectors.scaled(vectors.subtract(state.box[1], state.box[0]), radius);
    const lengths = sides.map((side, axis) => `${measuring.text(side, unit)} ${AXES[axis]}`).join(", ");
    const corners = [...low, ...high].map((value) => value.toFixed(3)).join(" ");
    return level ? `${lengths}. To cut the files: pointmap export SCENE --crop ${corners}` : lengths;
  };

  // What the controls show.
  const mark = (button, on) => button.setAttribute("aria-pressed", String(!!on));
  const refresh = () => {
    all("button[data-show]").forEach((button) => mark(button, state.shown[button.dataset.show]));
    mark(one("[data-do=measure]"), state.measuring);
    mark(one("[data-do=cut]"), state.cut);
    const playButton = one("[data-do=play]");
    if (playButton) {
      playButton.textContent = playing ? "Pause" : "Play";
      one("[data-name]").textContent = state.photo === null ? "" : photos.camera(data, state.photo).name;
      one("[data-fade]").value = 100 * state.blend;
    }
    one("[data-colour]").value = state.colour;
    one("[data-section]").value = state.section || "";
    one("[data-depth]").value = 100 * state.depth;
    one("[data-depth]").disabled = !state.section;
    one(".cut").hidden = !state.cut;
    const [low, high] = data.bounds;
    all("[data-face]").forEach((control, k) => {
      const [axis, side] = faces[k];
      control.value = 100 * (state.box[side][axis] - low[axis]) / (high[axis] - low[axis]);
    });
    one("[data-box]").textContent = state.cut ? boxText() : "";
    const legend = colouring.legend(data, state.colour), shown = one(".colours");
    shown.hidden = !legend;
    if (legend) {
      const [from, bar, to] = shown.children;
      [from.textContent, to.textContent] = legend.ends;
      bar.style.background = legend.gradient;
    }
    one(".measured").hidden = !state.measures.length;
    measuring.list(one(".measured"), data, state, (number) => {
      state.measures.splice(number, 1);
      refresh();
    });
    canvas.classList.toggle("aiming", state.measuring);
    touched();
  };

  const DO = {
    measure: () => measure(!state.measuring),
    cut: () => {
      state.cut = !state.cut;
      if (!state.cut) state.section = null;
      refresh();
    },
    whole: () => { state.box = cutting.whole(data); refresh(); },
    next: () => visit(photos.beside(data, state.photo, 1)),
    last: () => visit(photos.beside(data, state.photo, -1)),
    play: () => play(!playing),
    home: () => { play(false); state.photo = null; fly(home); refresh(); },
    link: async () => {
      rest();
      try {
        await navigator.clipboard.writeText(location.href);
        say("The address of this view is copied.");
      } catch {
        say("The page's address now leads to this view: copy it from the address bar.");
      }
    },
    full: () => (document.fullscreenElement ? document.exitFullscreen() : figure.requestFullscreen()),
  };
  all("[data-do]").forEach((button) => button.addEventListener("click", () => DO[button.dataset.do]()));
  if (!document.fullscreenEnabled) one("[data-do=full]").hidden = true;
  all("button[data-show]").forEach((button) => button.addEventListener("click", () => {
    const part = button.dataset.show;
    state.shown[part] = !state.shown[part];
    // Surface and points lie on each other: one replaces the other.
    if (state.shown[part] && part === "mesh") state.shown.cloud = false;
    if (state.shown[part] && part === "cloud") state.shown.mesh = false;
    refresh();
  }));
  document.querySelectorAll("button[data-camera]").forEach((button) => button.addEventListener("click", () => {
    visit(Number(button.dataset.camera));
    figure.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "center" });
  }));
  one("[data-colour]").addEventListener("change", (event) => { state.colour = event.target.value; refresh(); });
  const fade = one("[data-fade]");
  if (fade) fade.addEventListener("input", () => { state.blend = state.fade = fade.value / 100; touched(); });
  all("[data-face]").forEach((control, k) => control.addEventListener("input", () => {
    const [low, high] = data.bounds, [axis] = faces[k];
    state.cut = true;
    stretch(faces[k], low[axis] + control.value / 100 * (high[axis] - low[axis]));
  }));
  one("[data-section]").addEventListener("change", (event) => {
    state.section = event.target.value || null;
    if (state.section) fly(cutting.view(data, state.section));
    refresh();
  });
  one("[data-depth]").addEventListener("input", (event) => { state.depth = event.target.value / 100; touched(); });

  listen(canvas, {
    turn, move, zoom, press, focus,
    keys: {
      Home: DO.home, m: DO.measure, c: DO.cut, f: DO.full, l: DO.link, " ": DO.play, n: DO.next, p: DO.last,
      Escape: () => measure(false),
    },
  });

  const take = () => {
    link.read(location.hash, data, state);
    if (state.photo !== null) lay(state.photo);
    refresh();
  };
  window.addEventListener("hashchange", take);
  canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault();
    figure.classList.remove("live");
  });
  canvas.addEventListener("webglcontextrestored", () => {
    painter = makePainter(gl, data);
    solids.levels.forEach(painter.addLevel);
    if (solids.cloud) painter.setCloud(solids.cloud);
    figure.classList.add("live");
    refresh();
  });

  const load = async () => {
    for (const part of data.mesh) {
      const solid = await decoding.solid(part);
      solids.levels.push(solid);
      painter.addLevel(solid);
      start();
    }
    if (data.cloud) {
      solids.cloud = await decoding.solid(data.cloud);
      painter.setCloud(solids.cloud);
    }
    start();
    rest();
    figure.dataset.ready = "yes";
  };
  const start = () => {
    if (figure.classList.contains("live")) return redraw();
    figure.classList.add("live");
    new ResizeObserver(() => draw(false)).observe(canvas);  // at once: no frame is shown stretched
    take();
    changed = false;  // the address stays as it is until something is done
    figure.classList.remove("used");
  };
  load();
})();
