// Runs in a worker before anything else: counts the bytes of the GPU's buffers, and when each file's download began.

const gauge = {
  /** The module's memory, once there is one. */
  memory: null,
  /** Bytes of buffers that live, and the most that there were. */
  gpu: 0,
  gpuPeak: 0,
  /** Bytes of weights, by the part of the model that was downloaded when their buffers were made. */
  weights: {},
  /** [part, milliseconds since 1970], in the order in which the downloads of their weights began. */
  begun: [],
  read: () => ({ wasm: gauge.memory?.buffer.byteLength ?? 0, gpu: gauge.gpu, gpuPeak: gauge.gpuPeak, weights: gauge.weights, begun: gauge.begun }),
};
self.gauge = gauge;

const part = () => gauge.begun.at(-1)?.[0] ?? "";

if (self.GPUDevice) {
  const { createBuffer } = GPUDevice.prototype;
  const { destroy } = GPUBuffer.prototype;
  const living = new WeakSet();
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor);
    living.add(buffer);
    gauge.gpu += descriptor.size;
    gauge.gpuPeak = Math.max(gauge.gpuPeak, gauge.gpu);
    if (descriptor.label === "weights") gauge.weights[part()] = (gauge.weights[part()] ?? 0) + descriptor.size;
    return buffer;
  };
  GPUBuffer.prototype.destroy = function () {
    if (living.delete(this)) gauge.gpu -= this.size;
    destroy.call(this);
  };
}

const { fetch } = self;
self.fetch = (...request) => {
  const [, name] = String(request[0]).match(/([^/]+)\/[^/]+\.safetensors$/) ?? [];
  if (name && name !== part()) gauge.begun.push([name, Date.now()]);
  return fetch(...request);
};
