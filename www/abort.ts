// Promises that a signal ends for the one who waits, whatever the work behind them still does.

/** The promise, or the signal's reason as soon as it is aborted. */
export function unlessAborted<Result>(promise: Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort);
    promise.then(resolve, (error) => reject(signal.aborted ? signal.reason : error));
    promise.catch(() => {}).then(() => signal.removeEventListener("abort", abort));
    if (signal.aborted) abort();
  });
}
