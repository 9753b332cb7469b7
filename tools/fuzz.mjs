// `npm run fuzz`: hostile files, other ones every time, for as long as it is told to. Numbers that do not fit show: the
// tests are built with checks of every sum and product. Prints how many cases each target had; exit 1 on a finding,
// whose files are then in target/fuzz/findings.
//
//   npm run fuzz                                one minute, all targets in turn
//   npm run fuzz -- --minutes 10 lora network   some targets (tests/fuzz/targets.rs)
//   npm run fuzz -- --case network:513          one case again

import { UserError, main, run } from "./shell.mjs";

main(async () => {
  const args = process.argv.slice(2);
  const option = (name) => {
    const at = args.indexOf(name);
    if (at < 0) return undefined;
    const [, value] = args.splice(at, 2);
    if (!value || value.startsWith("--")) throw new UserError(`${name}: wanted a value.`);
    return value;
  };
  const [minutes, one] = [option("--minutes") ?? "1", option("--case")];
  if (!(Number(minutes) > 0)) throw new UserError(`--minutes: wanted a number above 0, found "${minutes}".`);
  const unknown = args.find((arg) => arg.startsWith("--"));
  if (unknown) throw new UserError(`${unknown}: wanted --minutes, --case or the names of targets.`);
  const test = ["test", "-q", "--locked", "--profile", "fuzz", "--test", "fuzz", "by_time", "--", "--ignored", "--nocapture"];
  const env = { FUZZ_MINUTES: minutes, FUZZ_TARGETS: args.join(" "), ...(one && { FUZZ_CASE: one }) };
  const { code } = await run("cargo", test, { env, show: true });
  if (code !== 0) process.exitCode = 1;
});
