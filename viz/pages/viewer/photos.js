// From photo to photo: where each camera stood, and whether the viewer stands there now.
"use strict";
const photos = (function () {
  const order = (data) => data.cameras.map((camera) => camera.index);
  const camera = (data, index) => data.cameras.find((one) => one.index === index);
  // The next or the last before it, round and round; the first of all where none is seen yet.
  const beside = (data, index, step) => {
    const all = order(data), at = all.indexOf(index);
    if (at < 0) return step > 0 ? all[0] : all[all.length - 1];
    return all[(at + step + all.length) % all.length];
  };
  // A photo fits the model from its own place only.
  const standing = (data, state) => {
    const off = vectors.subtract(viewpoint.eye(state.view), camera(data, state.photo).eye);
    return vectors.length(off) < 0.01;
  };
  // The page shows each photo once: that picture is what lies over the model.
  const picture = async (index) => {
    const shown = document.querySelector(`img[data-photo="${index}"]`);
    if (!shown) return null;
    const image = new Image();
    image.src = shown.src;
    await image.decode();
    return image;
  };
  return { order, camera, beside, standing, picture };
})();
