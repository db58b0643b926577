// The camera: single pictures of it, or one after the other.

const CAMERA_FAULTS = {
  NotAllowedError: "The camera was refused. Allow it for this address in the browser, or choose pictures.",
  NotFoundError: "The browser finds no camera. Choose pictures instead.",
  NotReadableError: "Another program uses the camera. Close it, or choose pictures.",
};

async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    note("The browser gives no camera to a page over plain HTTP: open it as http://127.0.0.1 on the server's machine, or over HTTPS.");
    return;
  }
  let stream;
  // A second request would open a second camera, which nobody could close.
  element("camera").disabled = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    note(CAMERA_FAULTS[error.name] ?? `The camera cannot be used: ${error.message}`);
    return;
  } finally {
    element("camera").disabled = false;
  }
  state.stream = stream;
  // Somebody pulls the plug, or takes the permission back.
  for (const track of stream.getTracks()) track.addEventListener("ended", closeCamera);
  element("video").srcObject = stream;
  await element("video").play();
  note("Take a picture, or watch: then one picture after the other is sent.");
  showCameraButtons();
  look(null);
  say("The camera is on.");
}

function closeCamera() {
  stopWatching();
  for (const track of state.stream?.getTracks() ?? []) track.stop();
  state.stream = null;
  element("video").srcObject = null;
  note("");
  showCameraButtons();
  look(state.current);
  if (state.current === null) say("No picture was chosen yet.");
}

function showCameraButtons() {
  const isOn = state.stream !== null;
  element("camera").textContent = isOn ? "Close the camera" : "Use the camera";
  element("take").hidden = element("watch").hidden = !isOn;
  element("watch").setAttribute("aria-pressed", String(state.isWatching));
  element("watch").textContent = state.isWatching ? "Stop watching" : "Watch";
}

async function takeFrame() {
  const video = element("video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

async function takePicture() {
  stopWatching();
  const picture = makePicture(await takeFrame(), `camera-${new Date().toISOString().slice(11, 19).replaceAll(":", "")}.jpg`);
  keep([picture]);
  look(picture);
  work();
}

async function watch() {
  // Whoever stops and begins again while a picture is on its way has begun another turn.
  const turn = ++state.turn;
  const isOver = () => !state.isWatching || state.turn !== turn;
  state.isWatching = true;
  showCameraButtons();
  let last = null;
  while (!isOver()) {
    const frame = await takeFrame();
    if (isOver()) break;
    const picture = makePicture(frame, "camera.jpg");
    try {
      await detect(picture);
    } catch (error) {
      if (!(error instanceof Unauthorised)) throw error;
      askForToken();
      stopWatching();
    }
    if (state.turn !== turn || (!state.isWatching && picture.error === null)) {
      URL.revokeObjectURL(picture.url);
      break;
    }
    // A frame is shown together with its own boxes.
    look(picture);
    if (last) URL.revokeObjectURL(last.url);
    last = picture;
    if (picture.error !== null) stopWatching();
  }
}

function stopWatching() {
  state.isWatching = false;
  showCameraButtons();
}
