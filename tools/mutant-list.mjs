// The edits of tests/mutants.txt, each of which still fits the code: `npm test` asks for that, since nobody runs all of them
// after every change.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError, ROOT } from "./shell.mjs";

/** The first word of a check: tools/mutants.mjs knows how to run each. */
const CHECKS = ["test", "verify", "swiftshader", "swiftshader-test", "web"];

/** Entries are blocks of `key: value` lines with empty lines between; values are exact text, unquoted. */
export function mutants() {
  const mutants = [];
  let entry = null;
  for (const [at, line] of readFileSync(join(ROOT, "tests/mutants.txt"), "utf8").split("\n").entries()) {
    if (line.startsWith("#")) continue;
    if (line.trim() === "") {
      entry = null;
      continue;
    }
    const [, key, value] = line.match(/^(file|find|replace|check): ?(.*)$/) ?? [];
    if (!key) throw new UserError(`tests/mutants.txt:${at + 1}: wanted file:, find:, replace: or check:, found "${line}".`);
    if (!entry) mutants.push((entry = { line: at + 1 }));
    entry[key] = value;
  }
  for (const mutant of mutants) validate(mutant);
  return mutants;
}

/** The text must stand exactly once in the file, and not in a comment: else the edit proves nothing. */
function validate(mutant) {
  const wrong = (what) => new UserError(`tests/mutants.txt:${mutant.line}: ${what}`);
  for (const key of ["file", "find", "replace", "check"]) if (mutant[key] === undefined) throw wrong(`${key}: is missing.`);
  if (!CHECKS.includes(mutant.check.split(" ")[0])) throw wrong(`check: must begin with ${CHECKS.join(" or ")}.`);
  if (!existsSync(join(ROOT, mutant.file))) throw wrong(`there is no ${mutant.file}.`);
  const text = readFileSync(join(ROOT, mutant.file), "utf8");
  const parts = text.split(mutant.find);
  if (parts.length !== 2) throw wrong(`"${mutant.find}" is ${parts.length - 1} times in ${mutant.file}, wanted once.`);
  if (/\/\/|^\s*#\s/.test(parts[0].slice(parts[0].lastIndexOf("\n") + 1))) throw wrong("the text stands in a comment.");
}
