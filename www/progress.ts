// News of a service, as `onProgress` gets them: the share of the whole call never goes back.

import { bitmapOf } from "./picture.js";
import type { Listener } from "./remote.js";
import type { Progress } from "./types.js";

/** Tells a caller of one call. */
export class Reporter {
  #tell: ((progress: Progress) => void) | null;
  #fraction = 0;

  constructor(onProgress: ((progress: Progress) => void) | undefined) {
    this.#tell = onProgress ?? null;
  }

  readonly listen: Listener = (news) => {
    if (!this.#tell) return;
    if ("preview" in news) return void this.#preview(news);
    const { stage, a, b } = news;
    const fraction = (this.#fraction = Math.min(1, Math.max(this.#fraction, news.fraction)));
    if (stage === "download" || stage === "verify") this.#report({ stage, fraction, loaded: a, total: b });
    else if (stage === "step") this.#report({ stage, fraction, step: a, steps: b });
    else this.#report({ stage: stage as "compile", fraction });
  };

  /** The call has ended: nothing more is told. */
  end(): void {
    this.#tell = null;
  }

  async #preview({ preview, step, steps }: Extract<Parameters<Listener>[0], { preview: unknown }>): Promise<void> {
    const image = await bitmapOf(preview);
    if (this.#tell) this.#report({ stage: "step", fraction: this.#fraction, step, steps, preview: image });
    else image.close();
  }

  /** A caller's mistake is reported as one, and does not break the work. */
  #report(progress: Progress): void {
    try {
      this.#tell?.(progress);
    } catch (error) {
      reportError(error);
    }
  }
}

/** News of a part of a call, which begins at a share of it and takes another one. */
export const within =
  (listen: Listener, begin: number, share: number): Listener =>
  (news) =>
    listen("preview" in news ? news : { ...news, fraction: begin + share * news.fraction });
