// Running other programs, and saying what happens: one line a thing.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The repository. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url));

export const say = (line) => console.log(line);

/** A mistake that the user can mend: its message is printed alone, without a stack. */
export class UserError extends Error {}

/**
 * Runs a program and resolves to { code, output }, with stdout and stderr together in `output`.
 * `show` prints it as it comes; `limit` is in seconds, after which the program is stopped and code is null.
 */
export function run(program, args, { env = {}, cwd = ROOT, show = false, limit = 0 } = {}) {
  return new Promise((resolve) => {
    // With a limit it leads a group of its own, so that what it started ends with it.
    const detached = limit > 0;
    const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"], detached });
    let output = "";
    const take = (chunk) => {
      output += chunk;
      if (show) process.stdout.write(chunk);
    };
    child.stdout.setEncoding("utf8").on("data", take);
    child.stderr.setEncoding("utf8").on("data", take);
    const timer = limit && setTimeout(() => process.kill(-child.pid, "SIGKILL"), limit * 1000);
    const end = (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    };
    child.on("error", (error) => {
      output += `${program}: ${error.message}\n`;
      end(null);
    });
    child.on("close", end);
  });
}

/** Runs a program that must succeed; what it said is shown only when it does not. */
export async function must(what, program, args, options = {}) {
  const { code, output } = await run(program, args, options);
  if (code === 0) return output;
  if (!options.show) process.stdout.write(output);
  throw new UserError(`${what} failed (${program} ended with ${code ?? "a signal"}).`);
}

/** Runs `work` and prints one line with its name, what came of it and how long it took. */
export async function step(name, work, outcome = () => "done") {
  const begin = Date.now();
  process.stdout.write(`${name} ... `);
  try {
    const result = await work();
    say(`${outcome(result)} (${seconds(begin)})`);
    return result;
  } catch (error) {
    say(`failed (${seconds(begin)})`);
    throw error;
  }
}

export const seconds = (begin) => `${((Date.now() - begin) / 1000).toFixed(1)} s`;

/** Runs a script's main function: exit 1 with a sentence for a UserError, with a stack for others. */
export function main(work) {
  work().catch((error) => {
    console.error(error instanceof UserError ? error.message : error);
    process.exitCode = 1;
  });
}
