// What `create` is asked for, as the worker takes it: addresses that are whole, everything looked at that can be.

import { TintypeError, describe, invalid } from "./errors.js";
import { SAFETENSORS, gather, isFiles, single } from "./files.js";
import { named } from "./models.js";
import type { HeadersByOrigin } from "./net.js";
import type { Address, BundledModel, Component, CreateOptions, EstimateOptions, LoraSource } from "./types.js";

const HUB = "https://huggingface.co/";
/** A repository of the hub, and perhaps a revision of it. Addresses that begin with a dot or a slash are none. */
const REPO = /^(\w[\w.-]*\/\w[\w.-]*)(?:@(.+))?$/;
const MODEL = 'a name of the list `models`, "organisation/name", the URL of a folder or of a .safetensors file, or files';
/** Files that Python's pickle writes. */
const PICKLE = /\.(?:ckpt|pt|pth|bin|pkl)$/i;
/** Networks beside the model's own, by the option that names their folders, or files of all but the last. */
const ADDITIONS = ["controls", "adapters", "ipAdapter", "safetyChecker"] as const;
/** Of these there is one. */
const SINGLE: readonly string[] = ["ipAdapter", "safetyChecker"];
/** Files that change the model, by the option that names them. */
const FILES = ["loras", "embeddings", "singleFile"] as const;
const LEVELS = ["silent", "error", "warn", "info", "debug"] as const;

/** Where a repository is: the address of the hub, its name and its revision. */
export interface Repository {
  hub: string;
  repo: string;
  revision: string;
}

/** A file beside the model: the folder that has it, the path in there (none for a folder itself), and how strongly it counts. */
export interface FileBeside {
  base: string;
  path?: string;
  scale?: number;
}

/** What a worker needs to load a model; it can be sent to it. */
export interface Settings extends Record<string, unknown> {
  /** The folder's address; nothing of files that were chosen. */
  base?: string;
  /** The path of a file that stands for the model. */
  single?: string;
  repository?: Repository | null;
  /** Of a named model's files at the revision that is known: SHA-256 by path. */
  hashes?: Readonly<Record<string, string>>;
  files?: Record<string, File> | null;
  bundled?: { url: string; files: BundledModel["files"] } | null;
  headers: HeadersByOrigin;
  cache: boolean;
  offline: boolean;
  components: Partial<Record<Component, string>>;
  wasmUrl?: { base: string; relaxed?: string; tokenizer?: string };
}

/** What a model is called, for people. */
export function nameOf(model: CreateOptions["model"]): string {
  if (typeof model === "string") return model;
  if (model instanceof URL) return model.href;
  return isBundled(model) ? model.name : "files";
}

/** The settings of a load. What is wrong with `options` is thrown. */
export async function settingsOf({ model = "builtin", signal, onProgress, fetch, worker, logLevel, ...rest }: CreateOptions): Promise<Settings> {
  if (fetch !== undefined && typeof fetch !== "function") throw invalid(`fetch: wanted a function, found ${describe(fetch)}`);
  if (logLevel !== undefined && !LEVELS.includes(logLevel)) throw invalid(`logLevel: wanted ${LEVELS.join(", ")}, found ${describe(logLevel)}`);
  const { wasmUrl, ...place } = await placeOf({ model, wasmUrl: rest.wasmUrl, ...rest });
  const beside = [...ADDITIONS.map((key) => [key, places(key, rest[key])]), ...FILES.map((key) => [key, files(key, rest[key])])];
  const { hub, baseUrl, ...others } = rest;
  return {
    ...others,
    ...place,
    ...Object.fromEntries(beside),
    wasmUrl,
    headers: headersOf(rest),
    components: components(rest.components),
    cache: flag("cache", rest.cache, isRepository(model) && place.single === undefined) && isPlain(rest) && !place.files && !place.bundled,
    offline: flag("offline", rest.offline, false),
  };
}

