// The public interface: what each entry of the package exports, with types, against interface.txt. A change shows in
// review and belongs in CHANGELOG.md; BLESS=1 accepts it.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import ts from "typescript";
import { ROOT } from "../../tools/shell.mjs";

const LISTING = join(ROOT, "tests/packages/interface.txt");

test("the public interface is the one that is written down", () => {
  const found = listing();
  if (process.env.BLESS) writeFileSync(LISTING, found);
  assert.equal(found, readFileSync(LISTING, "utf8").replaceAll("\r", ""), "BLESS=1 accepts a change of the interface");
});

test("a member that is gone shows", () => {
  const without = listing((text) => text.replace(/^\s*(readonly )?seed\??: number;$/m, ""));
  assert.notEqual(without, readFileSync(LISTING, "utf8"));
});

/** A line for each export of each entry, and one for each of its members. `change` may bend the files. */
function listing(change = (text) => text) {
  const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const entries = Object.entries(exports).filter(([, target]) => target.types);
  const options = { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ESNext, lib: ["lib.esnext.d.ts", "lib.dom.d.ts"], types: ["@webgpu/types"], skipLibCheck: true, strict: true, exactOptionalPropertyTypes: true };
  const host = ts.createCompilerHost(options);
  const { readFile } = host;
  host.readFile = (path) => (path.includes("/dist/") ? change(readFile(path)) : readFile(path));
  const { getSourceFile } = host;
  host.getSourceFile = (path, ...rest) => (path.includes("/dist/") && path.endsWith(".d.ts") ? ts.createSourceFile(path, host.readFile(path), ...rest) : getSourceFile(path, ...rest));
  const program = ts.createProgram(entries.map(([, { types }]) => join(ROOT, types)), options, host);
  const checker = program.getTypeChecker();
  const flags = ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.InTypeAlias | ts.TypeFormatFlags.UseSingleQuotesForStringLiteralType;
  const shown = (type) => checker.typeToString(type, undefined, flags);
  const lines = [];
  for (const [name, { types }] of entries) {
    lines.push(name);
    const module = checker.getSymbolAtLocation(program.getSourceFile(join(ROOT, types)));
    for (const symbol of checker.getExportsOfModule(module).sort(byName)) describe(symbol, lines);
  }
  return `${lines.join("\n")}\n`;

  function describe(symbol, lines) {
    const own = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    const declared = own.flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Interface);
    const type = own.flags & ts.SymbolFlags.Type ? checker.getDeclaredTypeOfSymbol(own) : checker.getTypeOfSymbol(own);
    if (!declared) return lines.push(`  ${symbol.name}: ${shown(type)}`);
    lines.push(`  ${own.flags & ts.SymbolFlags.Class ? "class" : "interface"} ${symbol.name}`);
    if (own.flags & ts.SymbolFlags.Class) {
      const statics = checker.getPropertiesOfType(checker.getTypeOfSymbol(own)).filter(({ name }) => name !== "prototype");
      for (const member of statics.filter(ours).sort(byName)) lines.push(`    static ${line(member)}`);
    }
    for (const member of checker.getPropertiesOfType(type).filter(ours).sort(byName)) lines.push(`    ${line(member)}`);
  }

  function line(member) {
    const optional = member.flags & ts.SymbolFlags.Optional ? "?" : "";
    // Of a symbol the compiler's name has a number of its own.
    const name = member.name.replace(/^__@(\w+)@\d+$/, "[Symbol.$1]");
    return `${name}${optional}: ${shown(checker.getTypeOfSymbol(member))}`;
  }

  /** What the browser's own classes have, such as HTMLElement's, is not listed; nor is what is private. */
  function ours(member) {
    return member.declarations?.some((node) => node.getSourceFile().fileName.includes("/dist/") && !ts.isPrivateIdentifier(node.name ?? node));
  }
}

const byName = (a, b) => (a.name < b.name ? -1 : 1);
