// Models by name, those with open licences first. Sizes are those of the files that are fetched, in bytes, rounded. The
// commits are those that public code pins, and the hashes those that several of its manifests have for the same files:
// nobody of this project has fetched them yet. What has no hash here has that of the hub's list of the commit.

import type { NamedModel } from "./types.js";

const known: NamedModel[] = [
  { name: "sdxs", repo: "IDKiro/sdxs-512-dreamshaper", license: "openrail++", commercial: true, bytes: 1_760_000_000, steps: 1, guidance: 1, size: 512, revision: "76f720262bb051da75666b22c902a78c8e16c763" },
  { name: "lcm-dreamshaper", repo: "SimianLuo/LCM_Dreamshaper_v7", license: "mit", commercial: true, bytes: 4_270_000_000, steps: 4, guidance: 8, size: 512, revision: "a85df6a8bd976cdd08b4fd8f3b73f229c9e54df5" },
  { name: "bk-sdm-tiny", repo: "nota-ai/bk-sdm-tiny", license: "creativeml-openrail-m", commercial: true, bytes: 1_060_000_000, steps: 25, guidance: 7.5, size: 512, revision: "0364108e53b7f7f4d2585e817a0b7a83dc261cfa" },
  { name: "bk-sdm-small", repo: "nota-ai/bk-sdm-small", license: "creativeml-openrail-m", commercial: true, bytes: 1_380_000_000, steps: 25, guidance: 7.5, size: 512, revision: "572238db7ed3a10858900803f3fc8cca53e893e0" },
  {
    name: "sd-turbo", repo: "stabilityai/sd-turbo", license: "stabilityai-community", commercial: false, bytes: 2_580_000_000, steps: 1, guidance: 1, size: 512,
    revision: "b261bac6fd2cf515557d5d0707481eafa0485ec2",
    sha256: {
      "text_encoder/model.fp16.safetensors": "bc1827c465450322616f06dea41596eac7d493f4e95904dcb51f0fc745c4e13f",
      "unet/diffusion_pytorch_model.fp16.safetensors": "40ec400881e27d1376c7c95c5bd495f407b33756e80eb6365e301c33a07af6e5",
      "vae/diffusion_pytorch_model.fp16.safetensors": "3e4c08995484ee61270175e9e7a072b66a6e4eeb5f0c266667fe1f45b90daf9a",
    },
  },
  {
    name: "sdxl-turbo", repo: "stabilityai/sdxl-turbo", license: "sai-nc-community", commercial: false, bytes: 6_950_000_000, steps: 1, guidance: 1, size: 512,
    revision: "71153311d3dbb46851df1931d3ca6e939de83304",
    sha256: {
      "text_encoder/model.fp16.safetensors": "660c6f5b1abae9dc498ac2d21e1347d2abdb0cf6c0c0c8576cd796491d9a6cdd",
      "text_encoder_2/model.fp16.safetensors": "ec310df2af79c318e24d20511b601a591ca8cd4f1fce1d8dff822a356bcdb1f4",
      "unet/diffusion_pytorch_model.fp16.safetensors": "48fa46161a745f48d4054df3fe13804ee255486bca893403b60373c188fd1bdb",
    },
  },
];

/** Models that `create` takes by name. None of them is taken unless it is named. `commercial` false: not to be used for money without asking those who made it. `size` is a side in pixels. */
export const models: readonly NamedModel[] = known.map((model) => Object.freeze(model));

/** The entry of a name. */
export const named = (model: unknown): NamedModel | undefined => models.find(({ name }) => name === model);
