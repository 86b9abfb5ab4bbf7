// node client.mjs URL FILE: posts the file with fetch: as bytes, in a form under a foreign name, and as a stream.
import { openAsBlob } from "node:fs";

const [url, file] = process.argv.slice(2);
const image = await openAsBlob(file, { type: "image/png" });
const form = new FormData();
form.append("top_k", "1");
form.append("image", image, "Prüfling 中.png");
const headers = { "Content-Type": "image/png" };
for (const options of [{ body: image }, { body: form }, { body: image.stream(), duplex: "half", headers }]) {
  const response = await fetch(`${url}/score?top_k=1`, { method: "POST", signal: AbortSignal.timeout(10000), ...options });
  console.log(response.status, await response.text());
}
