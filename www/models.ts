// Models by name, those with open licences first. Sizes are those of the files that are fetched, in bytes, rounded. A
// revision stands here only where it is known to have these files; for the others the hub tells the commit.

import type { NamedModel } from "./types.js";

/** Those that `create` takes by their names. None of them is taken unless it is named. `commercial` false: not to be used for money without asking those who made it. `size` is a side in pixels. */
export const models: readonly NamedModel[] = [
  { name: "sdxs", repo: "IDKiro/sdxs-512-dreamshaper", license: "openrail++", commercial: true, bytes: 1_760_000_000, steps: 1, guidance: 1, size: 512 },
  { name: "lcm-dreamshaper", repo: "SimianLuo/LCM_Dreamshaper_v7", license: "mit", commercial: true, bytes: 4_270_000_000, steps: 4, guidance: 8, size: 512 },
  { name: "bk-sdm-tiny", repo: "nota-ai/bk-sdm-tiny", license: "creativeml-openrail-m", commercial: true, bytes: 1_060_000_000, steps: 25, guidance: 7.5, size: 512 },
  { name: "bk-sdm-small", repo: "nota-ai/bk-sdm-small", license: "creativeml-openrail-m", commercial: true, bytes: 1_380_000_000, steps: 25, guidance: 7.5, size: 512 },
  { name: "sd-turbo", repo: "stabilityai/sd-turbo", license: "stabilityai-community", commercial: false, bytes: 2_580_000_000, steps: 1, guidance: 1, size: 512 },
  { name: "sdxl-turbo", repo: "stabilityai/sdxl-turbo", license: "sai-nc-community", commercial: false, bytes: 6_950_000_000, steps: 1, guidance: 1, size: 512 },
].map((model) => Object.freeze(model));

/** The repository of a named model; what is no name is left as it is. */
export const repositoryOf = <Model>(model: Model): Model | string => models.find(({ name }) => name === model)?.repo ?? model;
