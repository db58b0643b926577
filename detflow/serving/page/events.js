// What a person does, and what the page begins with.

element("file").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
element("threshold").addEventListener("input", () => {
  draw();
  drawStrip();
});
element("save").addEventListener("click", save);
element("camera").addEventListener("click", () => (state.stream === null ? openCamera() : closeCamera()));
element("take").addEventListener("click", takePicture);
element("watch").addEventListener("click", () => (state.isWatching ? stopWatching() : watch()));
element("picture").addEventListener("error", () => {
  element("picture").alt = "This browser cannot show the picture.";
});
new ResizeObserver(placeLabels).observe(element("boxes"));
element("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  state.token = element("token").value.trim();
  element("login").hidden = true;
  try {
    await loadSettings();
    if (state.pictures.length) await work();
    else say("No picture was chosen yet.");
  } catch (error) {
    if (error instanceof Unauthorised) askForToken();
    else say(error.message, true);
  }
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("stage").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) element("stage").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("stage").classList.remove("over");
  add(event.dataTransfer.files);
});

element("command").textContent = `curl -F file=@picture.jpg ${new URL("predict", location.href)}`;
loadSettings().catch((error) => {
  if (error instanceof Unauthorised) askForToken();
  else say(error.message, true);
});
