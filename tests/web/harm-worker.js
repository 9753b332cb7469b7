// Runs in a worker before anything else: loses the GPU or the worker itself, or denies memory, where the page has said so
// through a channel. { stage, fraction } loses the device when such news are on their way, { most } is the largest
// buffer that there is memory for, { crash } throws.

const orders = new BroadcastChannel("harm");
let device = null;
let wanted = null;
let most = Infinity;

orders.onmessage = ({ data }) => {
  if (data.crash) setTimeout(() => { throw new Error("a crash for the test"); });
  if (data.most) most = data.most;
  if (data.stage) wanted = data;
  orders.postMessage("heard");
};

const { postMessage } = self;
self.postMessage = (message, ...rest) => {
  if (wanted && message.news?.stage === wanted.stage && message.news.fraction >= (wanted.fraction ?? 0)) {
    wanted = null;
    device.destroy();
  }
  return postMessage.call(self, message, ...rest);
};

if (self.GPUAdapter) {
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...args) {
    return (device = await requestDevice.apply(this, args));
  };
  // As where there is no memory: the scope around it hears of that, and what is done with the buffer is refused.
  const { createBuffer, pushErrorScope, popErrorScope } = GPUDevice.prototype;
  const scopes = [];
  GPUDevice.prototype.pushErrorScope = function (filter) {
    scopes.push({ filter, denied: false });
    return pushErrorScope.call(this, filter);
  };
  GPUDevice.prototype.popErrorScope = async function () {
    const { denied } = scopes.pop();
    const found = await popErrorScope.call(this);
    return denied ? new GPUOutOfMemoryError("denied for the test") : found;
  };
  GPUDevice.prototype.createBuffer = function (descriptor) {
    if (descriptor.size <= most) return createBuffer.call(this, descriptor);
    const scope = scopes.findLast(({ filter }) => filter === "out-of-memory");
    if (scope) scope.denied = true;
    else this.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error: new GPUOutOfMemoryError("denied for the test") }));
    return createBuffer.call(this, { ...descriptor, size: 16 });
  };
}