/** Where a model is, and the module. */
export async function placeOf(options: EstimateOptions): Promise<Pick<Settings, "base" | "single" | "repository" | "hashes" | "files" | "bundled" | "wasmUrl">> {
  const known = named(options.model);
  const model = known?.repo ?? options.model ?? "builtin";
  const wasmUrl = moduleOf(options.wasmUrl);
  // A drop can be read only now, before anything is waited for.
  if (isFiles(model) && !isBundled(model)) {
    const files = await gather(model);
    const alone = single(files);
    if (alone === undefined && !("model_index.json" in files)) for (const path of Object.keys(files)) refusePickle("model", path);
    return { files, single: alone, wasmUrl };
  }
  // A module of its own, so that a page that uses other models does not fetch it.
  const bundled = model === "builtin" ? (await import("./builtin.js")).default : model;
  if (isBundled(bundled)) {
    // Next.js makes a URL without an origin of `new URL(..., import.meta.url)`.
    const url = addressOf("model", bundled.url.href).href;
    return { base: url, bundled: { url, files: bundled.files }, wasmUrl };
  }
  const file = fileAt(model);
  if (file) return { ...file, wasmUrl };
  const [, repo, pinned] = typeof model === "string" ? (REPO.exec(model) ?? []) : [];
  if (!repo) return { base: folder("model", model, MODEL).href, wasmUrl };
  if (options.baseUrl !== undefined) return { base: new URL(`${repo}/`, folder("baseUrl", options.baseUrl, "a URL")).href, wasmUrl };
  const hub = folder("hub", options.hub ?? HUB, "a URL");
  const revision = String(options.revision ?? pinned ?? known?.revision ?? "main");
  const base = new URL(`${repo}/resolve/${encodeURIComponent(revision)}/`, hub).href;
  const hashes = revision === known?.revision ? known.sha256 : undefined;
  return { base, repository: { hub: hub.href, repo, revision }, hashes, wasmUrl };
}

