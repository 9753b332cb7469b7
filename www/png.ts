// Text chunks of PNGs: https://www.w3.org/TR/png-3/#11iTXt

/** A PNG with texts after its header: { keyword: text }, keywords of 1 to 79 Latin letters. */
export function withTexts(png: Uint8Array<ArrayBuffer>, texts: Record<string, string>): Blob {
  // The signature, and the header with its 13 bytes, which comes first.
  const header = 8 + 12 + 13;
  const chunks = Object.entries(texts).map(([keyword, text]) => textChunk(keyword, text));
  return new Blob([png.subarray(0, header), ...chunks, png.subarray(header)], { type: "image/png" });
}

/** An international text, not compressed, of no language: keyword, four zeros and an empty translation, UTF-8. */
function textChunk(keyword: string, text: string): Uint8Array<ArrayBuffer> {
  const data = new TextEncoder().encode(`iTXt${keyword}\0\0\0\0\0${text}`);
  const chunk = new Uint8Array(data.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, data.length - 4);
  chunk.set(data, 4);
  view.setUint32(data.length + 4, crc32(data));
  return chunk;
}

/** As zlib counts it, bit by bit: a few hundred bytes at a time. */
function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
