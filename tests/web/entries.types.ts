// What callers of tintype/element and tintype/ai-sdk write, as TypeScript sees it. Compiled, never run.

import type { ImageModelV4 } from "@ai-sdk/provider";
import { generateImage } from "ai";
import { tintype, type TintypeProviderOptions } from "../../dist/ai-sdk.js";
import { TintypeImage } from "../../dist/element.js";
import { ImageGenerator } from "../../dist/index.js";

tintype() satisfies ImageModelV4;
tintype({ model: "sd-turbo", weights: "q8" }) satisfies ImageModelV4;
tintype(ImageGenerator.create()) satisfies ImageModelV4;
// @ts-expect-error: not how weights are stored
tintype({ weights: "q3" });

const options = { steps: 2, negativePrompt: "fog" } satisfies TintypeProviderOptions;
const { image } = await generateImage({ model: tintype(), prompt: "a boat", providerOptions: { tintype: options } });
image.uint8Array satisfies Uint8Array;
// @ts-expect-error: the SDK has a word of its own for it
({ seed: 5 }) satisfies TintypeProviderOptions;

const element = document.createElement("tintype-image");
element satisfies TintypeImage;
element.seed = null;
element.generator = ImageGenerator.create();
element.addEventListener("load", ({ detail }) => detail.seed.toFixed());
element.addEventListener("error", ({ detail }) => detail.code satisfies string);
element.addEventListener("progress", ({ detail }) => detail.fraction.toFixed());
element.addEventListener("click", ({ clientX }) => clientX.toFixed());
document.querySelector("tintype-image")?.redraw();
// @ts-expect-error: a number
element.steps = "2";
