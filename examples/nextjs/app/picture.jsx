"use client";

// Draws what the form says: shows how much is done, then the picture or what went wrong. document.body.dataset.state is
// "idle", "working", "done" or "failed", and `result` what was drawn: for whoever drives the page.

import { useEffect, useRef, useState } from "react";
// Does nothing on the server, where the component is rendered as well.
import { ImageGenerator } from "tintype";

export default function Picture() {
  const generator = useRef(null);
  const canvas = useRef(null);
  const [label, setLabel] = useState("No picture yet");
  const [fraction, setFraction] = useState(0);
  const [{ word, message }, setState] = useState({ word: "starting" });

  useEffect(() => setState({ word: "idle" }), []);
  useEffect(() => void (document.body.dataset.state = word), [word]);
  useEffect(() => () => void generator.current?.dispose(), []);

  async function draw(event) {
    event.preventDefault();
    const fields = new FormData(event.currentTarget);
    const [prompt, seed] = [fields.get("prompt"), Number(fields.get("seed"))];
    // "gpu" or "cpu", as in ?device=cpu.
    const device = new URLSearchParams(location.search).get("device") ?? "auto";
    const onProgress = ({ fraction }) => setFraction(fraction);
    setState({ word: "working" });
    try {
      // The first time the model is loaded; afterwards the same generator draws every picture.
      generator.current ??= await ImageGenerator.create({ device, onProgress });
      const result = await generator.current.generate(prompt, { seed, onProgress });
      [canvas.current.width, canvas.current.height] = [result.width, result.height];
      canvas.current.getContext("2d").drawImage(result.image, 0, 0);
      setLabel(`${prompt}, seed ${result.seed}`);
      Object.assign(globalThis, { result });
      setState({ word: "done" });
    } catch (reason) {
      setState({ word: "failed", message: reason.message });
    }
  }

  return (
    <>
      <form onSubmit={draw}>
        <label>
          Prompt <input name="prompt" size={40} defaultValue="a red circle on a blue background" />
        </label>
        <label>
          Seed <input name="seed" type="number" min="0" defaultValue="1" />
        </label>
        <button disabled={word === "starting" || word === "working"}>Draw</button>
      </form>
      <progress max="1" value={fraction} aria-label="How much is done" />
      <p role="alert">{message}</p>
      <canvas ref={canvas} width={96} height={96} role="img" aria-label={label} />
    </>
  );
}