/** A model that is one file, as an address says it. */
function fileAt(model: unknown): { base: string; single: string } | null {
  const path = model instanceof URL ? model.pathname : typeof model === "string" ? model.replace(/[?#].*/, "") : "";
  if (!SAFETENSORS.test(path) && !PICKLE.test(path)) return null;
  const { base, path: single } = file("model", model, MODEL);
  return { base, single };
}

/** A pickle can run code when it is opened: none is fetched. */
function refusePickle(key: string, path: string): void {
  if (!PICKLE.test(path)) return;
  const convert = "in Python: weights = torch.load(path, weights_only=True), then safetensors.torch.save_file(weights.get('state_dict', weights), new_path)";
  throw new TintypeError("unsupported", `${key}: ${path.split("/").at(-1)} is a pickle file, which can run code when it is opened, wanted a .safetensors file: convert it (${convert})`);
}

/** The URL that an option names; relative ones belong to the page. */
export function addressOf(key: string, value: unknown, wanted = "a URL"): URL {
  try {
    // Anything becomes a text, which is a relative URL.
    if (!(value instanceof URL || typeof value === "string")) throw new TypeError();
    return new URL(value, globalThis.location?.href);
  } catch {
    throw invalid(`${key}: wanted ${wanted}, found ${describe(value)}`);
  }
}

export const isBundled = (model: unknown): model is BundledModel =>
  typeof model === "object" && model !== null && "files" in model && "url" in model && model.url instanceof URL;

const isRepository = (model: unknown) => typeof model === "string" && (named(model) !== undefined || REPO.test(model));

/** Whether a model is loaded as it is: what is merged or put together is not kept. */
const isPlain = ({ loras, singleFile, components }: CreateOptions) =>
  [loras, singleFile].every((files) => [files ?? []].flat().length === 0) && Object.keys(components ?? {}).length === 0;

function moduleOf(value: EstimateOptions["wasmUrl"]): Settings["wasmUrl"] {
  if (value === undefined) return undefined;
  const { base, ...others } = typeof value === "string" || value instanceof URL ? { base: value } : Object(value);
  const each = (key: string, address: unknown) => addressOf(key, address, "the URL of a .wasm file").href;
  const given = Object.entries(others).filter(([, address]) => address !== undefined);
  return { base: each("wasmUrl", base), ...Object.fromEntries(given.map(([key, address]) => [key, each(`wasmUrl.${key}`, address)])) };
}

function flag(key: string, value: unknown, otherwise: boolean): boolean {
  if (value === undefined) return otherwise;
  if (typeof value !== "boolean") throw invalid(`${key}: wanted true or false, found ${describe(value)}`);
  return value;
}

/**
 * Headers as objects, which can be sent to the worker, by the origins that get them. What is said without an origin is the
 * hub's: a model may come from an address that an attribute or a link has named.
 */
export function headersOf({ headers = {}, hub }: Pick<EstimateOptions, "headers" | "hub">): HeadersByOrigin {
  const read = (key: string, value: unknown): Record<string, string> => {
    try {
      return Object.fromEntries(new Headers(value as HeadersInit));
    } catch (error) {
      throw invalid(`${key}: wanted names and values, found ${describe(value)} (${(error as Error).message})`);
    }
  };
  const byOrigin = (one: [string, unknown]) => /^[a-z][\w+.-]*:\/\//i.test(one[0]);
  const entries = headers instanceof Headers || Array.isArray(headers) ? [] : Object.entries(Object(headers));
  const nested = entries.find((one) => typeof one[1] === "object" && !byOrigin(one));
  if (nested) throw invalid(`headers: wanted an origin, such as https://example.org, found ${nested[0]}`);
  if (!entries.some(byOrigin)) return { [folder("hub", hub ?? HUB, "a URL").origin]: read("headers", headers) };
  const stray = entries.find((one) => !byOrigin(one));
  if (stray) throw invalid(`headers: wanted origins, or names and values, found both, such as ${stray[0]}`);
  return Object.fromEntries(entries.map(([address, value]) => {
    const { origin, href } = addressOf("headers", address, "an origin");
    if (origin === "null" || href !== `${origin}/`) throw invalid(`headers: wanted an origin, such as https://example.org, found ${address}`);
    return [origin, read(`headers of ${origin}`, value)];
  }));
}

/** The URL of a folder, which ends with a slash. */
function folder(key: string, value: unknown, wanted = "the URL of a folder"): URL {
  const url = addressOf(key, value, wanted);
  refusePickle(key, url.pathname);
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}

/** The folders and files of an option that takes one address or a list of them. */
function places(key: string, value: Address | Address[] | undefined): FileBeside[] {
  const all = [value ?? []].flat().map((address) => {
    const isFile = key !== "safetyChecker" && SAFETENSORS.test(addressOf(key, address, "the URL of a folder or a file").pathname);
    return isFile ? file(key, address) : { base: folder(key, address).href };
  });
  if (SINGLE.includes(key) && all.length > 1) throw invalid(`${key}: wanted one, found ${all.length}`);
  return all;
}

/** The folders of components, by name. */
function components(value: CreateOptions["components"] = {}): Settings["components"] {
  return Object.fromEntries(Object.entries(value).map(([name, address]) => [name, folder(`components.${name}`, address).href]));
}

/** The files of an option that takes an address, an object with a `source`, or a list of them. */
function files(key: string, value: LoraSource | LoraSource[] | undefined): FileBeside[] {
  return [value ?? []].flat().map((one) => {
    const { source, ...rest } = typeof one === "string" || one instanceof URL ? { source: one } : Object(one);
    return { ...rest, ...file(key, source) };
  });
}

function file(key: string, source: unknown, wanted = "the URL of a file"): FileBeside & { path: string } {
  const url = addressOf(key, source, wanted);
  refusePickle(key, url.pathname);
  const base = new URL(".", url).href;
  return { base, path: url.href.slice(base.length) };
}
