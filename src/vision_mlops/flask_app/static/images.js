// From a file to what is shown and what is sent: upright, and not larger than the endpoint takes.
const PREVIEW = 1024, THUMBNAIL = 96, LARGEST = 4096;

/** Edge lengths, bytes and pictures of a file. Its `url` and `thumbnail` are empty where the browser cannot decode it. */
export async function prepare(file, limits) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    if (file.size > limits.upload) throw new Error(`The file has ${megabytes(file.size)} and cannot be scaled down here: choose one of at most ${megabytes(limits.upload)}.`);
    return { blob: file, width: 1, height: 1, url: "", thumbnail: "", scaled: null }; // the server may know the format
  }
  try {
    const { width, height } = bitmap;
    const fits = file.size <= limits.bytes && width * height <= limits.pixels;
    const sent = fits ? { blob: file, scaled: null } : await scaledDown(bitmap, limits);
    const shown = draw(bitmap, Math.min(1, PREVIEW / Math.max(width, height)));
    const url = URL.createObjectURL(await encode(shown, 0.9));
    const thumbnail = draw(bitmap, Math.min(1, THUMBNAIL / Math.min(width, height)), THUMBNAIL).toDataURL("image/jpeg", 0.75);
    return { ...sent, width, height, url, thumbnail };
  } finally {
    bitmap.close();
  }
}

async function scaledDown(bitmap, limits) {
  const { width, height } = bitmap;
  let scale = Math.min(1, LARGEST / Math.max(width, height), Math.sqrt(limits.pixels / (width * height)));
  for (; scale * Math.min(width, height) >= 16; scale *= 0.75) {
    const canvas = draw(bitmap, scale);
    const blob = await encode(canvas, 0.9);
    if (blob.size <= limits.bytes) return { blob, scaled: [canvas.width, canvas.height] };
  }
  throw new Error("The image cannot be scaled down to what the endpoint accepts.");
}

/** The bitmap on a canvas, on white, as JPEG has no transparency; with an edge, its centred square. */
function draw(bitmap, scale, edge = 0) {
  const width = Math.max(1, Math.round(bitmap.width * scale)), height = Math.max(1, Math.round(bitmap.height * scale));
  const canvas = document.createElement("canvas");
  canvas.width = edge ? Math.min(edge, width) : width;
  canvas.height = edge ? Math.min(edge, height) : height;
  const context = canvas.getContext("2d");
  if (!context) throw new Error("The image is too large for this browser.");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  return canvas;
}

function encode(canvas, quality) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The image is too large for this browser."))), "image/jpeg", quality);
  });
}

export function megabytes(bytes) {
  return bytes < 1e5 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 2 ** 20).toFixed(1)} MB`;
}
