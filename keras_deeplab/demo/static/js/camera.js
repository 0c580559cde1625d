// The device's camera: one stream at a time, its frames asked for one by one.

let stream = null;

/** Opens the camera that looks "environment" (away) or "user" (at whoever holds it); rejects with a message. */
export async function openCamera(video, facing) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("Browsers open the camera only for pages from https:// or from this machine (http://127.0.0.1).");
  }
  closeCamera(video);
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing }, audio: false });
  } catch (error) {
    throw new Error(
      {
        NotAllowedError: "The camera was not allowed: permit it in the browser's settings for this page.",
        NotFoundError: "This device has no camera that the browser finds.",
        NotReadableError: "The camera is in use by another program.",
      }[error.name] ?? `The camera could not be opened: ${error.message}`,
    );
  }
  video.srcObject = stream;
  await video.play();
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind }) => kind === "videoinput").length;
}

export function closeCamera(video) {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  video.srcObject = null;
}

export function cameraIsOpen() {
  return stream !== null && stream.active;
}
