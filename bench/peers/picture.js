// The image's one step with single networks, as picture.py's graph has it: from tokens to the decoder's output.

/** The networks, in their order. */
export const PARTS = ["text_encoder", "unet", "vae"];

/** SD-Turbo's one step: where it begins, and what its latents are stored in times of. */
const TIMESTEP = 999;
const SIGMA = 14.614641;
const SCALING = 0.18215;

/** The decoder's output for "input_ids" and "sample", which is noise as strong as sigma. */
export async function draw([text, unet, vae], inputs) {
  const [ids, sample] = ["input_ids", "sample"].map((wanted) => inputs.find(({ name }) => name === wanted));
  const states = await text.run([ids]);
  const epsilon = await unet.run([
    { ...sample, values: sample.values.map((x) => x / Math.hypot(SIGMA, 1)) },
    { name: "timestep", shape: [1], values: [TIMESTEP] },
    { name: "encoder_hidden_states", shape: [...ids.shape, states.length / ids.values.length], values: states },
  ]);
  const z = sample.values.map((x, at) => (x - SIGMA * epsilon[at]) / SCALING);
  return vae.run([{ ...sample, name: "z", values: z }]);
}
