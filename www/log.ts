// What the console is told, where the caller wants it.

const LEVELS = ["silent", "error", "warn", "info", "debug"] as const;

export class Log {
  #most: number;

  constructor(level: (typeof LEVELS)[number] = "silent") {
    this.#most = LEVELS.indexOf(level);
  }

  error(message: string): void {
    if (this.#most >= 1) console.error(`tintype: ${message}`);
  }

  warn(message: string): void {
    if (this.#most >= 2) console.warn(`tintype: ${message}`);
  }

  info(message: string): void {
    if (this.#most >= 3) console.info(`tintype: ${message}`);
  }

  debug(message: string): void {
    if (this.#most >= 4) console.debug(`tintype: ${message}`);
  }
}
