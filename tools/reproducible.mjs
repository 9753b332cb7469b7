// `npm run test:reproducible`: does the package come out the same, byte for byte, wherever it is built? Brings dist/ up to
// date, builds it a second time from a copy of the tree in another folder, from nothing, and compares all files that are
// published. Takes as long as two builds; it is no part of `npm test`.
//
//   npm run test:reproducible

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DIST, build } from "./build.mjs";
import { UserError, ROOT, main, must, say, step } from "./shell.mjs";

/** What is there already: it makes the package, and is no part of it. */
const TOOLS = ["node_modules", "target/tools"];

main(async () => {
  await build();
  // Of another length than the repository's, too.
  const other = mkdtempSync(join(realpathSync(tmpdir()), "tintype-built-elsewhere-"));
  try {
    copyTo(other);
    const env = { CARGO_TARGET_DIR: join(other, "target") };
    await step("the second build", () => must("The second build", process.execPath, ["tools/build.mjs"], { cwd: other, env }));
    const faults = differences(DIST, join(other, "dist"));
    if (faults.length > 0) throw new UserError(`Two builds differ:\n${faults.join("\n")}`);
    say(`${filesOf(DIST).length} files are the same.`);
  } finally {
    rmSync(other, { recursive: true });
  }
});

/** What git would commit, and the tools. */
function copyTo(folder) {
  const list = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" });
  for (const file of list.split("\0").filter((file) => file && existsSync(join(ROOT, file)))) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    cpSync(join(ROOT, file), join(folder, file));
  }
  mkdirSync(join(folder, "target"));
  for (const tool of TOOLS.filter((tool) => existsSync(join(ROOT, tool)))) symlinkSync(join(ROOT, tool), join(folder, tool));
}

function differences(one, other) {
  const [here, there] = [one, other].map(filesOf);
  const lone = [...here.filter((file) => !there.includes(file)), ...there.filter((file) => !here.includes(file))];
  const unequal = here.filter((file) => there.includes(file) && !readFileSync(join(one, file)).equals(readFileSync(join(other, file))));
  return [...lone.map((file) => `${file} is in one of them`), ...unequal.map((file) => `${file} differs`)];
}

/** The stamps of builds are not published. */
const filesOf = (folder) => readdirSync(folder, { recursive: true }).filter((file) => statSync(join(folder, file)).isFile() && !/inputs$/.test(file)).sort();
