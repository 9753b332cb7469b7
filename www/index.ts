// Tintype: images from words, on the visitor's own GPU or CPU. Importing this does nothing.

export { TintypeError, type ErrorCode, type Warning, type WarningCode } from "./errors.js";
export { ImageGenerator } from "./generator.js";
export { models } from "./models.js";
export type * from "./types.js";
