// Shares of a call's progress that nobody can know beforehand; of what the module does, src/pipeline/shares.rs has them.

/** Of the load of a bundle: fetching it. */
export const FETCHING = 0.8;
/** Of a call that has to load the model anew: loading. */
export const LOADING = 0.5;
