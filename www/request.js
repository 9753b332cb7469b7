// One request for a file, or for the rest of one: asked again where that may help, and never taken for what it is not.

/** Between tries, in milliseconds; then it has failed. */
const PAUSES = [250, 1000, 3000];
/** A server that says how long to wait is heard up to this long, in seconds. */
const PATIENCE = 30;

const REFUSALS = [401, 403, 404, 410];

const failed = (code, message) => Object.assign(new Error(message), { code });

/**
 * Resolves to null if there is no such file, else to { url, body, at, length, etag }: a stream that begins at byte `at`
 * of the file, which is `begin`, or 0 if the server knows no ranges. `length` is that of the whole file, if it is known.
 * Rejects with code "access" where the server wants to know who asks, and "network" for all else.
 */
export async function request(url, { begin = 0, fresh = false, headers = {} } = {}) {
  for (let tries = 0; ; tries++) {
    const response = await ask(url, begin, fresh, headers).catch((error) => error);
    // A redirect may have expired: the address itself tells where the file is now.
    const expired = response.redirected && REFUSALS.includes(response.status) && tries === 0;
    const again = response instanceof Error || response.status >= 500 || response.status === 429 || expired;
    if (!again) return answer(url, begin, response);
    if (tries === PAUSES.length) {
      const why = response instanceof Error ? response.message : `the server answered ${response.status}`;
      throw failed("network", `could not fetch ${url}: ${why}`);
    }
    const asked = response instanceof Error ? 0 : Number(response.headers.get("retry-after")) || 0;
    const pause = Math.max(PAUSES[tries], Math.min(asked, PATIENCE) * 1000);
    await new Promise((done) => setTimeout(done, pause));
  }
}

function ask(url, begin, fresh, headers) {
  // Weights are too large for the browser's cache of pages, and would push out what is in it.
  const large = url.pathname.endsWith(".safetensors");
  const range = begin > 0 ? { Range: `bytes=${begin}-` } : {};
  return fetch(url, { headers: { ...headers, ...range }, cache: large ? "no-store" : fresh ? "reload" : "default" });
}

function answer(url, begin, response) {
  const { status, headers, body } = response;
  if (status === 404 || status === 410) return null;
  if (status === 401 || status === 403) {
    const hint = "the model may be gated: accept its licence there, and pass an access token in headers";
    throw failed("access", `could not fetch ${url}: the server answered ${status}; ${hint}`);
  }
  if (!response.ok && status !== 416) throw failed("network", `could not fetch ${url}: the server answered ${status}`);
  if (headers.get("content-type")?.startsWith("text/html")) {
    throw failed("access", `could not fetch ${url}: the server answered with a page instead of the file; it may want a login`);
  }
  const etag = headers.get("etag");
  // The length of a compressed answer is not that of the file.
  const counted = !headers.get("content-encoding") && headers.has("content-length");
  const bytes = counted ? Number(headers.get("content-length")) : undefined;
  if (status === 416) return { url, body: new Blob().stream(), at: begin, length: begin, etag };
  if (status !== 206) return { url, body, at: 0, length: bytes, etag };
  // Not every server lets pages of others see this header.
  const [, from, whole] = headers.get("content-range")?.match(/^bytes (\d+)-\d+\/(\d+)$/) ?? [];
  if (from !== undefined && Number(from) !== begin) {
    throw failed("network", `could not fetch ${url}: wanted its bytes from ${begin} on, the server sent those from ${from}`);
  }
  const rest = bytes === undefined ? undefined : begin + bytes;
  return { url, body, at: begin, length: whole ? Number(whole) : rest, etag };
}
